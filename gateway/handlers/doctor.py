"""`GET .../doctor`: a stream of numbered events at a known pace, by which `gateway doctor` measures the way to here.

It asks no model, so a check costs no tokens, and the gateway knows exactly what it sent and when. A real answer comes
at a pace that nobody knows, and could not be told from one that a proxy holds up. The route stands under each prefix
of the surfaces, because a proxy may have other rules for `/v1` than for `/chat`.

Those may use it who may read the metrics or ask a model. It takes no descriptor of an upstream and next to no memory,
its length is bounded, and so is the number of such streams. It tells which of the caller's own header fields arrived,
and never their values.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256

import msgspec
from aiohttp import HttpVersion11, web

from gateway import __version__
from gateway.admission.admit import check_key
from gateway.errors import Busy, InvalidRequest, ShuttingDown
from gateway.handlers.metrics import may_look
from gateway.handlers.reading import authenticate, read_query
from gateway.handlers.services import EXCHANGE
from gateway.handlers.sinks import EventStreamSink

LAST_EVENT_ID = "doctor.0"  # what the command sends, so that the gateway can tell whether it arrived as it was
HEARTBEAT = b": heartbeat\n\n"

_MOST_STREAMS = 16  # at the same time, in this process: one check opens three, and a person makes few checks at a time
_LOOK_SECONDS = 0.5  # between two looks at whether the process drains: a check must not hold up a stop
_TEXT = "é ✓ <b>&amp;</b>  ."  # what a proxy that edits pages, or converts their encoding, would change


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """What is sent: at most 64 KiB, which the transport takes at once, within four minutes."""

    events: int = 20
    pace_ms: int = 100  # between two events
    pause_ms: int = 0  # more before the last event
    cut: int = 0  # 1 to break the body off after the last event


_RANGES = {"events": (2, 100), "pace_ms": (10, 1_000), "pause_ms": (0, 120_000), "cut": (0, 1)}


class Open:
    """Counts the streams that are open."""

    def __init__(self) -> None:
        self._number = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """Raises Busy."""
        if self._number >= _MOST_STREAMS:
            raise Busy("Too many checks run at the same time. Try again in a minute.", headers={"Retry-After": "60"})
        self._number += 1
        try:
            yield
        finally:
            self._number -= 1


OPEN = web.AppKey("doctor", Open)


async def stream(request: web.Request) -> web.StreamResponse:
    services = request[EXCHANGE].services
    if not may_look(request):
        check_key(services.config, authenticate(request))
    script = _script(read_query(request, only=_RANGES))
    if services.streams.closing:
        raise ShuttingDown(headers={"Retry-After": "5"})
    with request.app[OPEN].one():
        return await _sent(request, script)


async def _sent(request: web.Request, script: Script) -> web.StreamResponse:
    heartbeat, streams = request[EXCHANGE].services.config.stream.heartbeat_seconds, request[EXCHANGE].services.streams
    sink = EventStreamSink(request)
    summed, size = sha256(), 0
    async for part in _parts(_start(request, heartbeat), script, heartbeat):
        if streams.closing:
            sink.break_off()
            return sink.response
        if part:
            await sink.write(part)
        summed.update(part)
        size += len(part)
    if script.cut:
        sink.break_off()
    else:
        await sink.finish(_block({"bytes": size, "sha256": summed.hexdigest()}, kind="end"))
    return sink.response


async def _parts(start: bytes, script: Script, heartbeat: float) -> AsyncIterator[bytes]:
    """The blocks of the stream before its end, each in its time. Empty ones between them are looks at the clock."""
    loop = asyncio.get_running_loop()
    began = quiet_since = loop.time()
    due = 0.0
    yield start
    for number in range(1, script.events + 1):
        due += (script.pace_ms if number > 1 else 0) / 1000
        due += (script.pause_ms if number == script.events else 0) / 1000
        while (left := began + due - loop.time()) > 0:
            await asyncio.sleep(max(0.0, min(left, quiet_since + heartbeat - loop.time(), _LOOK_SECONDS)))
            is_quiet = loop.time() - quiet_since >= heartbeat
            quiet_since = loop.time() if is_quiet else quiet_since
            yield HEARTBEAT if is_quiet else b""
        quiet_since = loop.time()
        yield _block({"n": number, "at": round(quiet_since - began, 4), "text": _TEXT})


def _start(request: web.Request, heartbeat: float) -> bytes:
    arrived = {
        "gateway": __version__,
        "is_http_11": request.version >= HttpVersion11,
        "last_event_id": request.headers.get("Last-Event-ID") == LAST_EVENT_ID,
        "authorization": "Authorization" in request.headers,
        "heartbeat_seconds": heartbeat,
    }
    return _block(arrived, kind="start")


def _block(data: Mapping[str, object], *, kind: str = "") -> bytes:
    name = f"event: {kind}\n".encode() if kind else b""
    return b"%bdata: %b\n\n" % (name, msgspec.json.encode(data))


def _script(query: Mapping[str, str]) -> Script:
    """Raises InvalidRequest."""
    return Script(**{name: _number(name, text) for name, text in query.items()})


def _number(name: str, text: str) -> int:
    least, most = _RANGES[name]
    if not (text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most):
        raise InvalidRequest(f"`{name}` is a whole number from {least} to {most}.", param=name)
    return int(text)
