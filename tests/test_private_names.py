"""The names that the gateway uses although aiohttp does not document them: one table, and a test for each row.

A row says which module uses the names, for what, and what happens where they are gone. Its test does with aiohttp what
the module does, so it also fails where a name is still there and means something else. No module uses a private name
of another package that is not in the table.
"""

import ast
import asyncio
import importlib
import inspect
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import SimpleNamespace

import aiohttp
import pytest
from aiohttp.client_proto import ResponseHandler

from gateway.handlers.sinks import hold_header
from gateway.upstream.client import can_push
from gateway.upstream.tap import HANDLER_NAMES, READER_NAMES
from tests.conftest import MakeGateway
from tests.rig import aiohttp_inside as inside
from tests.rig.clients import ask
from tests.rig.scripted_upstream import DONE, ScriptedUpstream, delta, finish, stream
from tests.rig.ways import PUSHES
from tests.test_architecture import PATHS, imports, tree_of


@dataclass(frozen=True)
class Use:
    """Names that a module uses. `means` fails where they do not mean what the module takes them to mean."""

    module: str
    names: tuple[str, ...]
    purpose: str
    without: str
    means: Callable[[], Awaitable[None]]


TABLE = [
    Use(
        "gateway.handlers.sinks",
        ("StreamResponse._send_headers_immediately",),
        "the header of a stream leaves in one packet with its first events",
        "the header leaves in a packet of its own",
        inside.a_header_can_be_held,
    ),
    Use(
        "gateway.handlers.sinks",
        ("BaseRequest.writer", "AbstractStreamWriter.output_size", "AbstractStreamWriter.drain"),
        "events are written past aiohttp's writer, as chunks of the body, and counted there for the access log",
        "no answer can be streamed",
        inside.chunks_can_pass_the_writer,
    ),
    Use(
        "gateway.handlers.middleware",
        ("BaseRequest.writer", "AbstractStreamWriter.output_size"),
        "an error becomes a status only as long as no byte of a response has left",
        "errors break the connection off",
        inside.a_header_can_be_held,
    ),
    Use(
        "gateway.door",
        ("Server.connection_made", "Server.connection_lost"),
        "clients are counted, so that new ones wait while the process has no descriptor for them",
        "the gateway does not start; where aiohttp no longer calls them, clients are not counted and none waits",
        inside.a_server_is_told_of_connections,
    ),
    Use(
        "gateway.app",
        ("auto_decompress", "max_line_size", "max_field_size", "keepalive_timeout"),
        "a handler is given the options of our server",
        "aiohttp drops every option with a warning",
        inside.a_handler_takes_the_options,
    ),
    Use(
        "gateway.app",
        ("aiohttp.http_exceptions.HttpProcessingError",),
        "a request that is not HTTP is one line in the log, without a traceback",
        "the gateway does not start",
        inside.what_is_not_http_is_logged_with_its_error,
    ),
    Use(
        "gateway.upstream.tap",
        (*[f"StreamReader.{name}" for name in READER_NAMES], "StreamReader.__class__"),
        "reads are collected in the reader, and taken from it in the turn of the loop that brings them",
        "reads are pulled, at 1.25 times the CPU time of an event",
        inside.a_reader_can_collect,
    ),
    Use(
        "gateway.upstream.tap",
        tuple(f"ResponseHandler.{name}" for name in HANDLER_NAMES),
        "what a transport brings is parsed into the reader in the same call",
        "reads are pulled, at 1.25 times the CPU time of an event",
        inside.a_handler_parses_in_the_call_that_brings_the_data,
    ),
    Use(
        "gateway.upstream.client.response",
        ("Connection.protocol", "aiohttp.client_proto.ResponseHandler"),
        "a tap takes the place of the protocol of an open connection",
        "reads are pulled, at 1.25 times the CPU time of an event",
        inside.a_handler_parses_in_the_call_that_brings_the_data,
    ),
    Use(
        "gateway.upstream.client.response",
        ("ResponseHandler.closed", "StreamReader.set_exception"),
        "a read ends when its connection is closed, also behind a malformed chunk",
        "a pulled read behind a malformed chunk waits until the time limit of the stream",
        inside.a_lost_connection_is_told_of,
    ),
    Use(
        "gateway.upstream.client.connections",
        ("TCPConnector.connect", "Connection.protocol", "ResponseHandler.should_close"),
        "a connection is not used again on which something came while it rested",
        "a response that nobody asked for is taken as the one to the next request",
        inside.a_connection_tells_what_came_while_it_rested,
    ),
    Use(
        "gateway.upstream.client.translation",
        ("ServerDisconnectedError.message",),
        "a request is repeated only where no byte of a response has come",
        "a request may be repeated that the upstream has begun to answer",
        inside.an_error_says_whether_a_response_had_begun,
    ),
    Use(
        "gateway.upstream.client.translation",
        ("ClientResponseError.message",),
        "a TLS alert is told from other bytes that are not HTTP",
        "the error does not say that `base_url` needs https",
        inside.an_error_quotes_what_is_not_http,
    ),
    Use(
        "gateway.upstream.client.translation",
        ("ClientConnectorError.os_error", "ClientConnectorCertificateError.certificate_error", "host", "port"),
        "an error says why no connection was made, and whether it is the proxy's",
        "the error only says that the server cannot be reached",
        inside.an_error_holds_what_the_system_said,
    ),
]


async def held(use: Use) -> None:
    """Fails with a message for whoever has upgraded aiohttp."""
    try:
        async with asyncio.timeout(10):
            await use.means()
    except Exception as error:
        pytest.fail(
            f"{use.module} relies on {', '.join(use.names)}, so that {use.purpose}. "
            f"In aiohttp {aiohttp.__version__} that does not hold: {error!r}. Until the module follows: {use.without}."
        )


@pytest.mark.parametrize("use", TABLE, ids=[f"{use.module}-{use.names[0]}" for use in TABLE])
async def test_the_names_mean_what_their_module_relies_on(use: Use) -> None:
    await held(use)


async def test_a_name_that_is_gone_is_told_with_who_relies_on_it() -> None:
    async def fails() -> None:
        raise AttributeError("closed")

    message = r"gateway\.x relies on a, b, so that it works\. In aiohttp .*AttributeError\('closed'\).*: it is slow\."
    with pytest.raises(pytest.fail.Exception, match=message):
        await held(Use("gateway.x", ("a", "b"), "it works", "it is slow", fails))


# The plain ways


async def test_a_stream_is_the_same_where_its_header_cannot_be_held(
    gateway: MakeGateway, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    response = SimpleNamespace()
    hold_header(response)  # type: ignore[arg-type] # it has none of aiohttp's names
    assert vars(response) == {}
    monkeypatch.setattr("gateway.handlers.sinks.hold_header", lambda response: None)
    upstream.script(stream(delta("a"), delta("b"), finish(), DONE))
    assert (await ask(await gateway())).text == "ab"


@pytest.mark.parametrize("pushes", [True, False])
async def test_a_stream_is_the_same_where_nothing_tells_of_its_lost_connection(
    gateway: MakeGateway, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch, pushes: bool
) -> None:
    upstream.script(stream(delta("a"), delta("b"), finish(), DONE))
    client = await gateway()
    with monkeypatch.context() as patch:
        patch.delattr(ResponseHandler, "closed")
        patch.setattr(PUSHES, pushes)
        assert (await ask(client)).text == "ab"


def test_reads_are_pulled_where_aiohttp_has_another_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    assert can_push()
    with monkeypatch.context() as patch:
        patch.delattr(aiohttp.client_proto, "ResponseHandler")
        assert not can_push()
    monkeypatch.delattr(aiohttp, "client_proto")
    assert not can_push()


# Nothing else

INNER = r"(aiohttp|asyncio|uvloop)\.(?!(web|abc)\.)\w+\."
REPLACED = r"\.(\w+) = .*# type: ignore\[(?:method-assign|attr-defined)"


def rows(module: str) -> set[str]:
    """The last parts of the names that the table has for a module."""
    return {name.rpartition(".")[2] for use in TABLE if use.module == module for name in use.names}


def private_names(tree: ast.AST) -> set[str]:
    """Those with an underscore, of anything but the object or class itself."""
    return {name for node in ast.walk(tree) if re.match("_[^_]", name := foreign_name(node))}


def foreign_name(node: ast.AST) -> str:
    match node:
        case ast.Attribute(value=ast.Name("self" | "cls")) | ast.Attribute(value=ast.Call(ast.Name("super"))):
            return ""
        case ast.Attribute(attr=name):
            return name
        case ast.Call(ast.Name("getattr" | "setattr" | "hasattr" | "delattr"), [_, ast.Constant(str(name)), *_]):
            return name
        case _:
            return ""


def test_how_private_names_are_found() -> None:
    source = """
a._b = c(d._e).f[0]._g
self._own, cls._own, super()._own, x.y, x.__class__
self._h._i()
getattr(j, "_k", None), hasattr(l, "m")
"""
    assert private_names(ast.parse(source)) == {"_b", "_e", "_g", "_i", "_k"}


def test_no_private_name_is_used_that_is_not_in_the_table() -> None:
    only_a_type = {"_Decompress"}  # as the type checker calls it; it stands in an annotation, which never runs
    unknown = {module: private_names(tree_of(module)) - rows(module) - only_a_type for module in PATHS}
    assert {module: names for module, names in unknown.items() if names} == {}


def test_no_inner_module_is_imported_that_is_not_in_the_table() -> None:
    """Of aiohttp, `aiohttp` itself, `aiohttp.web` and `aiohttp.abc` are documented."""
    inner = [(module, name) for module in PATHS for name in imports(module) if re.match(INNER, name)]
    assert [(module, name) for module, name in inner if name.rpartition(".")[2] not in rows(module)] == []


def test_nothing_is_put_over_a_foreign_name_that_is_not_in_the_table() -> None:
    """The type checker has to be told of it, in a comment."""
    sources = [(module, path.read_text(encoding="utf-8")) for module, path in PATHS.items()]
    replaced = [(module, name) for module, source in sources for name in re.findall(REPLACED, source)]
    assert ("gateway.door", "connection_made") in replaced
    assert [(module, name) for module, name in replaced if name not in rows(module)] == []


def test_no_class_overrides_a_private_name_of_its_foreign_parent() -> None:
    """Not by chance, either."""
    modules = [importlib.import_module(module) for module in PATHS if module != "gateway.__main__"]
    kinds = {kind for module in modules for _, kind in inspect.getmembers(module, inspect.isclass)}
    taken = {(kind, name) for kind in kinds if is_ours(kind) for name in vars(kind) if is_taken(kind, name)}
    assert taken == set()


def is_ours(kind: type) -> bool:
    return kind.__module__.partition(".")[0] == "gateway"


def is_taken(kind: type, name: str) -> bool:
    foreign = [
        base for base in kind.__mro__ if base.__module__.partition(".")[0] in {"aiohttp", "aiohttp_sse", "asyncio"}
    ]
    return bool(re.match("_(?!_|abc_impl)", name)) and any(name in vars(base) for base in foreign)


def test_every_row_is_of_use() -> None:
    """Its module still has each name."""
    sources = {module: PATHS[module].read_text(encoding="utf-8") for module in PATHS}
    names = [(use.module, name.rpartition(".")[2]) for use in TABLE for name in use.names]
    assert [(module, name) for module, name in names if not re.search(rf"\b{name}\b", sources[module])] == []
