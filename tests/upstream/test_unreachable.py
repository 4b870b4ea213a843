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
from gateway.errors import GatewayError, OutOfDescriptors, UpstreamTLS, UpstreamUnreachable
from gateway.upstream.client import UpstreamClient
from gateway.upstream.routing import Target
from gateway.upstream.unreachable import from_os
from tests.rig.processes import free_port

AGAIN = "again in a moment"
AUTHORITY = trustme.CA()
YESTERDAY = datetime.now(UTC) - timedelta(days=1)

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 0\r\n\r\n")
    await writer.drain()
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


async def refused(base_url: str, ca_file: str | None = None) -> GatewayError:
    """The error of a request to this upstream, and the same of a look at its models."""
    upstream = Upstream(name="up", base_url=base_url, ca_file=ca_file)
    client = UpstreamClient([upstream])
    try:
        with pytest.raises(GatewayError) as raised:
            await client.open(Target(upstream, "m", Timeouts(connect=5)), b"{}")
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
    "another authority": (trustme.CA().issue_cert("localhost"), "does not trust; `ca_file`"),
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
    port = free_port()
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
