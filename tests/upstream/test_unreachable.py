"""A connection that is not made is told of as what it is, on real sockets: TLS, a refusal, a name that nobody knows."""

import asyncio
import errno
import logging
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from gateway.config import Timeouts, Upstream
from gateway.errors import GatewayError, OutOfDescriptors, UpstreamMisconfigured, UpstreamTLS, UpstreamUnreachable
from gateway.upstream.client import UpstreamClient
from gateway.upstream.routing import Target
from gateway.upstream.unreachable import from_os, from_proxy
from tests.rig.ports import refusing

AGAIN = "again in a moment"
AUTHORITY = trustme.CA()
YESTERDAY = datetime.now(UTC) - timedelta(days=1)

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 0\r\n\r\n")
    await writer.drain()
    writer.close()


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)  # uvloop takes what comes before the question for a broken connection
    writer.write(b"SSH-2.0-OpenSSH_9.2p1\r\n")
    writer.close()


@asynccontextmanager
async def serving(handler: Handler = answer, certificate: trustme.LeafCert | None = None) -> AsyncIterator[int]:
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
    server = await asyncio.start_server(handler, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def refused(base_url: str, ca_file: str | None = None, proxy: str | None = None) -> GatewayError:
    """The error of a request to this upstream, and the same of a look at its models."""
    upstream = Upstream(name="up", base_url=base_url, ca_file=ca_file, proxy=proxy)
    client = UpstreamClient([upstream])
    try:
        with pytest.raises(GatewayError) as raised:
            await client.open(Target(upstream, "m", Timeouts(connect=30)), b"{}")
        with pytest.raises(GatewayError) as of_models:
            await client.models(upstream)
    finally:
        await client.close()
    assert type(of_models.value) is type(raised.value)
    return raised.value


@pytest.fixture
def ca_file(tmp_path: Path) -> str:
    AUTHORITY.cert_pem.write_to_path(tmp_path / "ca.pem")
    return str(tmp_path / "ca.pem")


CERTIFICATES = {
    "expired": (AUTHORITY.issue_cert("localhost", not_after=YESTERDAY), "has expired"),
    "not valid yet": (
        AUTHORITY.issue_cert("localhost", not_before=datetime.now(UTC) + timedelta(days=1)),
        "is not valid yet",
    ),
    "another name": (AUTHORITY.issue_cert("elsewhere.example"), "is for another name"),
    "another authority": (trustme.CA().issue_cert("localhost"), "; `ca_file` can name the authority"),
}


@pytest.mark.parametrize("case", CERTIFICATES)
async def test_fault_52_a_certificate_is_refused_and_the_reason_told(
    ca_file: str, caplog: pytest.LogCaptureFixture, case: str
) -> None:
    certificate, words = CERTIFICATES[case]
    async with serving(certificate=certificate) as port:
        error = await refused(f"https://localhost:{port}/v1", ca_file)
        assert type(error) is UpstreamTLS
        assert error.message.startswith("The certificate of the model's server ")
        assert words in error.message
        assert AGAIN not in error.message
        assert "localhost" not in error.message
        assert f"the certificate is not accepted: {error.note and error.note.rpartition(': ')[2]}" in caplog.text
        assert f"at localhost:{port}" in caplog.text


async def test_fault_52_a_certificate_for_another_address(ca_file: str) -> None:
    async with serving(certificate=CERTIFICATES["another name"][0]) as port:
        assert "is for another address" in (await refused(f"https://127.0.0.1:{port}/v1", ca_file)).message


async def test_a_certificate_of_the_configured_authority_is_taken(ca_file: str) -> None:
    async with serving(certificate=AUTHORITY.issue_cert("localhost")) as port:
        upstream = Upstream(name="up", base_url=f"https://localhost:{port}/v1", ca_file=ca_file)
        client = UpstreamClient([upstream])
        (await client.open(Target(upstream, "m", Timeouts(connect=5)), b"{}")).abort()
        await client.close()


async def test_a_server_without_tls_at_an_https_url(ca_file: str) -> None:
    async def complain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async with serving(complain) as port:
        error = await refused(f"https://localhost:{port}/v1", ca_file)
    assert type(error) is UpstreamTLS
    assert "does `base_url` need http?" in error.message
    assert AGAIN not in error.message


async def test_a_server_with_tls_at_an_http_url() -> None:
    """OpenSSL's own way is to close without a word, which others may do, too: so it is told as a question."""
    async with serving(certificate=AUTHORITY.issue_cert("localhost")) as port:
        error = await refused(f"http://localhost:{port}/v1")
    assert type(error) is UpstreamUnreachable
    assert "a server that speaks TLS needs https in `base_url`" in error.message
    assert "does `base_url` need https?" in str(error.note)
    assert AGAIN not in error.message


@pytest.mark.parametrize(
    "said",
    [
        b"\x15\x03\x01\x00\x02\x02\x16",  # an alert
        b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n",
    ],
)
async def test_a_server_with_tls_that_says_so_at_an_http_url(said: bytes) -> None:
    async def complain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        writer.close()

    async with serving(complain) as port:
        error = await refused(f"http://localhost:{port}/v1")
    assert type(error) is UpstreamTLS
    assert "`base_url` needs https" in error.message
    assert AGAIN not in error.message


async def test_fault_53_a_refused_connection_names_the_port_and_shows_the_address_of_this_machine_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with refusing() as port:
        error = await refused(f"http://127.0.0.1:{port}/v1")
    assert (type(error), error.retryable) == (UpstreamUnreachable, True)  # it may be starting
    assert "does not take connections" in error.message
    assert "127.0.0.1" not in error.message
    assert AGAIN not in error.message
    with caplog.at_level(logging.WARNING):
        assert f"upstream_unreachable: ConnectionRefusedError: Connection refused at 127.0.0.1:{port}" in caplog.text


OTHERS = {
    "a refusal elsewhere": ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('10.1.2.3', 8000)"),
    "no way": OSError(errno.EHOSTUNREACH, "Connect call failed ('10.1.2.3', 8000)"),
    "no such name": socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
    "no answer of DNS": socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"),
    "without a number": OSError("Multiple exceptions: 10.1.2.3"),
    "TLS without a reason": ssl.SSLError("10.1.2.3"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_the_address_of_another_machine_is_told_nowhere(case: str) -> None:
    error = from_os(OTHERS[case], "http://models.internal:8000/v1")
    said = error.message + str(error.note)
    assert "10.1.2.3" not in said
    assert "models.internal" not in said


def test_only_a_trouble_that_passes_is_told_as_one() -> None:
    again = {case for case, cause in OTHERS.items() if AGAIN in from_os(cause, "http://h/v1").message}
    assert again == {"no way", "no answer of DNS", "without a number"}


@pytest.mark.parametrize(("number", "name"), [(errno.EMFILE, "EMFILE"), (errno.ENFILE, "ENFILE")])
def test_being_out_of_descriptors_is_called_so_and_is_nobody_elses_fault(number: int, name: str) -> None:
    error = from_os(OSError(number, os.strerror(number)), "http://h/v1")
    assert type(error) is OutOfDescriptors
    assert name in str(error.note)
    assert "server" not in error.message


# Proxies


@pytest.mark.parametrize("base_url", ["http://model.example/v1", "https://model.example/v1"])
async def test_a_dead_proxy_is_told_of_as_the_proxy(caplog: pytest.LogCaptureFixture, base_url: str) -> None:
    """The model's server is fine: whoever looks at that finds nothing. A password in `proxy` is told nobody."""
    with refusing() as port:
        error = await refused(base_url, proxy=f"http://user:pa55word@127.0.0.1:{port}")
    assert type(error) is UpstreamUnreachable
    assert error.message == (
        "The proxy before the model's server does not take connections. The operator has to look at `proxy`."
    )
    assert str(port) not in error.message
    assert f"at 127.0.0.1:{port}" in (error.note or "")
    assert "pa55word" not in caplog.text + (error.note or "")


async def test_a_proxy_whose_name_nobody_knows_is_told_of_as_the_proxy() -> None:
    error = await refused("http://127.0.0.1:1/v1", proxy="http://nobody.invalid:3128")
    assert type(error) is UpstreamUnreachable
    assert "proxy" in error.message
    assert "`base_url`" not in error.message
    assert "nobody.invalid" not in f"{error.message} {error.note}"


async def test_a_proxy_without_tls_is_told_of_as_the_proxy() -> None:
    async with serving(greet) as port:
        error = await refused("http://model.example/v1", proxy=f"https://127.0.0.1:{port}")
    assert type(error) is UpstreamTLS
    assert error.message == "No secure connection to the proxy can be made. The operator has to look at `proxy`."


@pytest.mark.parametrize(("status", "kind"), [(407, UpstreamMisconfigured), (502, UpstreamUnreachable)])
async def test_a_proxy_that_does_not_connect_is_told_of_with_its_status(status: int, kind: type[GatewayError]) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % status)
        writer.close()

    async with serving(refuse) as port:
        error = await refused("https://model.example/v1", proxy=f"http://127.0.0.1:{port}")
    assert type(error) is kind
    assert f"with status {status}. The operator has to look at `proxy`." in error.message


def test_without_descriptors_a_proxy_is_not_blamed() -> None:
    error = from_proxy(OSError(errno.EMFILE, "Too many open files"), "http://proxy:3128")
    assert type(error) is OutOfDescriptors


async def test_a_port_that_speaks_something_else_is_told_of() -> None:
    async with serving(greet) as port:
        error = await refused(f"http://127.0.0.1:{port}/v1")
    assert error.code == "upstream_error"
    assert "did not answer in HTTP" in error.message
    assert "the port in `base_url`" in error.message
