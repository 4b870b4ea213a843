"""Where responses are that upstreams made: for each id, whose it is, and which upstream has it.

All callers share the gateway's key at an upstream, so the upstream gives a response to whoever asks the gateway for it.
Only the gateway knows whose it is, so a response that it does not know is nobody's. These are the places that one
process knows, until it ends: `streams.upstream_places` shares them.
"""

import re
from collections.abc import Callable

import msgspec

_SECONDS = 86_400.0  # the most that `stream.keep_seconds` can be; a response in the background takes minutes
_MOST = 50_000  # of 0.3 KiB each: half a response a second, for a day
_ID = re.compile(r"[A-Za-z0-9_-]{1,200}")  # OpenAI's have 55 characters; others could not stand in a path as they are


class _Place(msgspec.Struct, frozen=True, gc=False):
    owner: str | None
    upstream: str
    since: float


class Places:
    """`now` is a clock, in seconds. An owner is the name of a key; None is whoever asks where there are no keys."""

    def __init__(self, now: Callable[[], float], *, most: int = _MOST, seconds: float = _SECONDS) -> None:
        self._now = now
        self.seconds = seconds
        self._most = most
        self._places: dict[str, _Place] = {}  # in the order in which they were made

    def __len__(self) -> int:
        return len(self._places)

    def add(self, name: str, owner: str | None, upstream: str) -> list[str] | None:
        """An id that is known stays with its first owner.

        Returns the ids that were dropped before their time was over, to make room. None if nothing was added.
        """
        if _ID.fullmatch(name) is None:
            return None
        self._drop_old()
        if name in self._places:
            return None
        dropped = [next(iter(self._places))] if len(self._places) >= self._most else []
        for oldest in dropped:
            del self._places[oldest]
        self._places[name] = _Place(owner, upstream, self._now())
        return dropped

    def find(self, name: str, owner: str | None) -> str | None:
        """The name of the upstream that has it. None if the owner has no such response."""
        place = self._places.get(name)
        if place is None or place.owner != owner or place.since + self.seconds <= self._now():
            return None
        return place.upstream

    def remove(self, name: str) -> None:
        self._places.pop(name, None)

    def _drop_old(self) -> None:
        before = self._now() - self.seconds
        while self._places:
            oldest = next(iter(self._places))
            if self._places[oldest].since > before:
                return
            del self._places[oldest]
