"""Creates the application: all objects are made and connected here, and there are no global ones."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from gateway.admission.auth import KeyRing
from gateway.admission.bodies import Bodies
from gateway.admission.descriptors import Descriptors
from gateway.admission.memory_limiter import MemoryLimiter
from gateway.bounds import DEFAULT_BOUNDS, Bounds
from gateway.config import Config, Upstream
from gateway.handlers import chat, completions, health, models, playground, streams
from gateway.handlers.middleware import add_common_headers, guarded, observed
from gateway.handlers.reading import expect
from gateway.handlers.services import BOUNDS, SERVICES, Services
from gateway.log.memory import MemoryStore
from gateway.observe.formatters import OneLine
from gateway.streams.registry import Streams
from gateway.upstream.catalogue import Catalogue
from gateway.upstream.client import UpstreamClient
from gateway.upstream.dialects.listing import ModelFields

# Bytes of a request line or header line. For a longer one aiohttp's parser sends a bare 400 of its own. The bound is
# high, so that a query that is too long gets the 414 of the gateway.
_LONGEST_LINE = 65_536


def create_app(
    config: Config, descriptors: Descriptors | None = None, bounds: Bounds = DEFAULT_BOUNDS
) -> web.Application:
    app = web.Application(middlewares=[observed, guarded])
    app[BOUNDS] = bounds
    app.on_response_prepare.append(add_common_headers)
    app.cleanup_ctx.append(lambda app: _services(app, config, descriptors or Descriptors(None)))
    app.on_shutdown.append(_end_streams)
    routes = [
        web.get("/chat", chat.ask, allow_head=False),
        web.post("/chat", chat.ask),
        web.post("/streams", streams.create),
        web.get("/streams/{id}", streams.watch, allow_head=False),
        web.delete("/streams/{id}", streams.stop),
        web.post("/v1/chat/completions", completions.create),
        web.get("/v1/models", models.list_all, allow_head=False),
        web.get("/v1/models/{id:.+}", models.retrieve, allow_head=False),
        web.get("/healthz", health.healthz),
        web.get("/readyz", health.readyz),
    ]
    if config.server.playground:
        routes += [
            web.get("/", playground.page),
            web.get("/playground/offer.json", playground.offer),
            web.get("/playground/{name}", playground.asset),
        ]
    app.add_routes([web.RouteDef(r.method, r.path, r.handler, {**r.kwargs, "expect_handler": expect}) for r in routes])
    return app


def server_options() -> dict[str, Any]:
    """The options of `web.AppRunner` for the app.

    A handler is cancelled when its client leaves, because nothing else would show it while the upstream is silent. The
    gateway writes its own access log.
    """
    server_logger = logging.getLogger("gateway.server")
    if not server_logger.filters:
        server_logger.addFilter(OneLine(HttpProcessingError, web.RequestPayloadError))
    return {
        "handler_cancellation": True,
        "access_log": None,
        "keepalive_timeout": 75.0,  # above nginx's 60, so that nginx closes first; it also bounds a slow header
        "logger": server_logger,
        "max_line_size": _LONGEST_LINE,
        "max_field_size": _LONGEST_LINE,
        "auto_decompress": False,  # `reading` does it, because aiohttp has a message of its own for an unknown coding
        "shutdown_timeout": 10.0,  # to write the last events of ended streams; then stalled clients are disconnected
    }


async def _services(app: web.Application, config: Config, descriptors: Descriptors) -> AsyncIterator[None]:
    client = UpstreamClient(config.upstreams, app[BOUNDS])
    store = MemoryStore(max_streams=config.store.max_streams, max_bytes=config.store.max_bytes)
    held = Streams(store=store, client=client, limiter=MemoryLimiter(), config=config, descriptors=descriptors)

    async def models(upstream: Upstream) -> Sequence[ModelFields]:
        with descriptors.upstream():
            return await client.models(upstream)

    catalogue = Catalogue(models, config, asyncio.get_running_loop().time)
    bodies = Bodies(config.server.max_bodies_bytes)
    app[SERVICES] = Services(config, KeyRing(config.keys), client, catalogue, held, bodies, descriptors)
    yield
    await catalogue.close()
    await client.close()


async def _end_streams(app: web.Application) -> None:
    await app[SERVICES].streams.close()
