"""What can be asked for on the command line, and what holds where nothing is said."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from tests.bench.figures import Load
from tests.bench.installing import cache
from tests.bench.kinds import KINDS, PAIR, QUICK, USUAL, Kind, loads, quick
from tests.bench.peers import PEERS

_VIEWERS_PAIR, _VIEWERS_MARGIN = ("nginx", "viewers"), 50.0
_STALLED = 1000
_MARGIN = 5.0
_STALLED_PADDING = 4096  # so that an answer of seconds is more than what may wait for a viewer on its way
_STALLED_SECONDS = 40.0  # at most: a viewer that takes nothing for a minute is cut

_Number = TypeVar("_Number", int, float)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """With `kind`, `loads`, `rounds` and `short_seconds` filled in. Exits where something cannot be."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.viewers and not (options.pair or options.only):
        options.pair = _VIEWERS_PAIR
        options.margin = _VIEWERS_MARGIN if options.margin is None else options.margin
    options.margin = _MARGIN if options.margin is None else options.margin
    options.rounds_said = options.rounds
    options.kind_name = next((name for name in KINDS if getattr(options, name)), "")
    options.kind = _kind(options)
    options.rounds, options.short_seconds = options.kind.rounds, options.kind.short_seconds
    options.loads = _loads(options)
    if options.stalled and max(load.seconds for load in options.loads) > _STALLED_SECONDS:
        parser.error(f"--stalled measures for {_STALLED_SECONDS:.0f} seconds at most")
    return options


def _kind(options: argparse.Namespace) -> Kind:
    """What was asked for, changed by what was said about it."""
    named = KINDS.get(options.kind_name)
    found = named or (QUICK if options.quick else PAIR if options.pair else USUAL)
    if named and options.pair and named.short_seconds:
        found = named._replace(rounds=PAIR.rounds)
    if named and options.quick:
        found = quick(found)
    compares = len(found.streams) > 1 and not options.viewers
    said = {
        "rounds": options.rounds,
        "seconds": options.seconds,
        "rate": None if found.total else options.rate,
        "streams": None if compares or not options.streams else (options.streams,),
        "lasting": options.lasting if found.lasting else None,
    }
    return found._replace(**{name: value for name, value in said.items() if value is not None})


def _loads(options: argparse.Namespace) -> list[Load]:
    found = loads(options.kind)
    if not options.stalled:
        return found
    padded = [msgspec.structs.replace(load, padding=_STALLED_PADDING) for load in found]
    return [msgspec.structs.replace(load, stalled=count) for load in padded for count in (0, options.stalled)]


def _pair(text: str) -> tuple[str, str]:
    names = text.split(",")
    if not (all(names) and len(names) == len(set(names)) == 2):
        raise argparse.ArgumentTypeError(f"{text!r} is not two names, as in gateway,relay")
    return names[0], names[1]


def _peers(text: str) -> list[str]:
    """Names of PyPI, each with `==` and its version or without."""
    found = text.split(",")
    if unknown := [one for one in found if one.partition("==")[0] not in PEERS]:
        raise argparse.ArgumentTypeError(f"no such peer is known: {', '.join(unknown)} (there are {', '.join(PEERS)})")
    return found


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
    watchers = KINDS["stalled"].streams[0]
    stalling = f"one stream, watched by --streams (default {watchers}), without and with N ({_STALLED:,}) that stall"
    kind("--stalled", type=_positive(int), nargs="?", const=_STALLED, metavar="N", help=stalling)
    kind("--whole", action="store_true", help="streams that begin and end in the window, beside those that do not")
    alone = "one client, one stream at a time: added time to first event and between events; --rounds for more"
    kind("--alone", action="store_true", help=alone)
    kind("--constant", action="store_true", help="5,000 events/s as 100 and as 1,000 streams, compared")
    kind("--short", action="store_true", help="CPU time of a stream of two tokens")
    kind("--memory", action="store_true", help="memory of an open stream apart from its log, of 100 and of 4,000")
    kind("--hold", action="store_true", help="5,000 streams of an event a second, 1,000 opened a second")
    rounds = f"passes of each contender, interleaved (default {USUAL.rounds}, with --pair {PAIR.rounds} and so on)"
    add("--rounds", type=_positive(int), help=rounds)
    add("--streams", type=_positive(int), help=f"open at the same time (default {USUAL.streams[0]})")
    add("--rate", type=_positive(float), help=f"events a second in each stream (default {USUAL.rate})")
    add("--seconds", type=_positive(float), help=f"of each pass that are measured (default {USUAL.seconds})")
    add("--lasting", type=_positive(float), metavar="SECONDS", help="of a whole stream, about (default 2.5)")
    choice = parser.add_mutually_exclusive_group().add_argument
    names = "direct, nginx, gateway, relay, plain, guarded, targets, shared, viewers, and those added below"
    choice("--only", metavar="NAME,...", help=f"contenders to run: {names}")
    choice("--pair", type=_pair, metavar="NAME,NAME", help="two of them, the second as a multiple of the first")
    add("--margin", type=float, metavar="PERCENT", help="that the second may cost more (default 5)")
    add("--checkout", type=_item, action="append", default=[], metavar="NAME=DIR", help="another tree's gateway")
    known = ", ".join(PEERS)
    add("--peers", type=_peers, default=[], metavar="NAME,...", help=f"servers to install from PyPI and start: {known}")
    add(
        "--peers-cache",
        type=Path,
        default=cache(),
        metavar="DIR",
        help="where they are installed (default: %(default)s)",
    )
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
