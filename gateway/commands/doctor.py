"""`gateway doctor URL`: measures a stream through whatever stands before a gateway, and says what spoils it.

It asks the gateway's own `/doctor` route four times: at a steady pace, with gzip offered, with a silence, and with a
break in the middle. That route costs no tokens, and the gateway says in the stream what it sent and when. So each
finding compares two facts, and none rests on a guess about the speed of a model. The key, if any, is a normal key of
the gateway, or `metrics.token`.
"""

import argparse
import asyncio
import os
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from gateway.commands.arguments import number
from gateway.commands.command_error import CommandError
from gateway.commands.findings import Finding, Rounds, findings, proxy, refused
from gateway.commands.observed import Seen, observe
from gateway.handlers.doctor import LAST_EVENT_ID

_LONGEST_KEY = 4096  # characters: half of what proxies take for a header line
_LONGEST_PAUSE = 120  # seconds, as in the gateway's route


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked for. Small proxies' buffers hold 4 KiB, and twenty events have 1.6."""

    events: int = 20
    pace_ms: int = 100
    pause_seconds: float = 5.0


def add_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("url", type=web_address, metavar="URL", help="of the gateway, as its clients use it")
    command.add_argument("--key", help="API key (better: in the variable GATEWAY_KEY, which `ps` does not show)")
    command.add_argument(
        "--pause",
        type=number(1, _LONGEST_PAUSE),
        default=5,
        metavar="SECONDS",
        help="silence to test idle timeouts with (default: 5; proxies often have 60)",
    )
    command.add_argument("--ca-file", metavar="FILE", help="certificates of authorities to trust, in PEM")


def examine(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """The exit status: 0 if all is well, 1 if something spoils the stream. Raises CommandError."""
    key = _key(options.key or environ.get("GATEWAY_KEY", ""))
    context = _context(options.ca_file)
    return asyncio.run(doctor(options.url, key, context, Plan(pause_seconds=options.pause)))


async def doctor(url: SplitResult, key: str, context: ssl.SSLContext, plan: Plan) -> int:
    print(f"Asking {url.geturl()} for {plan.events} events, one every {plan.pace_ms} ms ...", flush=True)
    steady = await _asked(url, key, context, plan)
    if (finding := refused(steady)) is not None:
        return _told([finding])
    print(f"Answered by: {proxy(steady)}.", flush=True)
    print(f"Asking again with gzip, with a silence of {plan.pause_seconds:g} s, and for a break ...", flush=True)
    zipped, paused, cut = await asyncio.gather(
        _asked(url, key, context, plan, coding="gzip"),
        _asked(url, key, context, Plan(events=2, pace_ms=10), pause_seconds=plan.pause_seconds),
        _asked(url, key, context, Plan(events=2, pace_ms=plan.pace_ms), cut=1),
    )
    return _told(list(findings(Rounds(steady, zipped, paused, cut, plan.pause_seconds, has_key=bool(key)))))


async def _asked(
    url: SplitResult,
    key: str,
    context: ssl.SSLContext,
    plan: Plan,
    *,
    coding: str = "identity",
    pause_seconds: float = 0.0,
    cut: int = 0,
) -> Seen:
    query = f"?events={plan.events}&pace_ms={plan.pace_ms}&pause_ms={pause_seconds * 1000:.0f}&cut={cut}"
    fields = {"Accept": "text/event-stream", "Accept-Encoding": coding, "Last-Event-ID": LAST_EVENT_ID}
    if key:
        fields["Authorization"] = f"Bearer {key}"
    return await observe(url, query, fields, context, seconds=plan.events * plan.pace_ms / 1000 + pause_seconds)


def _told(found: Sequence[Finding]) -> int:
    print("", *found, "", sep="\n")
    faults = sum(bool(finding.remedy) for finding in found)
    words = {0: "Nothing spoils the stream.", 1: "One finding spoils the stream."}
    print(words.get(faults, f"{faults} findings spoil the stream."))
    return int(faults > 0)


# Options


def web_address(text: str) -> SplitResult:
    """An argparse type."""
    try:
        url = urlsplit(text)
        is_usable = url.scheme in ("http", "https") and bool(url.hostname) and (url.port is None or url.port > 0)
    except ValueError:  # a port that is not a number, or a bracket that is not closed
        is_usable = False
    if not (is_usable and text.isascii() and text.isprintable() and " " not in text):
        raise argparse.ArgumentTypeError("expected an address such as https://chat.example.com")
    if "@" in url.netloc or url.query or url.fragment:
        raise argparse.ArgumentTypeError("expected an address without a user name, a query or a fragment")
    return url


def _key(text: str) -> str:
    """Raises CommandError, without the key in it."""
    key = text.strip()
    if not (key.isascii() and key.isprintable() and " " not in key and len(key) <= _LONGEST_KEY):
        raise CommandError("The key has characters that a header field cannot hold. Copy it again.")
    return key


def _context(ca_file: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # ssl.SSLError is one
        reason = os.strerror(error.errno) if error.errno and not isinstance(error, ssl.SSLError) else "not PEM"
        raise CommandError(f"The file of --ca-file cannot be loaded: {reason}: {ca_file}") from None
