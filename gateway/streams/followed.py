"""One stream that another process produces: a copy of its log, and its viewers at this process."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from gateway.endpoints import Endpoint
from gateway.entries import LOST, EndReason, Entry, Kind
from gateway.errors import GatewayError, ProducerLost, RecordingLost, from_failure
from gateway.log.base import StreamLog
from gateway.log.snapshot import Snapshot
from gateway.streams.frames import SharedFrames
from gateway.streams.held import HeldStream
from gateway.streams.tickets import Tickets
from gateway.upstream.dialects.completion import Outcome
from gateway.upstream.dialects.relay import passed_finish

_encode_json = msgspec.json.Encoder().encode
_decode_json = msgspec.json.decode


class Host(Protocol):
    """Who holds streams of other processes, as such a stream sees it."""

    def attach(self, stream: "FollowedStream", cut: Callable[[], None], *, as_guest: bool) -> None: ...

    def detach(self, stream: "FollowedStream", cut: Callable[[], None]) -> None: ...

    async def publish(self, stream: "FollowedStream") -> None: ...

    async def stop(self, stream: "FollowedStream") -> None: ...

    async def delete(self, stream: "FollowedStream") -> None: ...


class FollowedStream:
    """See Watched. `process` is the one that produces it."""

    __slots__ = (
        "_host",
        "asked_at",
        "cuts",
        "frames",
        "head",
        "id",
        "is_attended",
        "is_kept",
        "log",
        "looked_at",
        "missing_since",
        "opens_to_id",
        "owner",
        "process",
        "snapshot",
        "tickets",
        "timer",
    )

    def __init__(
        self,
        stream_id: str,
        log: StreamLog,
        *,
        process: str,
        owner: str | None,
        tickets: Tickets,
        host: Host,
        asked_at: Endpoint | None = None,
        opens_to_id: bool = True,
        head: bytes = b"",
    ) -> None:
        self.id = stream_id
        self.log = log
        self.process = process
        self.owner = owner
        self.tickets = tickets
        self.asked_at = asked_at
        self.opens_to_id = opens_to_id
        self.head = head
        log.grow(len(head))
        self._host = host
        self.frames: SharedFrames = []
        self.snapshot: Snapshot | None = None
        self.cuts: list[Callable[[], None]] = []
        self.is_kept = True  # see StreamMeta
        self.is_attended = False  # a viewer who may stop it is among them
        self.missing_since: float | None = None  # on the loop's clock, since when Redis does not have it
        self.looked_at = 0  # how many entries it had when it was looked at last
        self.timer: asyncio.TimerHandle | None = None  # fires if no viewer comes in time

    def take(self, first: int, entries: list[Entry]) -> None:
        """Appends entries from number `first` on. Those that are known are left out. A gap ends the stream."""
        if self.log.ended:
            return
        known = self.log.last
        if first > known + 1:
            self._end(RecordingLost())
        elif new := entries[known + 1 - first :]:
            self.log.append(new)

    def lose_producer(self) -> list[Entry]:
        """Ends it, because its process is dead. Returns the entries of the end. They are the same at each process."""
        return self._end(ProducerLost())

    def lose_recording(self) -> None:
        """Ends it, because Redis does not have it any more and nobody writes it again."""
        self._end(RecordingLost())

    def _end(self, failure: GatewayError) -> list[Entry]:
        """Without a receipt: a client may have had more from the producer than has come here."""
        end = {
            "reason": failure.end_reason,
            "finish_reason": None,
            "model": None,
            "usage": None,
            "stream": self.id,
            "attempts": None,
        }
        entries = [
            Entry(Kind.FAILURE, _encode_json(failure.failure() | LOST)),
            Entry(Kind.END, _encode_json(end | LOST)),
        ]
        self.log.append(entries)
        return entries

    @property
    def is_whole(self) -> bool:
        return self.reason == EndReason.COMPLETE

    @property
    def reason(self) -> str | None:
        """Why it ended. None while it runs."""
        return str(self._end_fields()["reason"]) if self.log.ended else None

    @property
    def has_content(self) -> bool:
        return any(entry.kind not in (Kind.FAILURE, Kind.END) for entry in self.log.entries)

    @property
    def passed_finish(self) -> bool:
        return passed_finish(self.log.entries)

    @property
    def failure(self) -> GatewayError | None:
        entries = self.log.entries
        if not self.log.ended or len(entries) < 2 or entries[-2].kind is not Kind.FAILURE:
            return None
        return from_failure(_decode_json(entries[-2].payload))

    def _end_fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = _decode_json(self.log.entries[-1].payload)
        return fields

    def outcome(self) -> Outcome:
        end = self._end_fields()
        return Outcome(
            id=f"chatcmpl-{self.id}",
            created=int(time.time()),
            model=end["model"] or "",
            finish_reason=end["finish_reason"],
            usage=end["usage"],
        )

    def claim(self) -> HeldStream[Any] | None:
        return None  # the process that produces it has its record

    def count_resume(self) -> None:
        """The record is elsewhere."""

    def attach(self, cut: Callable[[], None], *, as_guest: bool = False) -> None:
        self._host.attach(self, cut, as_guest=as_guest)

    def detach(self, cut: Callable[[], None]) -> None:
        self._host.detach(self, cut)

    def expect(self) -> None:
        """Its process waits for the owner."""

    async def publish(self) -> None:
        await self._host.publish(self)

    async def stop(self) -> None:
        await self._host.stop(self)

    async def delete(self) -> None:
        await self._host.delete(self)

    def cancel_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
