"""`gateway check --connect`: asks each upstream once, all of them at the same time, and reports what it found.

It asks for the list of models. That costs nothing, and most servers check the key before they answer. An upstream that
has no such list is asked one question, for a single token or value, of a model that the configuration names for it.
"""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec

from gateway.bounds import DEFAULT_BOUNDS, Bounds
from gateway.config import Config, Timeouts, Upstream
from gateway.endpoints import Endpoint
from gateway.errors import (
    GatewayError,
    OutOfDescriptors,
    Timeout,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTLS,
    UpstreamUnreachable,
)
from gateway.upstream.client import UpstreamClient
from gateway.upstream.dialects.listing import text_in
from gateway.upstream.redaction import redact
from gateway.upstream.routing import Target

_UNHEARD = (UpstreamUnreachable, UpstreamTLS, Timeout, OutOfDescriptors)  # the upstream did not get the question
_MOST_NAMES = 5  # of missing models that are reported
_QUESTIONS: dict[Endpoint, dict[str, object]] = {
    Endpoint.CHAT: {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1, "stream": True},
    Endpoint.RESPONSES: {"input": "Hi", "max_output_tokens": 16, "store": False},  # OpenAI takes no lower bound
    Endpoint.COMPLETIONS: {"prompt": "Hi", "max_tokens": 1},
    Endpoint.EMBEDDINGS: {"input": "Hi"},
    Endpoint.MODERATIONS: {"input": "Hi"},
    Endpoint.RERANK: {"query": "Hi", "documents": ["Hi"]},
}


@dataclass(frozen=True, slots=True)
class Finding:
    upstream: str
    words: str
    is_fault: bool = False

    def __str__(self) -> str:
        return f"{self.upstream}: {self.words}"


@dataclass(frozen=True, slots=True)
class _Named:
    """A model by the upstream's own name."""

    name: str
    endpoint: Endpoint = Endpoint.CHAT  # to ask it at


def probe(config: Config, bounds: Bounds = DEFAULT_BOUNDS) -> Sequence[Finding]:
    """One finding for each upstream, in their order."""
    with _unlogged():
        return asyncio.run(_probe(config, bounds))


async def _probe(config: Config, bounds: Bounds) -> Sequence[Finding]:
    client = UpstreamClient(config.upstreams, bounds)
    try:
        return await asyncio.gather(
            *[_in_time(bounds, client, upstream, _targets(config, upstream)) for upstream in config.upstreams]
        )
    finally:
        await client.close()


async def _in_time(bounds: Bounds, client: UpstreamClient, upstream: Upstream, models: Sequence[_Named]) -> Finding:
    loop = asyncio.get_running_loop()
    started = loop.time()
    try:
        async with asyncio.timeout(bounds.probe_seconds):
            return await _asked(client, upstream, models)
    except TimeoutError:
        return Finding(upstream.name, f"did not answer within {bounds.probe_seconds:.0f} seconds", is_fault=True)
    except GatewayError as error:
        return _fault(error, upstream, seconds=loop.time() - started)


async def _asked(client: UpstreamClient, upstream: Upstream, models: Sequence[_Named]) -> Finding:
    """Raises a GatewayError that is the finding."""
    try:
        listed = await client.models(upstream)
    except GatewayError as error:
        if isinstance(error, _UNHEARD) or not models:
            raise
        return await _asked_a_question(client, upstream, models[0])
    known = {name for model in listed if (name := text_in(model, "id")) is not None}
    missing = [model.name for model in models if known and model.name not in known][:_MOST_NAMES]
    words = "reachable, 1 model" if len(listed) == 1 else f"reachable, {len(listed):,} models"
    return Finding(upstream.name, f"{words}; missing: {', '.join(missing)}" if missing else words)


async def _asked_a_question(client: UpstreamClient, upstream: Upstream, model: _Named) -> Finding:
    target = Target(upstream, model.name, Timeouts(), endpoint=model.endpoint)
    try:
        response = await client.open(target, msgspec.json.encode({"model": model.name, **_QUESTIONS[model.endpoint]}))
        try:
            await response.begin()
        finally:
            response.abort()
    except UpstreamRejected as error:
        if error.status == 404:
            raise
        redact(error, upstream)  # the upstream accepted the key and understood the question
        return Finding(
            upstream.name, f"reachable, without a list of models; to a question it answered: {error.message}"
        )
    return Finding(upstream.name, f"reachable, without a list of models; {model.name} answers")


def _fault(error: GatewayError, upstream: Upstream, *, seconds: float) -> Finding:
    _, _, note = redact(error, upstream).partition(": ")
    is_new = bool(note) and note.removeprefix("it ").lower() not in error.message.lower()
    words = f"{error.message} ({note})" if is_new else error.message
    if isinstance(error, UpstreamRateLimited):
        words = f"refused with 429: {words}"
    if isinstance(error, Timeout):
        words = f"{words} (after {max(1, round(seconds))} s)"
    return Finding(upstream.name, words, is_fault=True)


def _targets(config: Config, upstream: Upstream) -> Sequence[_Named]:
    """The models that the configuration names for this upstream."""
    if config.models:
        targets = [(target, model) for model in config.models for target in model.targets]
        return [
            _Named(target.model or model.name, _first(model.endpoints))
            for target, model in targets
            if target.upstream == upstream.name
        ]
    named = [config.default_model, *[assistant.model for assistant in config.assistants.values()]]
    return [_Named(name) for name in named if name] if upstream is config.upstreams[0] else []


def _first(endpoints: Sequence[Endpoint]) -> Endpoint:
    """The one that costs least to ask, and that most models have."""
    return Endpoint.CHAT if Endpoint.CHAT in endpoints else endpoints[0]


@contextmanager
def _unlogged() -> Iterator[None]:
    """Keeps warnings out of the log, because the findings say the same."""
    logger, handler = logging.getLogger("gateway"), logging.NullHandler()
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
