"""What handlers read of a request: its query, its body, who sent it."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import UTC, date, datetime
from urllib.parse import parse_qsl

from aiohttp import HttpVersion11, web

from gateway.admission.auth import Caller, secret_in
from gateway.admission.fields import Fields, body_fields, view_fields
from gateway.admission.limits import identity
from gateway.errors import (
    BodyTimeout,
    BodyTooLarge,
    ContentCodingNotSupported,
    InvalidRequest,
    MediaTypeNotSupported,
    QueryTooLong,
    UpstreamIncomplete,
)
from gateway.handlers.negotiation import Representation, negotiate
from gateway.handlers.services import BOUNDS, EXCHANGE
from gateway.upstream.codings import DECODED, Inflater

IDEMPOTENCY = frozenset({"idempotency_key"})  # the name of an idempotency key in the query
LARGEST_V1_BODY = 33_554_432  # bytes: requests contain images, and OpenAI and Anthropic take about as much
_LONGEST_QUERY = 8192  # bytes: what proxies and servers commonly take in a request line
_MOST_FIELDS = 100  # in a query: ours has five
_LONGEST_IDEMPOTENCY = 255  # characters; a UUID has 36
_SHORTEST_ANONYMOUS = 16  # of who has no API key: then it is all that tells one caller from another


def authenticate(request: web.Request) -> Caller:
    """Who asks. Raises Unauthorized or TwoKeys."""
    exchange = request[EXCHANGE]
    keys, caller = exchange.services.keys, Caller(exchange.client)
    if keys:
        authorization, api_key = _field(request, "Authorization"), _field(request, "X-API-Key")
        caller = keys.identify(exchange.client, authorization, today(), api_key=api_key)
    exchange.caller = caller
    return caller


def today() -> date:
    return datetime.now(UTC).date()


def wanted(request: web.Request) -> Representation:
    """How the client wants to be answered."""
    return negotiate(", ".join(request.headers.getall("Accept", [])))


def secret(request: web.Request) -> str:
    """The key or ticket in the fields of the request, which may be empty. Raises TwoKeys."""
    return secret_in(_field(request, "Authorization"), _field(request, "X-API-Key"))


def _field(request: web.Request, name: str) -> str | None:
    """A field that is sent more than once is one list (RFC 9110, section 5.3)."""
    values = request.headers.getall(name, None)
    return None if values is None else ", ".join(values)


def last_event_id(request: web.Request, query: dict[str, str]) -> str:
    """Where the client got to; the field, which a browser sends by itself, outranks the query. Empty is absent.

    `lastEventId` is the name that polyfills of `EventSource` use: they add it to an address that may hold the other.
    """
    return request.headers.get("Last-Event-ID") or query.get("lastEventId") or query.get("last_event_id", "")


def idempotency_key(request: web.Request, query: dict[str, str], caller: Caller) -> tuple[str, str] | None:
    """The caller, and the key that it sends. Raises InvalidRequest."""
    key = request.headers.get("Idempotency-Key") or query.get("idempotency_key", "")
    if not key:
        return None
    least = 1 if caller.key is not None else _SHORTEST_ANONYMOUS
    if not (key.isascii() and key.isprintable() and least <= len(key) <= _LONGEST_IDEMPOTENCY):
        words = f"An Idempotency-Key is {least} to {_LONGEST_IDEMPOTENCY} printable ASCII characters, such as a UUID."
        raise InvalidRequest(words, param="idempotency_key")
    return identity(caller), key


def read_query(request: web.Request, *, only: Collection[str] | None = None) -> dict[str, str]:
    """The fields of the query, or `only` those of these names. Raises QueryTooLong or InvalidRequest."""
    raw = request.rel_url.raw_query_string
    if len(raw) > _LONGEST_QUERY:
        raise QueryTooLong()
    if not raw:
        return {}
    try:
        pairs = parse_qsl(raw, keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    except UnicodeDecodeError:
        raise InvalidRequest("The query is not UTF-8.", code="invalid_query") from None
    except ValueError:
        raise InvalidRequest(f"The query has over {_MOST_FIELDS} fields.", code="invalid_query") from None
    if only is not None:
        pairs = [(name, value) for name, value in pairs if name in only]
    query = dict(pairs)
    if len(query) < len(pairs):
        twice = next(name for name, _ in pairs if sum(name == other for other, _ in pairs) > 1)
        raise InvalidRequest("A field of the query is given twice.", code="invalid_query", param=twice[:64])
    return query


async def read_fields(
    request: web.Request, caller: Caller, query: Mapping[str, str], most: int, *, at_a_time: int | None = None
) -> Fields:
    """The fields of the query, and over them those of a body of at most `most` bytes. Raises a GatewayError."""
    bodies = request[EXCHANGE].services.bodies
    with bodies.reading(identity(caller), at_a_time=at_a_time) as count:
        return view_fields(query) | body_fields(await read_body(request, min(most, bodies.largest), count))


async def read_body(request: web.Request, most: int, count: Callable[[int], None]) -> bytes:
    """The body, of at most `most` bytes. `count` is told of every part. Raises a GatewayError."""
    if request.content_type != "application/json":
        raise MediaTypeNotSupported()
    read = _reader(request)
    if (request.content_length or 0) > most:
        raise _too_large(most)
    expects = request.headers.get("Expect", "").lower() == "100-continue" and request.version >= HttpVersion11
    if expects and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    try:
        # One that has come whole, as small ones have, needs no timer.
        if request.content.is_eof():
            return await _joined(read, most, count)
        async with asyncio.timeout(request.app[BOUNDS].body_seconds):
            return await _joined(read, most, count)
    except TimeoutError:
        raise BodyTimeout() from None
    except (web.RequestPayloadError, UpstreamIncomplete):
        raise InvalidRequest("The body is not what its `Content-Encoding` says.", code="invalid_body") from None


async def _joined(read: Callable[[], Awaitable[bytes]], most: int, count: Callable[[int], None]) -> bytes:
    body = bytearray()
    while part := await read():
        count(len(part))
        body += part
        if len(body) > most:
            raise _too_large(most)
    return bytes(body)


def _too_large(most: int) -> BodyTooLarge:
    return BodyTooLarge(f"The body is over {most} bytes.")


def _reader(request: web.Request) -> Callable[[], Awaitable[bytes]]:
    """Reads the body without its content coding. Raises ContentCodingNotSupported."""
    if "Content-Encoding" not in request.headers:
        return request.content.readany
    names = [name.strip().lower() for name in ",".join(request.headers.getall("Content-Encoding")).split(",")]
    codings = [name for name in names if name not in ("", "identity")]
    if not codings:
        return request.content.readany
    if len(codings) > 1 or codings[0] not in DECODED:
        raise ContentCodingNotSupported()
    inflater = Inflater(gzip=codings[0] != "deflate", may_be_plain=False)
    return lambda: inflater.read(request.content.readany)


async def expect(request: web.Request) -> None:
    """`Expect` is answered when the body is wanted, and not before its sender was let in (RFC 9110, section 10.1.1)."""
