"""What tests of streams stand on: a scripted upstream, and the gateway in front of it, both on real sockets."""

import asyncio
import json
import logging
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from aiohttp.web_protocol import RequestHandler
from hypothesis import settings

from gateway.app import create_app, server_options
from gateway.bounds import DEFAULT_BOUNDS, Bounds
from gateway.config import Config, load
from gateway.observe.formatters import JsonFormatter, TerminalFormatter
from gateway.serve import loop_factory
from tests.rig.across import Across
from tests.rig.overheard import HeardTransport, Overheard, access_lines
from tests.rig.redis import running_redis
from tests.rig.scripted_upstream import ScriptedUpstream

# No deadline: machines that run tests are slow at times. `.ci/long` asks for the long profile.
settings.register_profile("default", deadline=None)
settings.register_profile("long", deadline=None, max_examples=5_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

Loops = dict[str, Callable[[], asyncio.AbstractEventLoop]]
Client = TestClient[web.Request, web.Application]
MakeGateway = Callable[..., Awaitable[Client]]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--store", choices=["memory", "redis", "across"], default="memory", help="where streams of the tests rest"
    )
    parser.addoption("--long", action="store_true", help="the whole suite, with the tests that take long")
    parser.addoption("--loop", choices=["served", "asyncio"], default="served", help="the event loop of the tests")


def pytest_configure(config: pytest.Config) -> None:
    """Tests that are named run, however long they take. The processes of pytest-xdist only know the options."""
    config.option.long |= config.args_source is not pytest.Config.ArgsSource.TESTPATHS and not is_worker(config)


def is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = set()
    if config.getoption("--store") != "memory":
        left_out.add("memory")
    if config.getoption("--store") == "across":
        left_out.add("inside")
    if not config.getoption("--long"):
        left_out.add("long")
    items[:] = [item for item in items if left_out.isdisjoint(marker.name for marker in item.iter_markers())]


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Two processes for the whole suite. Tests that are chosen run in this one, where `-s` and a debugger work."""
    return 2 if config.args_source is pytest.Config.ArgsSource.TESTPATHS else 0


def pytest_asyncio_loop_factories(config: pytest.Config) -> Loops:
    """The event loop that the command serves on, which is uvloop's where there is one; or asyncio's own."""
    served = loop_factory() or asyncio.new_event_loop
    return {"loop": asyncio.new_event_loop if config.getoption("--loop") == "asyncio" else served}


@pytest.fixture(scope="session")
def store_url(pytestconfig: pytest.Config) -> Iterator[str]:
    """With `--store redis` or `--store across`, that of a Redis for all tests of this process. Else empty."""
    if pytestconfig.getoption("--store") == "memory":
        yield ""
        return
    with running_redis() as url:
        yield url


@pytest.fixture
async def upstream(overheard: Overheard) -> AsyncIterator[ScriptedUpstream]:
    server = ScriptedUpstream()
    await server.start()
    yield server
    await server.stop()
    overheard.keep_prompts([request.body for request in server.requests])


@pytest.fixture
async def gateway(
    upstream: ScriptedUpstream, overheard: Overheard, store_url: str, pytestconfig: pytest.Config
) -> AsyncIterator[MakeGateway]:
    """`await gateway(toml)`: a client of a gateway that is configured by `toml` and asks the scripted upstream."""
    clients: list[Client] = []
    options = server_options()
    is_across = pytestconfig.getoption("--store") == "across"
    assert options.pop("handler_cancellation")  # a TestServer has it anyway, and takes it only from itself

    async def make(toml: str = "", config: Config | None = None, bounds: Bounds = DEFAULT_BOUNDS) -> Client:
        config = config or configured(upstream.url, with_store(toml, store_url))
        overheard.keep_keys(config)
        servers = [TestServer(create_app(config, bounds=bounds)) for _ in range(2 if is_across else 1)]
        for server in servers:
            await server.start_server(**options)
        client: Client = TestClient(servers[-1])
        clients.append(client)
        if is_across:
            client = Across(servers[0], client)
            clients.insert(0, client)
        return client

    yield make
    for client in clients:
        await client.close()


@pytest.fixture(autouse=True)
def no_tracebacks(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing that a client or an upstream does is an exception in the gateway's log."""
    yield
    broken = [record.getMessage() for record in caplog.get_records("call") if record.exc_info]
    errors = [record.getMessage() for record in caplog.get_records("call") if record.levelno >= logging.ERROR]
    assert not broken + errors


@pytest.fixture(autouse=True)
def overheard(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Iterator[Overheard]:
    """No key and no prompt is in what the gateway logged or answered."""
    heard = Overheard()
    connect, receive = RequestHandler.connection_made, RequestHandler.data_received
    accesses: list[logging.LogRecord] = []

    def connection_made(self: Any, transport: Any) -> None:
        before: Any = HeardTransport(transport, heard)
        connect(self, before)

    def data_received(self: Any, data: bytes) -> None:
        heard.keep_request(data)
        receive(self, data)

    monkeypatch.setattr(RequestHandler, "connection_made", connection_made)
    monkeypatch.setattr(RequestHandler, "data_received", data_received)
    with access_lines(accesses.append):
        yield heard
    for record in [*caplog.get_records("call"), *accesses]:
        for formatter in (JsonFormatter(), TerminalFormatter()):
            heard.hear("log", formatter.format(record).encode(errors="replace"))
    assert heard.leaks() == []


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No .env and no variables of the person who runs the tests."""
    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    """The access log, each line as it was written: what is told of goes on changing, what was written does not."""
    written: list[dict[str, Any]] = []

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            written.append(json.loads(JsonFormatter().format(record)))

    logger, handler = logging.getLogger("gateway.access"), Lines()
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield written
    logger.removeHandler(handler)
    logger.setLevel(level)


def with_store(toml: str, url: str) -> str:
    """The configuration with this store, unless it names one. The gateway shares it with no other."""
    if not url or "redis://" in toml:
        return toml
    line = f'url = "{url}"\nprefix = "{secrets.token_hex(8)}:"\n'
    return toml.replace("[store]\n", f"[store]\n{line}", 1) if "[store]\n" in toml else f"{toml}\n[store]\n{line}"


def configured(url: str, toml: str = "") -> Config:
    """One attempt at each answer, unless `toml` has a table about retries. So a test sees the fault that it scripts."""
    retry = "" if "[retry]" in toml else "[retry]\nattempts = 1\n"
    return load(
        f'{toml}\n{retry}[[upstreams]]\nname = "up"\nbase_url = "{url}/v1"\napi_key = "key-of-the-upstream"\n', ENVIRON
    )


ENVIRON = {"OPENAI_MODEL": "default-model"}
