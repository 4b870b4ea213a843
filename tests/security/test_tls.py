"""Attacker: someone between the gateway and an upstream, or Redis, who answers in its place.

It wants the gateway's key and the prompts. There is no option that turns the check of a certificate off, neither in the
code nor in the configuration, and no variable of the environment does it.
"""

import ast
import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trustme

from gateway.config import Config, Faults, load
from tests.conftest import ENVIRON, MakeGateway
from tests.rig.clients import bearer
from tests.rig.scripted_upstream import ScriptedUpstream
from tests.test_architecture import PATHS, tree_of

from .routes import ASKING, KEYS, ONE

# The code

NAMES = {"CERT_NONE", "CERT_OPTIONAL", "_create_unverified_context", "TLSVersion", "_create_default_https_context"}
SWITCHES = {"ssl", "verify", "verify_ssl", "verify_mode", "check_hostname", "cert_reqs", "ssl_cert_reqs", "insecure"}
SWITCHES |= {"ssl_check_hostname", "validate_certs", "minimum_version", "set_ciphers"}


def weaknesses(tree: ast.AST) -> Iterator[str]:
    """Where it names a way to trust anyone, or sets a switch to a constant that is not true."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(attr=name) | ast.Name(id=name) | ast.alias(name=name) if name in NAMES:
                yield ast.unparse(node)
            case ast.keyword(arg=name, value=value) if name in SWITCHES and not is_true(value):
                yield ast.unparse(node)
            case ast.Assign(targets=[ast.Attribute(attr=name)], value=value) if name in SWITCHES and not is_true(value):
                yield ast.unparse(node)
            case ast.Dict():
                for key, value in zip(node.keys, node.values, strict=True):
                    if isinstance(key, ast.Constant) and key.value in SWITCHES and not is_true(value):
                        yield f"{ast.unparse(key)}: {ast.unparse(value)}"


def is_true(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value is True


def test_no_line_turns_the_check_off() -> None:
    """The one switch that is set is aiohttp's, to True or to a context of ours, which is the default one."""
    found = {(module, where) for module in PATHS for where in weaknesses(tree_of(module))}
    assert found == {
        ("gateway.upstream.client.posting", "'ssl': True if upstream.ca_file is None else self._ssl[upstream.ca_file]"),
        ("gateway.commands.wire", "ssl=context if is_tls else None"),  # by the scheme of the address
    }
    calls = [node for module in PATHS for node in ast.walk(tree_of(module)) if isinstance(node, ast.Call)]
    made = {ast.unparse(call.func) for call in calls if "context" in ast.unparse(call.func).lower()}
    assert {name for name in made if "ssl" in name.lower()} == {"ssl.create_default_context"}


@pytest.mark.parametrize(
    "line",
    [
        "aiohttp.TCPConnector(ssl=False)",
        "session.get(url, verify_ssl=False)",
        "requests.get(url, verify=False)",
        "context.check_hostname = False",
        "context.verify_mode = ssl.CERT_NONE",
        "from ssl import CERT_NONE",
        "ssl._create_unverified_context()",
        "options = {'ssl': None}",
        "connect(ssl_cert_reqs='none')",
    ],
)
def test_such_a_line_is_found(line: str) -> None:
    assert list(weaknesses(ast.parse(line)))


# The configuration


def options(kind: Any, path: str = "") -> Iterator[str]:
    for field in msgspec.structs.fields(kind):
        yield f"{path}{field.encode_name}"
        for inner in [field.type, *getattr(field.type, "__args__", ())]:
            if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
                yield from options(inner, f"{path}{field.encode_name}.")


def test_no_option_turns_the_check_off() -> None:
    """`ca_file` adds an authority, and takes none away from the check."""
    names = list(options(Config))
    assert "upstreams.ca_file" in names
    words = ("verif", "insecure", "trust", "tls", "ssl", "cert", "hostname", "skip", "unsafe")
    assert [name for name in names if any(word in name for word in words)] == ["server.trusted_proxies"]


UNVERIFIED = [
    "rediss://h/0?ssl_cert_reqs=none",
    "rediss://h/0?ssl_cert_reqs=optional",
    "rediss://h/0?ssl_ca_certs=/ca.pem&ssl_cert_reqs=none",
    "rediss://h/0?ssl%5Fcert_reqs=none",
    "rediss://h/0?ssl_check_hostname=false",
    "unix:///redis.sock?ssl_check_hostname=0",
]


@pytest.mark.parametrize("url", UNVERIFIED)
def test_the_address_of_redis_does_not_turn_it_off_either(url: str) -> None:
    """redis-py would read it there."""
    with pytest.raises(Faults, match=r"^store\.url: the certificate is always verified; leave ssl_\w+ out$"):
        load(f'[store]\nurl = "{url}"', ENVIRON)


def test_an_authority_of_ones_own_is_no_fault() -> None:
    url = "rediss://user:password@h/0?ssl_ca_certs=/ca.pem"
    assert load(f'[store]\nurl = "{url}"', ENVIRON).store.url.reveal() == url


# Connections

AUTHORITY = trustme.CA()
ALONE = "[retry]\nattempts = 1\n[breaker]\nfailures = 1000\n"
YESTERDAY = datetime.now(UTC) - timedelta(days=1)
CERTIFICATES = {
    "of an authority that nobody knows": trustme.CA().issue_cert("localhost", "127.0.0.1"),
    "for another name": AUTHORITY.issue_cert("evil.example"),
    "for a name that only begins like it": AUTHORITY.issue_cert("localhost.evil.example"),
    "for all names of another domain": AUTHORITY.issue_cert("*.evil.example"),
    "that has expired": AUTHORITY.issue_cert("localhost", not_after=YESTERDAY),
}
# What turns the check off elsewhere: in Python's own client, requests, curl, Node and git.
VARIABLES = {
    "PYTHONHTTPSVERIFY": "0",
    "REQUESTS_CA_BUNDLE": "",
    "CURL_CA_BUNDLE": "",
    "NODE_TLS_REJECT_UNAUTHORIZED": "0",
    "GIT_SSL_NO_VERIFY": "1",
    "SSL_VERIFY": "false",
}


class Impostor:
    """A TLS server that keeps what it is sent."""

    def __init__(self) -> None:
        self.heard = b""
        self.connections = 0

    @asynccontextmanager
    async def serving(self, certificate: trustme.LeafCert) -> AsyncIterator[int]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        context.sni_callback = lambda *_: self._count()
        server = await asyncio.start_server(self._hear, "127.0.0.1", 0, ssl=context)
        async with server:
            yield server.sockets[0].getsockname()[1]

    def _count(self) -> None:
        self.connections += 1

    async def _hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.heard += await reader.read(65_536)
        except (ConnectionError, ssl.SSLError):
            pass
        finally:
            writer.close()


@pytest.mark.parametrize("case", CERTIFICATES)
async def test_fault_52_an_impostor_hears_nothing(
    gateway: MakeGateway,
    upstream: ScriptedUpstream,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    case: str,
) -> None:
    """On no route that asks, and in no way that a person turns the check off elsewhere."""
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    AUTHORITY.cert_pem.write_to_path(tmp_path / "ca.pem")
    impostor = Impostor()
    async with impostor.serving(CERTIFICATES[case]) as port:
        client = await gateway(
            f'{KEYS}{ALONE}[[upstreams]]\nname = "tls"\nbase_url = "https://localhost:{port}/v1"\n'
            f'api_key = "key-of-the-upstream"\nca_file = "{tmp_path}/ca.pem"\n'
        )
        for route in ASKING:
            if route.path in ("/streams", "/v1/messages/count_tokens"):
                continue  # they answer before an upstream is asked, or without one
            headers = {"Accept": "application/json", **bearer(ONE)}
            async with client.request(route.method, route.path + route.query, json=route.body, headers=headers) as got:
                assert got.status == 502, (str(route), await got.text())
                assert "certificate" in await got.text()
    assert impostor.connections >= len(ASKING) - 2
    assert impostor.heard == b""
    assert not upstream.requests


async def test_whom_the_configuration_names_is_heard(
    gateway: MakeGateway, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """So the refusals above are those of the certificates."""
    AUTHORITY.cert_pem.write_to_path(tmp_path / "ca.pem")
    named = Impostor()
    async with named.serving(AUTHORITY.issue_cert("localhost")) as port:
        client = await gateway(
            f'{KEYS}{ALONE}[[upstreams]]\nname = "tls"\nbase_url = "https://localhost:{port}/v1"\n'
            f'ca_file = "{tmp_path}/ca.pem"\n'
        )
        async with client.get("/chat?q=hi", headers=bearer(ONE)) as response:
            assert response.status == 502
    assert named.heard.startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
