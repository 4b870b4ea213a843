"""What the upstream's status, headers and connection errors become. No stream is involved, so no socket is either."""

import ssl
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest
import yarl
from aiohttp.client_reqrep import ConnectionKey
from aioresponses import aioresponses

from gateway.config import Secret, Timeouts, Upstream
from gateway.errors import GatewayError
from gateway.upstream.client import UpstreamClient
from gateway.upstream.routing import Target

URL = "http://upstream.internal:9000/v1/chat/completions"
TARGET = Target(
    Upstream(
        name="up",
        base_url="http://upstream.internal:9000/v1/",
        api_key=Secret("sk-secret-key-of-ours"),
        headers={"X-Team": Secret("blue")},
    ),
    "m",
    Timeouts(connect=5),
)


class Response(aiohttp.ClientResponse):
    """aioresponses 0.7.9 does not know the argument that aiohttp 3.14 asks for."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, stream_writer=cast(Any, SimpleNamespace(output_size=0)), **kwargs)


@pytest.fixture
async def client() -> AsyncIterator[UpstreamClient]:
    client = UpstreamClient([TARGET.upstream])
    yield client
    await client.close()


def error(message: str, code: str | None = None) -> dict[str, object]:
    return {"error": {"message": message, "type": "t", "code": code, "param": "messages"}}


SECRETIVE = error("bad key sk-secret-key-of-ours")
UNREACHABLE = (502, "upstream_unreachable", True)
NO_TLS = (502, "upstream_tls", False)

# status, body, header fields -> status, code, retryable, what the message says
STATUSES: dict[str, tuple[int, object, dict[str, str], tuple[int, str, bool, str]]] = {
    "fault_06 400": (400, error("long", "context_length"), {}, (400, "context_length", False, "long")),
    "fault_06 422": (422, error("no"), {}, (422, "upstream_rejected", False, "no")),
    "413": (413, error("no"), {}, (413, "upstream_rejected", False, "no")),
    "404 for a model": (404, error("no model x", "model_not_found"), {}, (404, "model_not_found", False, "no model x")),
    "404 for the path": (404, "<html>nginx", {}, (502, "upstream_misconfigured", False, "base_url")),
    "fault_07 401": (401, SECRETIVE, {}, (502, "upstream_misconfigured", False, "credentials")),
    "fault_07 403": (403, SECRETIVE, {}, (502, "upstream_misconfigured", False, "account")),
    "fault_08 408": (408, "", {}, (502, "upstream_error", True, "408")),
    "fault_08 409": (409, "", {}, (502, "upstream_error", True, "409")),
    "fault_08 500": (500, error("at 10.0.0.3"), {}, (502, "upstream_error", True, "500")),
    "fault_08 503": (503, "busy", {"Retry-After": "3"}, (502, "upstream_error", True, "503")),
    "fault_09 429": (429, error("slow down"), {"Retry-After": "7"}, (429, "upstream_rate_limited", True, "slow down")),
    "fault_48 301": (301, "", {"Location": "http://other.example/"}, (502, "upstream_misconfigured", False, "301")),
    "204": (204, "", {}, (502, "upstream_misconfigured", False, "204")),
    "201 without a body": (201, "", {}, (502, "upstream_misconfigured", False, "201")),
    "fault_02 a page": (200, "<html>", {"Content-Type": "text/html"}, (502, "upstream_misconfigured", False, "page")),
    "fault_46 gzip in zstd": (
        200,
        "x",
        {"Content-Encoding": "zstd, gzip"},
        (502, "upstream_misconfigured", False, "encoding"),
    ),
    "fault_46 zstd": (200, "x", {"Content-Encoding": "zstd"}, (502, "upstream_misconfigured", False, "encoding")),
    "an address in the words": (
        400,
        error("see http://10.0.0.3:8000/docs or upstream.internal:9000, key sk-secret-key-of-ours"),
        {},
        (400, "upstream_rejected", False, "see [address]"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", STATUSES)
async def test_statuses(client: UpstreamClient, case: str) -> None:
    status, body, headers, expected = STATUSES[case]
    payload = {"payload": body} if isinstance(body, dict) else {"body": body}
    with aioresponses() as upstream:
        upstream.post(URL, status=status, headers=headers, response_class=Response, **payload)
        with pytest.raises(GatewayError) as raised:
            await (await client.open(TARGET, b"{}")).begin()
    told = raised.value
    assert (told.status, told.code, told.retryable) == expected[:3]
    assert expected[3] in told.message
    assert "secret" not in told.message
    assert "internal" not in told.message


async def test_fault_09_retry_after_is_passed_on(client: UpstreamClient) -> None:
    for given, passed in {"7": {"Retry-After": "7"}, "Wed, 21 Oct 2026 07:28:00 GMT": None, "x" * 100: {}}.items():
        with aioresponses() as upstream:
            upstream.post(URL, status=429, headers={"Retry-After": given}, response_class=Response)
            with pytest.raises(GatewayError) as raised:
                await client.open(TARGET, b"{}")
        assert raised.value.headers == ({"Retry-After": given} if passed is None else passed)


KEY = ConnectionKey("upstream.internal", 9000, True, True, None, None, None)
CONNECT_ERRORS: dict[str, tuple[Exception, tuple[int, str, bool]]] = {
    "fault_51 DNS": (aiohttp.ClientConnectorDNSError(KEY, OSError(-2, "Name not known")), UNREACHABLE),
    "fault_53 refused": (aiohttp.ClientConnectorError(KEY, OSError(111, "refused")), UNREACHABLE),
    "fault_53 timeout": (aiohttp.ConnectionTimeoutError("upstream.internal"), (504, "connect_timeout", True)),
    "fault_52 certificate": (
        aiohttp.ClientConnectorCertificateError(KEY, ssl.SSLCertVerificationError("self-signed")),
        NO_TLS,
    ),
    "fault_52 TLS": (aiohttp.ClientConnectorSSLError(KEY, ssl.SSLError("wrong version")), NO_TLS),
    "no answer in time": (TimeoutError(), (504, "timeout", True)),
    "out of descriptors": (
        aiohttp.ClientConnectorError(KEY, OSError(24, "Too many open files")),
        (503, "out_of_descriptors", True),
    ),
    "disconnected": (aiohttp.ServerDisconnectedError(), UNREACHABLE),
    "reset": (aiohttp.ClientOSError(104, "reset"), UNREACHABLE),
    "not HTTP": (aiohttp.ClientResponseError(cast(Any, None), (), status=400), (502, "upstream_error", True)),
    "a bad URL": (aiohttp.InvalidURL("http://upstream.internal"), UNREACHABLE),
}  # fmt: skip


@pytest.mark.parametrize("case", CONNECT_ERRORS)
async def test_connect_errors(client: UpstreamClient, caplog: pytest.LogCaptureFixture, case: str) -> None:
    exception, expected = CONNECT_ERRORS[case]
    with aioresponses() as upstream:
        upstream.post(URL, exception=exception)
        with pytest.raises(GatewayError) as raised:
            await client.open(TARGET, b"{}")
    assert (raised.value.status, raised.value.code, raised.value.retryable) == expected
    assert "internal" not in raised.value.message + caplog.text


async def test_what_is_sent(client: UpstreamClient) -> None:
    with aioresponses() as upstream:
        upstream.post(URL, status=200, content_type="text/event-stream", response_class=Response)
        response = await client.open(TARGET, b"{}")
        response.abort()
        (call,) = upstream.requests[("POST", yarl.URL(URL))]
    sent = call.kwargs
    assert sent["headers"]["Authorization"] == "Bearer sk-secret-key-of-ours"
    assert sent["headers"]["X-Team"] == "blue"
    assert sent["headers"]["Accept-Encoding"] == "identity"
    assert sent["allow_redirects"] is False
    assert sent["timeout"] == aiohttp.ClientTimeout(total=None, connect=5)
    assert sent["ssl"] is True
