"""Creates the application: all objects are made and connected here, and there are no global ones."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from gateway.admission.auth import KeyRing
from gateway.admission.body_room import BodyRoom
from gateway.admission.descriptors import Descriptors
from gateway.admission.memory_limiter import MemoryLimiter
from gateway.admission.redis_limiter import RedisLimiter
from gateway.bounds import DEFAULT_BOUNDS, Bounds
from gateway.config import Config, Upstream, checked
from gateway.endpoints import Endpoint
from gateway.handlers import (
    chat,
    completions,
    doctor,
    health,
    messages,
    metrics,
    models,
    playground,
    responses,
    stored_responses,
    streams,
)
from gateway.handlers.middleware import add_common_headers, answering, observed
from gateway.handlers.passing_on import passing_on
from gateway.handlers.reading import expect
from gateway.handlers.services import BOUNDS, SERVICES, Services
from gateway.handover.folder import Folder
from gateway.handover.neighbours import Neighbours
from gateway.log.memory import MemoryStore
from gateway.observe.formatters import OneLine
from gateway.observe.lag import LagMeter
from gateway.observe.metrics import Metrics
from gateway.observe.spans import Tracer
from gateway.responses.places import Places
from gateway.shared.base import Connection
from gateway.shared.keys import Keys
from gateway.streams.gauges import gauges
from gateway.streams.registry import Streams
from gateway.streams.sharing import Sharing
from gateway.streams.upstream_places import UpstreamPlaces
from gateway.upstream.catalogue import Catalogue
from gateway.upstream.client import UpstreamClient
from gateway.upstream.dialects.listing import ModelFields
from gateway.upstream.targets import Targets

# Bytes of a request line or header line. For a longer one aiohttp's parser sends a bare 400 of its own. The bound is
# high, so that a query that is too long gets the 414 of the gateway.
_LONGEST_LINE = 65_536

_EXTRA = "gateway[otel]"

# Besides chats, what upstreams have at the same paths.
_RELAYED = (Endpoint.COMPLETIONS, Endpoint.EMBEDDINGS, Endpoint.MODERATIONS, Endpoint.RERANK)

logger = logging.getLogger(__name__)

# What only a new start can change: of [server] the socket, the routes and the processes, and whole tables.
_FIXED = ("host", "port", "playground", "max_bodies_bytes", "runtime_dir", "workers")
_FIXED_TABLES = ("store", "traces")


def create_app(
    config: Config,
    descriptors: Descriptors | None = None,
    bounds: Bounds = DEFAULT_BOUNDS,
    *,
    workers_folder: Path | None = None,
) -> web.Application:
    """`workers_folder` is the folder in which several workers share their metrics, and find each other."""
    passing = [passing_on] if _neighbours_folder(config, workers_folder) is not None else []
    app = web.Application(middlewares=[observed, *passing])
    app[BOUNDS] = bounds
    app[doctor.OPEN] = doctor.Open()
    app.on_response_prepare.append(add_common_headers)
    app.cleanup_ctx.append(lambda app: _services(app, config, descriptors or Descriptors(None), workers_folder))
    app.on_shutdown.append(_end_streams)
    routes = [
        web.get("/chat", answering(chat.ask), allow_head=False),
        web.post("/chat", answering(chat.ask)),
        web.post("/streams", streams.create),
        web.get("/streams/{id}", answering(streams.watch), allow_head=False),
        web.delete("/streams/{id}", streams.stop),
        web.post("/v1/chat/completions", answering(completions.create)),
        web.post("/v1/messages", answering(messages.create)),
        web.post("/v1/messages/count_tokens", messages.count_tokens),
        web.post("/v1/responses", answering(responses.create)),
        web.get("/v1/responses/{id}", answering(stored_responses.retrieve), allow_head=False),
        web.post("/v1/responses/{id}/cancel", stored_responses.cancel),
        web.delete("/v1/responses/{id}", stored_responses.delete),
        *[web.post(f"/v1/{name}", answering(partial(completions.create, endpoint=name))) for name in _RELAYED],
        web.get("/v1/models", models.list_all, allow_head=False),
        web.get("/v1/models/{id:.+}", models.retrieve, allow_head=False),
        web.get("/healthz", health.healthz),
        web.get("/readyz", health.readyz),
        web.get("/metrics", metrics.metrics, allow_head=False),
        *[web.get(f"{prefix}/doctor", doctor.stream, allow_head=False) for prefix in ("", "/chat", "/v1")],
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


async def _services(
    app: web.Application, config: Config, descriptors: Descriptors, workers_folder: Path | None
) -> AsyncIterator[None]:
    client = UpstreamClient(config.upstreams, app[BOUNDS])
    store = MemoryStore(max_streams=config.store.max_streams, max_bytes=config.store.max_bytes)
    loop = asyncio.get_running_loop()
    targets = Targets(config, loop.time)
    folder = _neighbours_folder(config, workers_folder)
    neighbours = None if folder is None else Neighbours(Folder(folder), app[BOUNDS])
    connection = _connection(config, app[BOUNDS])
    limiter = MemoryLimiter() if connection is None else RedisLimiter(connection, config.store.prefix, token_hex(8))
    counted = Metrics(lambda: gauges(held, targets, loop.time()), workers_folder)
    held = Streams(
        store=store,
        client=client,
        targets=targets,
        limiter=limiter,
        config=config,
        descriptors=descriptors,
        ended=counted.stream_ended,
        epoch="" if neighbours is None else neighbours.epoch,
    )
    sharing = None if connection is None else Sharing(config.store, connection, held)
    if sharing is not None:
        held.share(sharing)
    lag = LagMeter(loop, counted.lagged)
    if workers_folder is None:
        warn_without_traces(config)
    tracer = _tracer(config, app[BOUNDS])

    catalogue = _catalogue(client, config, descriptors)
    bodies = BodyRoom(config.server.max_bodies_bytes)
    places = UpstreamPlaces(Places(loop.time), connection, Keys(config.store.prefix))
    app[SERVICES] = Services(
        config,
        KeyRing(config.keys),
        client,
        catalogue,
        held,
        targets,
        bodies,
        descriptors,
        counted,
        tracer,
        places,
        neighbours,
    )
    yield
    lag.stop()
    if sharing is not None:
        await sharing.close()
    await limiter.close()  # behind the ends of all streams, whose places it frees
    await places.close()
    if connection is not None:
        await connection.close()
    await app[SERVICES].catalogue.close()
    await client.close()
    if tracer is not None:
        await tracer.close()


def _neighbours_folder(config: Config, workers_folder: Path | None) -> Path | None:
    """The folder in which this process finds others of this gateway. None if it is the only one."""
    runtime_dir = config.server.runtime_dir
    return workers_folder if runtime_dir is None else Path(runtime_dir)


def _connection(config: Config, bounds: Bounds) -> Connection | None:
    """That to Redis. None if this process shares nothing."""
    if not config.store.is_shared:
        return None
    from gateway.shared.connection import RedisConnection  # its package is an extra; the configuration was checked

    store = config.store
    probe = Keys(store.prefix).probe
    return RedisConnection(store.url.reveal(), operation_seconds=bounds.redis_seconds, probe=probe)


def _tracer(config: Config, bounds: Bounds) -> Tracer | None:
    """None without an endpoint, or without the packages."""
    if config.traces.endpoint is None:
        return None
    try:
        from gateway.observe.traces import Traces  # the packages are an extra, and are loaded only if they are used
    except ImportError:
        return None
    return Traces(config.traces, config.traces.endpoint, bounds)


def warn_without_traces(config: Config) -> None:
    """Logs it if traces are configured and their packages are missing: once for each start, not for each worker.

    Loads the packages, so workers that are forked from this process share them.
    """
    try:
        if config.traces.endpoint is not None:
            import gateway.observe.traces  # noqa: F401 (as above)
    except ImportError:
        logger.warning("there are no traces, because packages are missing; install them with: pip install '%s'", _EXTRA)


def _catalogue(client: UpstreamClient, config: Config, descriptors: Descriptors) -> Catalogue:
    async def models(upstream: Upstream) -> Sequence[ModelFields]:
        with descriptors.upstream():
            return await client.models(upstream)

    return Catalogue(models, config, asyncio.get_running_loop().time)


async def reconfigure(app: web.Application, config: Config) -> Sequence[str]:
    """Uses another configuration for all requests from now on. Running answers go on.

    Returns the names of changed options that take effect at the next start only. Raises Faults, and OSError for a
    `ca_file` that cannot be read; then nothing has changed.
    """
    services = app[SERVICES]
    effective, ignored = effective_config(config, services.config)
    services.client.trust(effective.upstreams)
    services.config = effective
    services.keys = KeyRing(effective.keys)
    services.streams.configure(effective)
    services.targets.configure(effective)
    catalogue, services.catalogue = services.catalogue, _catalogue(services.client, effective, services.descriptors)
    await catalogue.close()
    return ignored


def effective_config(config: Config, old: Config) -> tuple[Config, Sequence[str]]:
    """The new configuration with the old values of what cannot change while the process runs, and their names.

    Raises Faults.
    """
    fixed = {name: getattr(old.server, name) for name in _FIXED}
    server = msgspec.structs.replace(config.server, **fixed)
    ignored = [f"server.{name}" for name, value in fixed.items() if getattr(config.server, name) != value]
    tables = {name: getattr(old, name) for name in _FIXED_TABLES}
    ignored += [name for name, value in tables.items() if getattr(config, name) != value]
    return checked(msgspec.structs.replace(config, server=server, **tables)), ignored


async def _end_streams(app: web.Application) -> None:
    await app[SERVICES].streams.close()
