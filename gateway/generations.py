"""The registry of generations: the one place where an answer is charged and begins to be made.

It holds each for as long as it runs or is watched, and ends them all at shutdown.
"""

import asyncio
import secrets
from collections.abc import Iterator
from typing import Any, TypeVar

from gateway.admission import Order
from gateway.config import Config
from gateway.dialects.openai import Decoder
from gateway.dialects.relay import Relay
from gateway.errors import Busy, ShuttingDown
from gateway.generation import Generation
from gateway.limits import Charge, Limiter
from gateway.streamlog.base import Recording, StreamLog, StreamStore
from gateway.streamlog.window import Window
from gateway.tokens import reservation
from gateway.upstream import UpstreamClient
from gateway.views import View

_ID_BYTES = 16  # 128 random bits: an id is not a secret, but it must not be guessable either
_CLOSE_SECONDS = 5.0  # for closing upstream connections, which takes moments; then the process goes regardless
_RETRY_SECONDS = "5"  # until there may be room again, or another process in this one's place

R = TypeVar("R", bound=Recording)


class Generations:
    def __init__(self, *, store: StreamStore, client: UpstreamClient, limiter: Limiter, config: Config) -> None:
        self._store = store
        self._client = client
        self.limiter = limiter
        self._limits = config.stream
        self._max_streams = config.store.max_streams
        self._held: dict[str, Generation[Any]] = {}
        self.closing = False

    async def record(self, order: Order) -> Generation[StreamLog]:
        """Starts an answer whose entries are kept. Raises what `_charged` does, and Busy when there is no room."""
        charge = await self._charged(order)
        stream_id = _new_id()
        try:
            log = self._store.create(stream_id)
        except Busy:
            await _uncharge(charge)
            raise
        return self._start(stream_id, order, log, Decoder(), charge)

    async def relay(self, order: Order, view: View, *, whole: bool, hide_usage: bool) -> Generation[Window]:
        """Starts an answer that is passed on, chunk by chunk or, if it is asked for `whole`, as one body."""
        charge = await self._charged(order)
        return self._start(_new_id(), order, Window(view), Relay(whole=whole, hide_usage=hide_usage), charge)

    async def _charged(self, order: Order) -> Charge:
        """Raises ShuttingDown, Busy, RateLimited or TooManyStreams."""
        if self.closing:
            raise ShuttingDown(headers={"Retry-After": _RETRY_SECONDS})
        if len(self._held) >= self._max_streams:
            raise Busy(headers={"Retry-After": _RETRY_SECONDS})
        tokens = 0 if order.allowance.tokens_per_minute is None else reservation(order.body)
        return await self.limiter.charge(order.allowance, tokens)

    def _start(self, stream_id: str, order: Order, log: R, decoder: Decoder, charge: Charge) -> Generation[R]:
        generation = self._held[stream_id] = Generation(
            stream_id,
            order,
            log=log,
            decoder=decoder,
            charge=charge,
            client=self._client,
            limits=self._limits,
            release=self._forget,
        )
        return generation

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[Generation[Any]]:
        return iter(self._held.values())

    async def close(self) -> None:
        """Ends what runs, with a failure that says so, and waits until every upstream connection is closed."""
        self.closing = True
        held = list(self._held.values())
        for generation in held:
            generation.interrupt(ShuttingDown())
        if held:
            await asyncio.wait([generation.task for generation in held], timeout=_CLOSE_SECONDS)

    def _forget(self, stream_id: str) -> None:
        self._held.pop(stream_id, None)
        self._store.discard(stream_id)


def _new_id() -> str:
    return secrets.token_urlsafe(_ID_BYTES)


async def _uncharge(charge: Charge) -> None:
    await charge.settle(0)
    charge.release()
