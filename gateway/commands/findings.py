"""Judges what `gateway doctor` saw: which check, what was seen, and what to change. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from gateway.commands.observed import Seen
from gateway.commands.remedies import advice, http_11, is_nginx, no_buffering, no_compression, refusal, shown
from gateway.commands.wire import Ending

_SLOW_SECONDS = 2.0  # until the first event, which the gateway sends at once; any network is faster


@dataclass(frozen=True, slots=True)
class Finding:
    check: str
    seen: str
    remedy: str = ""  # what to change, where something spoils the stream
    is_checked: bool = True

    def __str__(self) -> str:
        state = "FAULT" if self.remedy else "ok" if self.is_checked else "-"
        line = f"{state:5}  {self.check:24}  {self.seen}"
        return f"{line}\n{'':7}-> {self.remedy}" if self.remedy else line


@dataclass(frozen=True, slots=True)
class Rounds:
    """The four answers of one check. `paused_seconds` is how long the gateway said nothing in one of them."""

    steady: Seen
    zipped: Seen
    paused: Seen
    cut: Seen
    paused_seconds: float
    has_key: bool


def refused(seen: Seen) -> Finding | None:
    """Why there is no stream to measure."""
    if seen.fault:
        return Finding("answer", seen.fault, "Mend this first, then run the command again.")
    if seen.status != 200:
        return Finding("answer", f"status {seen.status}", refusal(seen))
    media = seen.fields.get("content-type", "")
    if not media.startswith("text/event-stream"):
        what = f"content type {shown(media) or 'missing'} instead of text/event-stream"
        return Finding("answer", what, "The URL is not that of a gateway, or a proxy answers itself. Correct the URL.")
    if not seen.start and seen.coding not in ("", "gzip", "deflate"):
        return Finding("compression", f"the answer is coded as {shown(seen.coding)}", no_compression(seen))
    if not seen.start:
        what = "the stream does not begin with the gateway's first event"
        return Finding("answer", what, "Something on the way changes the body. Ask the gateway directly to compare.")
    return None


def findings(rounds: Rounds) -> Iterator[Finding]:
    steady = rounds.steady
    yield Finding("answer", "status 200, text/event-stream")
    yield _first_event(steady)
    yield _one_by_one(steady)
    yield _unasked_coding(steady)
    yield _asked_coding(rounds.zipped)
    yield from _versions(steady)
    yield from _fields(steady)
    yield from _request_fields(steady, has_key=rounds.has_key)
    yield _silence(rounds.paused, rounds.paused_seconds)
    yield _break(rounds.cut)
    yield _body(steady)


def proxy(seen: Seen) -> str:
    """What the header says about the server that answered."""
    named = [shown(seen.fields[name]) for name in ("server", "via") if seen.fields.get(name, "gateway") != "gateway"]
    return ", ".join(named) or "no proxy that names itself"


# The checks


def _first_event(seen: Seen) -> Finding:
    first = seen.arrived[0] if seen.arrived else seen.over
    what = (
        f"connected in {_ms(seen.connected)}, header after {_ms(seen.header)}, first event after {_ms(first)}; "
        f"the gateway sent both at once"
    )
    if first < _SLOW_SECONDS + seen.connected:
        return Finding("time to first event", what)
    return Finding("time to first event", what, no_buffering(seen))


def _one_by_one(seen: Seen) -> Finding:
    """Half of the gaps between two events are gone: no network does that, at a pace that it can follow."""
    lumps, late = _lumps(seen), _spread(seen)
    total = len(seen.arrived)
    if total < 2:
        return Finding("events one by one", f"only {total} events arrived", no_buffering(seen))
    what = f"{total} events arrived in {_groups(lumps)}; the latest came {_ms(late)} later than the quickest"
    return Finding("events one by one", what, no_buffering(seen) if lumps - 1 < (total - 1) / 2 else "")


def _unasked_coding(seen: Seen) -> Finding:
    if not seen.coding:
        return Finding("compression", "none, where none was asked for")
    return Finding("compression", f"{shown(seen.coding)}, although none was asked for", no_compression(seen))


def _asked_coding(seen: Seen) -> Finding:
    if (fault := _unusable(seen)) and not seen.coding:
        return Finding("compression, if offered", fault, "Run the command again; if it stays, look at the proxy's log.")
    if not seen.coding:
        return Finding("compression, if offered", "none, where gzip was offered")
    what = (
        f"{shown(seen.coding)}; {len(seen.arrived)} events in {_groups(_lumps(seen))}, up to {_ms(_spread(seen))} late"
    )
    return Finding("compression, if offered", what, no_compression(seen))


def _versions(seen: Seen) -> Iterator[Finding]:
    is_new = seen.version == "HTTP/1.1"
    remedy = "Let the server that answers speak HTTP/1.1: HTTP/1.0 has no chunks, so a cut answer looks whole."
    yield Finding("HTTP to the client", seen.version, "" if is_new else remedy)
    if seen.start.get("is_http_11"):
        yield Finding("HTTP to the gateway", "HTTP/1.1")
    else:
        yield Finding("HTTP to the gateway", "HTTP/1.0", http_11(seen))


def _fields(seen: Seen) -> Iterator[Finding]:
    cache = seen.fields.get("cache-control", "")
    if "no-store" in cache.lower():
        yield Finding("Cache-Control", "arrives: no-store")
    else:
        directives = "no `proxy_hide_header Cache-Control`, `proxy_ignore_headers Cache-Control` or `expires`"
        remedy = advice(seen, "Pass the field on, so that no cache stores an answer", directives)
        yield Finding("Cache-Control", f"changed to {shown(cache)}" if cache else "missing", remedy)
    if seen.fields.get("x-accel-buffering", "").lower() == "no":
        yield Finding("X-Accel-Buffering", "arrives: no")
    elif is_nginx(seen):
        yield Finding("X-Accel-Buffering", "not passed on, as usual: it is for nginx itself")
    else:
        remedy = "Pass the field on: a proxy further out may need it to send events at once."
        yield Finding("X-Accel-Buffering", "missing", remedy)


def _request_fields(seen: Seen, *, has_key: bool) -> Iterator[Finding]:
    if seen.start.get("last_event_id"):
        yield Finding("Last-Event-ID", "reaches the gateway")
    else:
        directives = 'no `proxy_set_header Last-Event-ID ""` and no `proxy_pass_request_headers off`'
        remedy = advice(seen, "Pass the field on: without it, a lost connection begins the answer anew", directives)
        yield Finding("Last-Event-ID", "does not reach the gateway", remedy)
    if not has_key:
        yield Finding("Authorization", "not checked: give a key with --key or in GATEWAY_KEY", is_checked=False)
    elif seen.start.get("authorization"):
        yield Finding("Authorization", "reaches the gateway")
    else:
        remedy = advice(seen, "Pass the field on, or no key works", 'no `proxy_set_header Authorization ""`')
        yield Finding("Authorization", "does not reach the gateway", remedy)


def _silence(seen: Seen, seconds: float) -> Finding:
    check, beat = "silence", seen.start.get("heartbeat_seconds")
    beats = f"the gateway sends a heartbeat every {beat:g} s" if isinstance(beat, int | float) else "heartbeats unknown"
    if not seen.start:
        return Finding(check, _unusable(seen), "Run the command again; if it stays, look at the proxy's log.")
    if seen.end:
        return Finding(check, f"{seconds:g} s passed, with {seen.heartbeats} heartbeats ({beats})")
    what = f"cut {seen.over:.1f} s after the request, in a silence of {seconds:g} s ({beats})"
    words = "Raise the idle timeout above `timeouts.total`, or set `stream.heartbeat_seconds` below it"
    return Finding(check, what, advice(seen, words, "`proxy_read_timeout 610s`"))


def _break(seen: Seen) -> Finding:
    if not seen.start:
        return Finding("broken answer", _unusable(seen), "Run the command again; if it stays, look at the proxy's log.")
    if seen.ending is Ending.BROKEN:
        return Finding("broken answer", "looks broken to the client")
    return Finding("broken answer", "looks whole to the client: a body that broke off ended cleanly", http_11(seen))


def _body(seen: Seen) -> Finding:
    if seen.is_unchanged and seen.ending is Ending.WHOLE:
        return Finding("body", "arrived whole, and is the same byte for byte")
    if seen.end and not seen.is_unchanged:
        directives = "no `sub_filter`, `charset` or `add_after_body` for text/event-stream"
        return Finding("body", _change(seen), advice(seen, "Switch off what edits the body", directives))
    if seen.ending is Ending.CLOSED and seen.end:
        return Finding("body", "is the same, but without a mark of its end", http_11(seen))
    words = "Look at the proxy's log and its limits on the time and size of an answer"
    is_clean = seen.ending is Ending.WHOLE
    what = "has no last event: it was cut or changed" if is_clean else "was cut"
    return Finding(
        "body", f"{what} {seen.over:.1f} s after the request", advice(seen, words, "`proxy_read_timeout 610s`")
    )


def _change(seen: Seen) -> str:
    if seen.excess:
        return f"was changed on the way: {_bytes(abs(seen.excess))} {'fewer' if seen.excess < 0 else 'more'} than sent"
    return "was changed on the way; its length is the same"


# Measures


def _lumps(seen: Seen) -> int:
    """The groups in which the events arrived: a new one begins where half of the gap that was sent is left."""
    gaps = zip(pairwise(seen.sent), pairwise(seen.arrived), strict=True)
    kept = [arrived[1] - arrived[0] >= (sent[1] - sent[0]) / 2 for sent, arrived in gaps]
    return sum(kept) + bool(seen.arrived)


def _spread(seen: Seen) -> float:
    delays = [arrived - sent for sent, arrived in zip(seen.sent, seen.arrived, strict=True)]
    return max(delays, default=0.0) - min(delays, default=0.0)


def _unusable(seen: Seen) -> str:
    """What stood in the way of a second or later answer."""
    if seen.fault or seen.status != 200:
        return seen.fault or f"status {seen.status}, where the first answer had 200"
    return "" if seen.start else "the stream did not begin"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _bytes(number: int) -> str:
    return "1 byte" if number == 1 else f"{number} bytes"


def _groups(number: int) -> str:
    return "1 group" if number == 1 else f"{number} groups"
