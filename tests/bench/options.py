"""What can be asked for on the command line, and what holds where nothing is said."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from tests.bench.figures import Load

_SCALE_RATE = 10_000  # events a second in all, however many streams they are spread over
_SCALE_STREAMS = (100, 300, 1000, 3000)
_VIEWERS = (1, 10, 100, 300)  # of one stream
_VIEWERS_PAIR, _VIEWERS_MARGIN = ("nginx", "viewers"), 50.0
_STALLED = 1000
_MARGIN = 5.0
_STALLED_PADDING = 4096  # so that an answer of seconds is more than what may wait for a viewer on its way
_STALLED_SECONDS = 40.0  # at most: a viewer that takes nothing for a minute is cut

_Number = TypeVar("_Number", int, float)


class Defaults(NamedTuple):
    rounds: int
    streams: int
    rate: float
    seconds: float
    short_seconds: float


# Half a core for a contender of 100 µs per event: nearer to saturation, events queue, and batches make them cheaper.
_USUAL = Defaults(rounds=3, streams=100, rate=50, seconds=6, short_seconds=2)
_QUICK = Defaults(rounds=1, streams=20, rate=20, seconds=1, short_seconds=0.5)
_PAIR = Defaults(rounds=12, streams=100, rate=25, seconds=5, short_seconds=4)  # two at once: half the rate for each
_SCALE = Defaults(rounds=1, streams=0, rate=0, seconds=6, short_seconds=0)
_FAN_OUT = Defaults(rounds=8, streams=0, rate=25, seconds=4, short_seconds=0)  # a pair, too
_STALL = Defaults(rounds=5, streams=20, rate=25, seconds=5, short_seconds=0)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """With `loads`, `rounds` and `short_seconds` filled in. Exits where something cannot be."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.viewers and not (options.pair or options.only):
        options.pair = _VIEWERS_PAIR
        options.margin = _VIEWERS_MARGIN if options.margin is None else options.margin
    options.margin = _MARGIN if options.margin is None else options.margin
    base = _defaults(options)
    options.rounds = options.rounds or base.rounds
    options.short_seconds = base.short_seconds
    options.loads = _loads(options, base)
    if options.stalled and max(load.seconds for load in options.loads) > _STALLED_SECONDS:
        parser.error(f"--stalled measures for {_STALLED_SECONDS:.0f} seconds at most")
    return options


def _defaults(options: argparse.Namespace) -> Defaults:
    wide = _SCALE if options.scale else _FAN_OUT if options.viewers else _STALL if options.stalled else None
    return wide or (_QUICK if options.quick else _PAIR if options.pair else _USUAL)


def _loads(options: argparse.Namespace, base: Defaults) -> list[Load]:
    seconds, rate = options.seconds or base.seconds, options.rate or base.rate
    if options.scale:
        return [Load(streams, _SCALE_RATE / streams, seconds) for streams in _SCALE_STREAMS]
    if options.viewers and not options.streams:
        return [Load(streams, rate, seconds) for streams in _VIEWERS]
    streams = options.streams or base.streams
    if options.stalled:
        return [Load(streams, rate, seconds, _STALLED_PADDING, count) for count in (0, options.stalled)]
    return [Load(streams, rate, seconds)]


def _pair(text: str) -> tuple[str, str]:
    names = text.split(",")
    if not (all(names) and len(names) == len(set(names)) == 2):
        raise argparse.ArgumentTypeError(f"{text!r} is not two names, as in gateway,relay")
    return names[0], names[1]


def _item(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measures what relaying a stream costs.")
    add = parser.add_argument
    add("--quick", action="store_true", help="a smoke test of some seconds; its figures mean nothing")
    kind = parser.add_mutually_exclusive_group().add_argument
    kind("--scale", action="store_true", help="10,000 events/s as 100, 300, 1,000 and 3,000 streams; one round")
    watching = "--pair nginx,viewers --margin 50 with 1, 10, 100 and 300, or --streams of them"
    kind("--viewers", action="store_true", help=watching)
    stalling = (
        f"one stream, watched by --streams (default {_STALL.streams}), without and with N ({_STALLED:,}) that stall"
    )
    kind("--stalled", type=_positive(int), nargs="?", const=_STALLED, metavar="N", help=stalling)
    rounds = f"passes of each contender, interleaved (default {_USUAL.rounds}, with --pair {_PAIR.rounds} and so on)"
    add("--rounds", type=_positive(int), help=rounds)
    add("--streams", type=_positive(int), help=f"open at the same time (default {_USUAL.streams})")
    add("--rate", type=_positive(float), help=f"events a second in each stream (default {_USUAL.rate})")
    add("--seconds", type=_positive(float), help=f"of each pass that are measured (default {_USUAL.seconds})")
    choice = parser.add_mutually_exclusive_group().add_argument
    names = "direct, nginx, gateway, relay, plain, guarded, viewers, and those added below"
    choice("--only", metavar="NAME,...", help=f"contenders to run: {names}")
    choice("--pair", type=_pair, metavar="NAME,NAME", help="two of them, the second as a multiple of the first")
    add("--margin", type=float, metavar="PERCENT", help="that the second may cost more (default 5)")
    add("--checkout", type=_item, action="append", default=[], metavar="NAME=DIR", help="another tree's gateway")
    add("--peer", type=_item, action="append", default=[], metavar="NAME=URL", help="a server that runs already")
    add(
        "--peer-header", type=_item, action="append", default=[], metavar="NAME='Header: value'", help="may be repeated"
    )
    add("--peer-body", type=_item, action="append", default=[], metavar="NAME=FILE", help="$MODEL in it is filled in")
    add("--peer-pid", type=_item, action="append", default=[], metavar="NAME=PID", help="to measure its CPU and memory")
    add("--upstream-port", type=_positive(int), metavar="PORT", help="where a peer finds the upstream (default: any)")
    add("--no-pin", dest="pin", action="store_false", help="leave the choice of cores to the scheduler")
    add("--json", type=Path, metavar="FILE", help="everything that was measured")
    add("--plot", type=Path, metavar="FILE.svg", help="CPU per event as a bar chart")
    return parser


def _positive(kind: Callable[[str], _Number]) -> Callable[[str], _Number]:
    def positive(text: str) -> _Number:
        value = kind(text)
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text} is not above 0")
        return value

    return positive
