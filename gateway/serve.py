"""Runs apps on sockets until a signal says stop. The event loop is uvloop's where it is installed."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from aiohttp import web

from gateway.app import create_app, server_options
from gateway.config import Config

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def run(main: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(main)


async def serve(config: Config, announce: Callable[[str], None]) -> None:
    """Serves the gateway until SIGTERM or SIGINT. `announce` is given the address once it is open. Raises OSError."""
    stopped = _stop_signal()
    async with listening(create_app(config), config.server.host, config.server.port, **server_options()) as address:
        announce(address)
        await stopped.wait()


async def serve_app(app: web.Application, host: str, port: int, announce: Callable[[str], None]) -> None:
    """The same for another app than the gateway."""
    stopped = _stop_signal()
    async with listening(app, host, port, access_log=None) as address:
        announce(address)
        await stopped.wait()


@contextlib.asynccontextmanager
async def listening(app: web.Application, host: str, port: int, **options: Any) -> AsyncIterator[str]:
    """The app on an open socket; yields its address as a URL. Port 0 takes any that is free. Raises OSError."""
    runner = web.AppRunner(app, **options)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        bound = runner.addresses[0][1]
        yield f"http://{f'[{host}]' if ':' in host else host}:{bound}"
    finally:
        await runner.cleanup()


def _stop_signal() -> asyncio.Event:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C raises KeyboardInterrupt instead
            loop.add_signal_handler(number, stopped.set)
    return stopped


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if sys.platform == "win32":
        return None
    import uvloop  # has no Windows build, so it is not imported where it cannot be

    return uvloop.new_event_loop
