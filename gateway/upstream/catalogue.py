"""The models that are offered here, with the fields that their upstreams list: context lengths, owners, prices.

Upstreams are asked for their lists when somebody asks for ours, all at the same time, and the lists are kept for a
while. Ours does not depend on them: a model stands with the fields that every model has as long as its upstream is
silent, answers rubbish, or does not list it. After a failure, an upstream's last list still holds.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import msgspec

from gateway.config import Config, Upstream
from gateway.errors import GatewayError
from gateway.upstream.dialects.listing import ModelFields, is_a, text_in
from gateway.upstream.redaction import gives_away
from gateway.upstream.routing import Target, route

_FRESH_SECONDS = 60.0  # models come and go by the day, and nobody should wait long for one that has just come
_RETRY_SECONDS = 10.0  # after a failure: an upstream that is starting is there soon
_PATIENCE_SECONDS = 2.0  # that a caller waits; usual lists take half a second, and a slower one is kept for the next
_LARGEST_MODEL = 16_384  # bytes of one model's fields; the longest, OpenRouter's, have about 6,000
_LARGEST_LIST = 1_048_576  # bytes of the fields in one answer: OpenRouter's whole list
_KINDS = {"created": int, "owned_by": str}  # SDKs declare these types

_Ask = Callable[[Upstream], Awaitable[Sequence[ModelFields]]]


class Catalogue:
    """One per process; `close` it. `ask` gets an upstream's list; `now` is a clock, in seconds."""

    def __init__(self, ask: _Ask, config: Config, now: Callable[[], float]) -> None:
        self._ask = ask
        self._now = now
        self._config = config
        self._everything: asyncio.Task[Sequence[ModelFields]] | None = None
        self._targets = {name: route(config, name) for name in _names(config)} if config.upstreams else {}
        self._lists = {upstream.name: self._list(upstream) for upstream in config.upstreams}

    async def models(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """The models of these names, which are those of the configuration."""
        targets = [self._targets[name] for name in names]
        await self._refresh({target.upstream.name for target in targets})
        room = _LARGEST_LIST
        models = []
        for name, target in zip(names, targets, strict=True):
            fields = dict(_fitting(self._fields(target), room))
            room -= _size(fields)
            models.append({"id": name, "object": "model", "created": 0, "owned_by": "gateway", **fields})
        return models

    async def everything(self) -> Sequence[ModelFields]:
        """All that the first upstream lists. Callers who come while it is asked share its answer.

        Raises a GatewayError.
        """
        if self._everything is None or self._everything.done():
            self._everything = asyncio.create_task(self._list_everything())
            self._everything.add_done_callback(_look_at)  # where all callers have left
        try:
            return await asyncio.shield(self._everything)
        except GatewayError as error:
            raise error.copy() from None

    async def _list_everything(self) -> Sequence[ModelFields]:
        upstream = self._config.upstreams[0]
        return [_told(fields, upstream) for fields in await self._ask(upstream)]

    async def close(self) -> None:
        for listed in self._lists.values():
            await listed.close()
        if self._everything is not None:
            self._everything.cancel()
            await asyncio.wait([self._everything])

    def _list(self, upstream: Upstream) -> "_List":
        wanted = {target.model for target in self._targets.values() if target.upstream.name == upstream.name}
        return _List(upstream, wanted, self._ask, self._now)

    async def _refresh(self, upstreams: set[str]) -> None:
        """Returns once each of them has answered, or when it is too late to wait for more."""
        tasks = [task for upstream in upstreams if (task := self._lists[upstream].refresh()) is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=_PATIENCE_SECONDS)

    def _fields(self, target: Target) -> ModelFields:
        return self._lists[target.upstream.name].fields.get(target.model, {})


class _List:
    """An upstream's list, as far as it is of models that are offered here."""

    def __init__(self, upstream: Upstream, wanted: set[str], ask: _Ask, now: Callable[[], float]) -> None:
        self.fields: dict[str, ModelFields] = {}
        self._upstream = upstream
        self._wanted = wanted
        self._ask = ask
        self._now = now
        self._due = -math.inf
        self._started = -math.inf
        self._task: asyncio.Task[None] | None = None

    def refresh(self) -> asyncio.Task[None] | None:
        """The task that asks for the list, for a caller to wait for; None where the list is there, or is slow to come.

        However many callers wait, there is one task.
        """
        now = self._now()
        if self._task is None or self._task.done():
            if now < self._due:
                return None
            self._started = now
            self._task = asyncio.create_task(self._run())
        return self._task if now < self._started + _PATIENCE_SECONDS else None

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        try:
            listed = await self._ask(self._upstream)
        except GatewayError:
            self._due = self._now() + _RETRY_SECONDS
            return
        named = {text_in(fields, "id"): fields for fields in reversed(listed)}
        self.fields = {name: dict(self._kept(named[name])) for name in self._wanted if name in named}
        self._due = self._now() + _FRESH_SECONDS

    def _kept(self, fields: ModelFields) -> Iterator[tuple[str, msgspec.Raw]]:
        """The fields that go on. They are copied: as they were read, they would keep the whole body in memory."""
        own = _told(_typed(fields), self._upstream)
        return ((name, value.copy()) for name, value in _fitting(own, _LARGEST_MODEL))


def _names(config: Config) -> set[str]:
    """All that a caller may be offered by name."""
    return {model.name for model in config.models} | {name for key in config.keys for name in key.models}


def _fitting(fields: ModelFields, room: int) -> Iterator[tuple[str, msgspec.Raw]]:
    """Those that fit into so many bytes, the first ones first."""
    for name, value in fields.items():
        size = _size({name: value})
        if size <= room:
            room -= size
            yield name, value


def _size(fields: ModelFields) -> int:
    return sum(len(name) + len(bytes(value)) + len('"":,') for name, value in fields.items())


def _typed(fields: ModelFields) -> ModelFields:
    """Without those that the gateway sets itself, and those of a type that SDKs do not expect."""
    return {
        name: value
        for name, value in fields.items()
        if name not in ("id", "object") and (name not in _KINDS or is_a(value, _KINDS[name]))
    }


def _told(fields: ModelFields, upstream: Upstream) -> ModelFields:
    """Without those that hold a key, or an address that is not for everybody."""
    if not gives_away(_text(fields), upstream):
        return fields
    return {name: value for name, value in fields.items() if not gives_away(_text({name: value}), upstream)}


def _text(fields: ModelFields) -> str:
    return msgspec.json.encode(fields).decode()


def _look_at(task: "asyncio.Task[Any]") -> None:
    """asyncio logs a failure that nobody has looked at."""
    if not task.cancelled():
        task.exception()
