"""Viewers at other processes, of streams that this process produces.

Another process says that it has viewers, and repeats it. All of them count here as one viewer, until it says that they
have left, or falls silent.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from gateway.shared.messages import Message, Subject
from gateway.streams.held import HeldStream

_SILENCE_SECONDS = 15.0  # three repetitions may be missed


class _Visitor:
    """The viewers of one stream at one process."""

    def __init__(self, stream: HeldStream[Any], gone: Callable[[], None], *, as_guest: bool, until: float) -> None:
        self.stream = stream
        self.as_guest = as_guest
        self.until = until
        self.cut = gone
        stream.attach(self.cut, as_guest=as_guest)

    def leave(self) -> None:
        self.stream.detach(self.cut)


class Presence:
    """`find` finds a stream of this process."""

    def __init__(self, find: Callable[[str], HeldStream[Any] | None]) -> None:
        self._find = find
        self._visitors: dict[tuple[str, str], _Visitor] = {}
        self._loop = asyncio.get_running_loop()

    def __len__(self) -> int:
        return len(self._visitors)

    def visit(self, message: Message) -> None:
        who = (message.stream, message.sender)
        until = self._loop.time() + _SILENCE_SECONDS
        visitor = self._visitors.get(who)
        if visitor is not None and visitor.as_guest == message.as_guest:
            visitor.until = until
        elif (stream := self._find(message.stream)) is not None:
            new = _Visitor(stream, lambda: self._drop(who), as_guest=message.as_guest, until=until)
            self._drop(who)  # after the new one has come, so that the stream is never without a viewer
            self._visitors[who] = new

    def leave(self, message: Message) -> None:
        self._drop((message.stream, message.sender))

    def _drop(self, who: tuple[str, str]) -> None:
        visitor = self._visitors.pop(who, None)
        if visitor is not None:
            visitor.leave()

    def look(self, *, hears: bool) -> None:
        """Drops those that have been silent for too long. `hears`: Redis is there, so silence says something."""
        now = self._loop.time()
        for who, visitor in list(self._visitors.items()):
            if not hears:
                visitor.until = now + _SILENCE_SECONDS
            elif now >= visitor.until:
                self._drop(who)

    def hear(self, message: Message) -> None:
        match message.subject:
            case Subject.VISIT:
                self.visit(message)
            case Subject.LEAVE:
                self.leave(message)
            case _:
                pass
