"""Runs applications on sockets until a signal stops them. The event loop is uvloop's, except on Windows."""

import asyncio
import contextlib
import gc
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from aiohttp import web

from gateway.admission.descriptors import Descriptors, highest_limit
from gateway.app import create_app, server_options
from gateway.bounds import DEFAULT_BOUNDS, Bounds
from gateway.config import Config
from gateway.door import Door

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


# Python's collector looks at what has survived each time that this many more objects live, 20 times as many, and 400
# times. With its own 700, 10 and 10, and with all modules looked at, a short stream costs a tenth more CPU time.
_COLLECTOR = (10_000, 20, 20)


def run(main: Coroutine[Any, Any, None]) -> None:
    gc.collect()
    gc.freeze()  # what is loaded by now stays
    gc.set_threshold(*_COLLECTOR)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(main)


async def serve(config: Config, announce: Callable[[str], None], *, cost: int = 1) -> None:
    """Serves the gateway until SIGTERM or SIGINT. Calls `announce` with its address once it listens. Raises OSError.

    `cost` is the number of descriptors that one upstream connection takes in this process.
    """
    stopped = _stop_signal()
    descriptors = Descriptors(highest_limit(), cost=cost)
    app, server = create_app(config, descriptors), config.server
    async with listening(app, server.host, server.port, descriptors, **server_options()) as address:
        announce(address)
        await stopped.wait()


async def serve_app(app: web.Application, host: str, port: int, announce: Callable[[str], None]) -> None:
    """Serves another application in the same way."""
    stopped = _stop_signal()
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
    runner = web.AppRunner(app, **options)
    await runner.setup()
    assert runner.server is not None
    door = Door(runner.server, descriptors or Descriptors(None), bounds)
    try:
        yield await door.open(host, port)
    finally:
        await door.close()
        await runner.cleanup()


def _stop_signal() -> asyncio.Event:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C raises KeyboardInterrupt instead
            loop.add_signal_handler(number, stopped.set)
    return stopped


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Makes the event loop that is served on: uvloop's. None means asyncio's own, where uvloop cannot be installed."""
    if sys.platform == "win32":
        return None
    import uvloop  # does not exist on Windows

    return uvloop.new_event_loop
