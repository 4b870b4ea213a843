"""The interface of a stream that clients can watch, whichever process produces it."""

from collections.abc import Callable
from typing import Any, Protocol

from gateway.endpoints import Endpoint
from gateway.errors import GatewayError
from gateway.log.base import StreamLog
from gateway.log.snapshot import Snapshot
from gateway.log.views import Format, sse_view
from gateway.streams.frames import Frames, SharedFrames
from gateway.streams.held import HeldStream
from gateway.streams.tickets import Tickets
from gateway.upstream.dialects.completion import Outcome


class Watched(Protocol):
    id: str
    frames: SharedFrames
    snapshot: Snapshot | None
    tickets: Tickets
    asked_at: Endpoint | None  # None: at `/chat` or `/streams`
    opens_to_id: bool  # if it was asked for without a key, its id alone opens it
    head: bytes  # what its surface keeps of the request beside the entries

    @property
    def owner(self) -> str | None:
        """The name of the key that started it."""
        ...

    @property
    def log(self) -> StreamLog: ...

    @property
    def is_whole(self) -> bool:
        """Whether it has ended with a complete answer."""
        ...

    @property
    def has_content(self) -> bool:
        """Whether any content has come."""
        ...

    @property
    def passed_finish(self) -> bool:
        """Whether its chunks have a finish reason that says that the answer is whole."""
        ...

    @property
    def failure(self) -> GatewayError | None:
        """The error with which it ended."""
        ...

    def attach(self, cut: Callable[[], None], *, as_guest: bool = False) -> None:
        """Adds a viewer. `cut` closes the viewer's connection at once. A guest may read the stream but not stop it."""
        ...

    def detach(self, cut: Callable[[], None]) -> None: ...

    def claim(self) -> HeldStream[Any] | None:
        """The stream, for the request that started it, in whose log line its record stands. None for all later ones."""
        ...

    def count_resume(self) -> None: ...

    def outcome(self) -> Outcome:
        """What is known of it beside its entries, once it has ended."""
        ...

    def expect(self) -> None:
        """Waits for the owner. If no viewer comes in time, it is treated as if its last viewer had left."""
        ...

    async def publish(self) -> None:
        """Returns when every process can find it and knows its tickets, or when Redis does not answer."""
        ...

    async def stop(self) -> None:
        """Ends it as stopped. Does nothing if it has ended."""
        ...

    async def delete(self) -> None:
        """Ends it, and forgets it. Raises RedisUnavailable."""
        ...


def shared_frames(stream: Watched, format: Format, reasoning: bool) -> Frames:
    """The frames of a view, which all its viewers share."""
    for known_format, has_reasoning, frames in stream.frames:
        if known_format is format and has_reasoning == reasoning:
            return frames
    frames = Frames(stream.log, sse_view(stream.id, format=format, reasoning=reasoning))
    stream.frames.append((format, reasoning, frames))
    return frames
