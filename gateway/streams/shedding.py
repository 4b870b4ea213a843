"""Chooses the streams to end when memory is short. Pure: streams in, streams to end out, in order."""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from gateway.streams.held import HeldStream


def first_to_go(streams: Iterable[HeldStream[Any]], excess: int) -> Iterator[HeldStream[Any]]:
    """Streams that hold `excess` bytes together: first ended ones that still have viewers, then running ones.

    Of the running streams, the first is the largest of the caller who holds most. So no caller displaces another who
    holds less.
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
    """Yields the largest stream of the caller who holds most, subtracts it, and repeats."""
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
