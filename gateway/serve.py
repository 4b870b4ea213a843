"""Runs applications on sockets until a signal stops them. The event loop is uvloop's, except on Windows."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from aiohttp import web

from gateway.admission.descriptors import Descriptors, highest_limit
from gateway.app import create_app, reconfigure, server_options
from gateway.bounds import DEFAULT_BOUNDS, Bounds
from gateway.config import Config, Faults
from gateway.door import Door
from gateway.handlers.services import SERVICES
from gateway.notify import Notifier
from gateway.port import Port, bind, url_of
from gateway.takeover import Takeover
from gateway.upstream.routing import longest_answer

logger = logging.getLogger(__name__)

_DRAINING = "waiting for %d running answers, at most %g seconds; a second signal ends them"
_OUTLASTING = "answers of the process that has the port now are passed on, for at most %g seconds; a signal ends them"
READY = "accepting requests"
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_END_SECONDS = 15.0  # from the last answer to the end of the process, as `operating.md` counts it


# Python's collector looks at what has survived each time that this many more objects live, 20 times as many, and 400
# times. With its own 700, 10 and 10, and with all modules looked at, a short stream costs a tenth more CPU time.
_COLLECTOR = (10_000, 20, 20)


def run(main: Coroutine[Any, Any, None]) -> None:
    gc.collect()
    gc.freeze()  # what is loaded by now stays
    gc.set_threshold(*_COLLECTOR)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(main)


class Supervisor(Protocol):
    """Hears of the state of the process: systemd, or the parent of several workers."""

    def ready(self, status: str) -> None: ...
    def reloading(self) -> None: ...
    def stopping(self, status: str, seconds: float | None = None) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What differs between a process alone and one of several workers."""

    port: Callable[[web.Application, Callable[[], None]], Port]  # of the app; it may call the function to stop it
    supervisor: Supervisor
    stop_signals: Callable[[], tuple[asyncio.Event, asyncio.Event]]
    workers_folder: Path | None = None  # in which several workers have their metrics, and find each other
    is_alone: bool = True  # else the parent logs a reload


def alone(config: Config) -> Place:
    server = config.server

    def port(app: web.Application, stop: Callable[[], None]) -> Port:
        if server.runtime_dir is not None:
            return Takeover(app, server.host, server.port, stop)
        return Port(lambda: bind(server.host, server.port))

    return Place(port=port, supervisor=Notifier(os.environ, os.getpid()), stop_signals=_stop_signals)


async def serve(
    config: Config,
    announce: Callable[[str], None],
    place: Place,
    *,
    cost: int = 1,
    reread: Callable[[], Config] | None = None,
) -> None:
    """Serves the gateway until SIGTERM or SIGINT. Calls `announce` with its address once it listens. Raises OSError.

    After the signal it drains: it answers health checks and clients that come back, refuses new work, and ends when the
    running answers have ended. A second signal, or `server.drain_seconds`, ends these answers. It also drains when
    another process has taken over its port, and then outlasts the answers of that process which it passes on.

    `cost` is the number of descriptors that one upstream connection takes in this process. SIGHUP calls `reread` for
    another configuration, which is used from then on. The supervisor is told of each change.
    """
    stopped, hurry = place.stop_signals()
    descriptors = Descriptors(highest_limit(), cost=cost)
    app, server = create_app(config, descriptors, workers_folder=place.workers_folder), config.server
    taken = asyncio.Event()
    port = place.port(app, taken.set)
    async with _serving(app, port, descriptors, **server_options()) as sockets:
        announce(url_of(sockets, server.host))
        with contextlib.closing(place.supervisor) as supervisor:
            _reload_on_signal(app, reread, place)
            supervisor.ready(READY)
            await _first_of(stopped, taken)
            streams = app[SERVICES].streams
            supervisor.stopping(f"waiting for {len(streams)} running answers")
            if len(streams):
                logger.warning(_DRAINING, len(streams), server.drain_seconds)
            started = time.monotonic()
            await streams.drain(server.drain_seconds, hurry)
            await port.linger(started + server.drain_seconds - time.monotonic(), hurry)
            if port.is_passing_on and not stopped.is_set():  # after a signal, somebody waits for the end
                await _outlast(app, port, supervisor, stopped)


async def _outlast(app: web.Application, port: Port, supervisor: Supervisor, stopped: asyncio.Event) -> None:
    """Ends the answers of this process. Then waits for those that it passes on, which would be cut in their middle."""
    services = app[SERVICES]
    seconds = longest_answer(services.config)
    logger.warning(_OUTLASTING, seconds)
    supervisor.stopping("passing on answers of another process", seconds + _END_SECONDS)
    await services.streams.close()
    await port.outlast(seconds, stopped)


async def _first_of(*events: asyncio.Event) -> None:
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


async def serve_app(app: web.Application, host: str, port: int, announce: Callable[[str], None]) -> None:
    """Serves another application in the same way."""
    stopped, _ = _stop_signals()
    highest_limit()
    async with listening(app, host, port, access_log=None) as address:
        announce(address)
        await stopped.wait()


@contextlib.asynccontextmanager
async def listening(
    app: web.Application,
    host: str,
    port: int,
    descriptors: Descriptors | None = None,
    bounds: Bounds = DEFAULT_BOUNDS,
    **options: Any,
) -> AsyncIterator[str]:
    """Serves the app on a socket and yields its address as a URL. Port 0 means any free port. Raises OSError."""
    own = Port(lambda: bind(host, port, bounds))
    async with _serving(app, own, descriptors or Descriptors(None), bounds, **options) as sockets:
        yield url_of(sockets, host)


@contextlib.asynccontextmanager
async def _serving(
    app: web.Application, port: Port, descriptors: Descriptors, bounds: Bounds = DEFAULT_BOUNDS, **options: Any
) -> AsyncIterator[Sequence[socket.socket]]:
    """Serves the app on the port, and yields its listening sockets."""
    runner = web.AppRunner(app, **options)
    await runner.setup()
    assert runner.server is not None
    door = Door(runner.server, descriptors, bounds)
    try:
        await port.open(runner.server, door)
        yield door.sockets
    finally:
        await door.close()
        port.close()
        await runner.cleanup()


def _reload_on_signal(app: web.Application, reread: Callable[[], Config] | None, place: Place) -> None:
    if sys.platform == "win32":
        return
    loop = asyncio.get_running_loop()
    running: set[asyncio.Task[None]] = set()

    async def reload() -> None:
        place.supervisor.reloading()
        if reread is None:
            logger.warning("there is no configuration file to read again")
        else:
            await _reload(app, reread, is_told=place.is_alone)
        place.supervisor.ready(READY)

    def start() -> None:
        if not running:  # else the signal came twice
            task = loop.create_task(reload())
            running.add(task)
            task.add_done_callback(running.discard)

    loop.add_signal_handler(signal.SIGHUP, start)


async def _reload(app: web.Application, reread: Callable[[], Config], *, is_told: bool) -> None:
    """Uses the configuration that `reread` returns. With faults, the old one stays, and the log has each fault."""
    try:
        config = reread()
        ignored = await reconfigure(app, config)
    except Exception as error:  # the process goes on with what it has
        log_refused(error)
    else:
        if is_told:
            log_reloaded(ignored)


def log_refused(error: Exception) -> None:
    for fault in error.faults if isinstance(error, Faults) else [error]:
        logger.error("the configuration is not used: %s", fault)


def log_reloaded(ignored: Sequence[str]) -> None:
    logger.warning("the configuration was read again")
    if ignored:
        logger.warning("these options change at the next start: %s", ", ".join(ignored))


def _stop_signals() -> tuple[asyncio.Event, asyncio.Event]:
    """Two events: the first signal sets the first of them, and a later one sets the second, too."""
    first, second = asyncio.Event(), asyncio.Event()

    def stop() -> None:
        (second if first.is_set() else first).set()

    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C raises KeyboardInterrupt instead
            loop.add_signal_handler(number, stop)
    return first, second


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Makes the event loop that is served on: uvloop's. None means asyncio's own, where uvloop cannot be installed."""
    if sys.platform == "win32":
        return None
    import uvloop  # does not exist on Windows

    return uvloop.new_event_loop
