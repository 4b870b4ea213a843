"""The models that the gateway offers, with the fields that their upstreams list: context lengths, owners, prices.

When a client asks for the gateway's list, all upstreams are asked for theirs at the same time, and the answers are kept
for a while. The gateway's list does not depend on them: if an upstream is silent, sends something unreadable, or does
not list a model, the model has only the fields of every model. After a failure, the last list of an upstream is used.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import msgspec

from gateway.config import Config, Upstream
from gateway.endpoints import Endpoint
from gateway.errors import GatewayError
from gateway.upstream.dialects.listing import ModelFields, is_a, text_in
from gateway.upstream.redaction import gives_away
from gateway.upstream.routing import Target, route

_FRESH_SECONDS = 60.0  # lists change within days, and a new model should be listed soon
_RETRY_SECONDS = 10.0  # after a failure: an upstream that is starting is ready soon
_PATIENCE_SECONDS = 2.0  # that a caller waits; a usual list takes half a second, and a slower one is for later callers
_LARGEST_MODEL = 16_384  # bytes of one model's fields; the longest, those of OpenRouter, have about 6,000
_LARGEST_LIST = 1_048_576  # bytes of the fields in one answer, the size of OpenRouter's whole list
_KINDS = {"created": int, "owned_by": str}  # SDKs declare these types

_Ask = Callable[[Upstream], Awaitable[Sequence[ModelFields]]]


class Catalogue:
    """One per process. The owner must call `close`. `ask` gets an upstream's list. `now` is a clock, in seconds."""

    def __init__(self, ask: _Ask, config: Config, now: Callable[[], float]) -> None:
        self._ask = ask
        self._now = now
        self._config = config
        self._everything: asyncio.Task[Sequence[ModelFields]] | None = None
        routes = {name: route(config, name) for name in _names(config)} if config.upstreams else {}
        self._targets = {name: route.targets[0] for name, route in routes.items()}
        self._endpoints = {name: _ordered(route.endpoints) for name, route in routes.items()}
        self._lists = {upstream.name: self._list(upstream) for upstream in config.upstreams}

    async def models(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """The models of these names, which must be in the configuration."""
        targets = [self._targets[name] for name in names]
        await self._refresh({target.upstream.name for target in targets})
        room = _LARGEST_LIST
        models = []
        for name, target in zip(names, targets, strict=True):
            fields = dict(_fitting(self._fields(target), room))
            room -= _size(fields)
            own = {"id": name, "object": "model", "endpoints": self._endpoints[name]}
            models.append({**own, "created": 0, "owned_by": "gateway", **fields})
        return models

    async def everything(self) -> Sequence[ModelFields]:
        """All models of the first upstream, which are passed on at every endpoint.

        Concurrent callers share one request and its answer.
        Raises a GatewayError.
        """
        if self._everything is None or self._everything.done():
            self._everything = asyncio.create_task(self._list_everything())
            self._everything.add_done_callback(_look_at)  # if all callers have left
        try:
            return await asyncio.shield(self._everything)
        except GatewayError as error:
            raise error.copy() from None

    async def _list_everything(self) -> Sequence[ModelFields]:
        upstream = self._config.upstreams[0]
        endpoints = msgspec.Raw(msgspec.json.encode(upstream.endpoints))
        return [{**_told(fields, upstream), "endpoints": endpoints} for fields in await self._ask(upstream)]

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
        """Waits until each of them has answered, but at most _PATIENCE_SECONDS."""
        tasks = [task for upstream in upstreams if (task := self._lists[upstream].refresh()) is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=_PATIENCE_SECONDS)

    def _fields(self, target: Target) -> ModelFields:
        return self._lists[target.upstream.name].fields.get(target.model, {})


class _List:
    """The part of an upstream's list with the models that the gateway offers."""

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
        """The task that asks for the list, to wait for. None if the list is fresh, or its upstream is too slow.

        All callers share one task.
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
        """The fields that are passed on. They are copied, because they would otherwise keep the body in memory."""
        own = _told(_typed(fields), self._upstream)
        return ((name, value.copy()) for name, value in _fitting(own, _LARGEST_MODEL))


def _ordered(endpoints: Sequence[Endpoint]) -> list[Endpoint]:
    return [endpoint for endpoint in Endpoint if endpoint in endpoints]


def _names(config: Config) -> set[str]:
    """All names of models that a caller may see."""
    return {model.name for model in config.models} | {name for key in config.keys for name in key.models}


def _fitting(fields: ModelFields, room: int) -> Iterator[tuple[str, msgspec.Raw]]:
    """The fields that fit into `room` bytes, in their order."""
    for name, value in fields.items():
        size = _size({name: value})
        if size <= room:
            room -= size
            yield name, value


def _size(fields: ModelFields) -> int:
    return sum(len(name) + len(bytes(value)) + len('"":,') for name, value in fields.items())


def _typed(fields: ModelFields) -> ModelFields:
    """The fields without those that the gateway sets itself, and without those of a type that SDKs do not expect."""
    return {
        name: value
        for name, value in fields.items()
        if name not in ("id", "object", "endpoints") and (name not in _KINDS or is_a(value, _KINDS[name]))
    }


def _told(fields: ModelFields, upstream: Upstream) -> ModelFields:
    """The fields without those that contain a key or an address of the upstream."""
    if not gives_away(_text(fields), upstream):
        return fields
    return {name: value for name, value in fields.items() if not gives_away(_text({name: value}), upstream)}


def _text(fields: ModelFields) -> str:
    return msgspec.json.encode(fields).decode()


def _look_at(task: "asyncio.Task[Any]") -> None:
    """Retrieves the exception, because asyncio logs one that was never retrieved."""
    if not task.cancelled():
        task.exception()
