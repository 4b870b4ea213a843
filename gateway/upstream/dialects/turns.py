"""Which parts of an answer may be told now, and which wait for their turn.

The fragments of several calls may alternate in a chat, with texts between them. Other APIs tell one thing after the
other. So while the arguments of a call are not whole, all that is not of this call waits: a text as it is, a call with
what has come of it. Each of them waits once, so a step is taken once, however many wait.
"""

from collections import deque

from gateway.entries import Entry, Kind
from gateway.errors import UpstreamError
from gateway.upstream.dialects.tool_calls import Call, Calls, input_of

Part = Entry | Call | str
"""An entry that is of no call, a call that begins, or more of the arguments of the call that began last."""


class Turns:
    __slots__ = ("_calls", "_named", "_open", "_told", "_waiting")

    def __init__(self) -> None:
        self._calls = Calls()
        self._named: set[Call] = set()  # a call comes first with its name
        self._told: dict[Call, int] = {}  # fragments of each call that has begun
        self._open: Call | None = None  # the call that is told now
        self._waiting: deque[Entry | Call] = deque()

    def add(self, entry: Entry) -> list[Part]:
        """The parts that may be told now. Raises UpstreamError for a fragment that cannot be told any more."""
        if entry.kind is Kind.TOOL:
            return self._add_fragment(entry.payload)
        self._waiting.append(entry)
        return self._due()

    def end(self) -> list[Part]:
        """All that waits. A call that has no name is not told."""
        parts: list[Part] = []
        while self._waiting:
            parts += self._next()
        return parts

    def check(self) -> None:
        """Checks the calls of an answer that is whole. Raises UpstreamError for one that cannot be made."""
        for call in self._calls.all:
            if call.name:
                input_of(call.arguments)
            elif call.size:
                raise UpstreamError("The model's server sent a tool call without a name. Ask again.")

    def _add_fragment(self, payload: bytes) -> list[Part]:
        call = self._calls.add(payload)
        if call is self._open:
            return [*self._news(call), *self._due()]
        if call in self._told:
            if any(arguments.strip() for arguments in self._news(call)):
                raise UpstreamError("The model's server sent a part of a tool call behind its end. Ask again.")
        elif call.name and call not in self._named:
            self._named.add(call)
            self._waiting.append(call)
            return self._due()
        return []

    def _due(self) -> list[Part]:
        parts: list[Part] = []
        while self._waiting and (self._open is None or self._open.is_whole()):
            parts += self._next()
        return parts

    def _next(self) -> list[Part]:
        turn = self._waiting.popleft()
        if not isinstance(turn, Call):
            self._open = None
            return [turn]
        self._open = turn
        return [turn, *self._news(turn)]

    def _news(self, call: Call) -> list[str]:
        """What has come of the arguments since this was asked last."""
        arguments = call.arguments_after(self._told.get(call, 0))
        self._told[call] = call.fragments
        return [arguments] if arguments else []
