"""Idempotency keys: a request with a known key gets the stream that the first request with this key started.

A key is remembered as long as its stream is held. It is free again if the first request was refused, was cancelled
because its client left, or failed before any client could see content. Then a retry starts a new stream.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from hashlib import sha256
from typing import NamedTuple

from gateway.admission.admit import AdmittedRequest
from gateway.entries import EndReason
from gateway.errors import IdempotencyConflict
from gateway.log.base import StreamLog
from gateway.streams.followed import FollowedStream
from gateway.streams.held import HeldStream

Key = tuple[str, str]
"""The caller (see `limits.identity`) and the idempotency key."""

Kept = HeldStream[StreamLog]


class Keyed(NamedTuple):
    """A stream that has begun, and that a request with this key finds. `fingerprint` tells what was asked."""

    key: Key
    stream: Kept
    fingerprint: bytes
    longest: float
    """The seconds that its answer may take."""


class Once:
    def __init__(self) -> None:
        self._started: dict[Key, _Started] = {}

    async def get(
        self, key: Key, request: AdmittedRequest, start: Callable[[AdmittedRequest], Awaitable[Kept]]
    ) -> Kept:
        """Calls `start`, or returns its earlier result for this key. Raises IdempotencyConflict for another request."""
        known = self._started.get(key)
        if known is None or known.is_void:
            known = self._started[key] = _Started(request, asyncio.ensure_future(start(request)))
            known.task.add_done_callback(lambda _: self._remember(key, known))
        elif known.fingerprint != fingerprint(request):
            raise IdempotencyConflict()
        return await asyncio.shield(known.task)  # if one caller leaves, the others still get the stream

    def __contains__(self, key: Key) -> bool:
        """Whether `get` would return an earlier result."""
        known = self._started.get(key)
        return known is not None and not known.is_void

    def __len__(self) -> int:
        return len(self._started)

    def begun(self) -> Iterator[Keyed]:
        """The streams that have begun, each as it is when it is taken. Keys may come and go meanwhile."""
        for key in list(self._started):
            known = self._started.get(key)
            if known is not None and known.stream is not None and not known.is_void:
                yield Keyed(key, known.stream, known.fingerprint, known.longest)

    def forget(self, stream: Kept) -> None:
        key = stream.idempotency_key
        known = self._started.get(key) if key is not None else None
        if key is not None and known is not None and known.stream is stream:
            del self._started[key]

    def _remember(self, key: Key, started: "_Started") -> None:
        if started.stream is not None:
            started.stream.idempotency_key = key
        elif self._started.get(key) is started:
            del self._started[key]


class _Started:
    def __init__(self, request: AdmittedRequest, task: "asyncio.Future[Kept]") -> None:
        self.fingerprint = fingerprint(request)
        self.longest = request.route.total
        self.task = task

    @property
    def stream(self) -> Kept | None:
        has_begun = self.task.done() and not self.task.cancelled() and self.task.exception() is None
        return self.task.result() if has_begun else None

    @property
    def is_void(self) -> bool:
        return self.stream is not None and is_void(self.stream)


def is_void(stream: Kept | FollowedStream) -> bool:
    """Whether its key is free again: nobody saw content before it failed, or its client left and it was cancelled."""
    was_seen = stream.has_content and stream.is_kept
    failed = stream.failure is not None and not was_seen
    return failed or stream.reason == EndReason.CLIENT_GONE


def fingerprint(request: AdmittedRequest) -> bytes:
    """Tells whether two requests ask the same."""
    payload = request.payload
    asked = f"{request.asked_at or ''}\n{request.model or ''}\n{request.form}".encode()
    return sha256(b"\n".join([asked, bytes(payload.options or b""), payload.fields])).digest()
