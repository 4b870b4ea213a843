"""Which streams give way where more is held than there is room for. Pure: streams in, the first to go first."""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from gateway.streams.held import HeldStream


def first_to_go(streams: Iterable[HeldStream[Any]], excess: int) -> Iterator[HeldStream[Any]]:
    """As many as hold `excess` bytes together: those that are only read still, and then running ones.

    Of running streams, the largest of the caller who holds most goes first: no caller pushes out another who has less.
    """
    living = [stream for stream in streams if not stream.dying]
    read = [stream for stream in living if stream.log.ended and stream.viewers]
    running = [stream for stream in living if not stream.log.ended]
    for stream in [*_largest_first(read), *_largest_of_the_most(running)]:
        if excess <= 0:
            return
        excess -= stream.log.held
        yield stream


def _largest_first(streams: Iterable[HeldStream[Any]]) -> list[HeldStream[Any]]:
    return sorted(streams, key=lambda stream: stream.log.held, reverse=True)


def _largest_of_the_most(streams: Iterable[HeldStream[Any]]) -> Iterator[HeldStream[Any]]:
    """The largest of the caller who holds most without those before it, again and again."""
    queues: dict[str, deque[HeldStream[Any]]] = {}
    for stream in _largest_first(streams):
        queues.setdefault(stream.scope, deque()).append(stream)
    held = {scope: sum(stream.log.held for stream in queue) for scope, queue in queues.items()}
    while held:
        most = max(held, key=held.__getitem__)
        stream = queues[most].popleft()
        yield stream
        held[most] -= stream.log.held
        if not queues[most]:
            del held[most]
