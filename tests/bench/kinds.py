"""The kinds of run: what each puts on the contenders where the command line says nothing else. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

from tests.bench.figures import Load

_FOR_SHORT = ("short_per_second", "short_cpu_us")
_FOR_MEMORY = ("kib_per_stream",)
_FOR_HOLDING = ("cpu_us_per_event", "first_ms_p50", "first_ms_p99", "latency_ms_p50", "latency_ms_p99")

# A stream as many chats are: two or three seconds, 50 events/s. Each pass has more than two hundred of them.
_LASTING = 2.5

_QUICK_SHARE = 25  # that a quick run has of the streams of kinds which compare loads


class Kind(NamedTuple):
    rounds: int
    seconds: float
    short_seconds: float = 0
    streams: Sequence[int] = (100,)  # a load for each
    rate: float = 0  # events a second in each stream
    total: float = 0  # or in all of them, however many they are
    openings: float = 200  # a second
    lasting: float = 0  # of whole streams, which are another load beside the usual one
    both: bool = False  # is the OpenAI surface measured, too, where nobody chooses the contenders?
    direct: bool = True  # and no server at all?
    metrics: Sequence[str] | None = None  # the rows of the table; None: all


# Half a core for a contender of 100 µs per event: nearer to saturation, events queue, and batches make them cheaper.
USUAL = Kind(rounds=3, seconds=6, short_seconds=2, rate=50)
QUICK = Kind(rounds=1, seconds=1, short_seconds=0.5, streams=(20,), rate=20)
PAIR = Kind(rounds=12, seconds=5, short_seconds=4, rate=25)  # two at once: half the rate for each

KINDS = {
    "scale": Kind(rounds=1, seconds=6, streams=(100, 300, 1000, 3000), total=10_000),
    "viewers": Kind(rounds=8, seconds=4, streams=(1, 10, 100, 300), rate=25),  # a pair, too
    "stalled": Kind(rounds=5, seconds=5, streams=(20,), rate=25),
    "whole": Kind(rounds=3, seconds=6, short_seconds=2, rate=50, lasting=_LASTING, both=True),
    "constant": Kind(rounds=6, seconds=6, streams=(100, 1000), total=5_000, both=True, direct=False),
    "short": Kind(
        rounds=3, seconds=0.5, short_seconds=4, streams=(1,), rate=50, both=True, direct=False, metrics=_FOR_SHORT
    ),
    # So few events that a stream's log is next to nothing, and one of each stream in the window.
    "memory": Kind(rounds=1, seconds=5, streams=(100, 4000), rate=0.2, both=True, direct=False, metrics=_FOR_MEMORY),
    "hold": Kind(
        rounds=1, seconds=10, streams=(5000,), rate=1, openings=1000, both=True, direct=False, metrics=_FOR_HOLDING
    ),
}


def quick(kind: Kind) -> Kind:
    """The same within some seconds; its figures mean nothing."""
    return kind._replace(
        rounds=1,
        seconds=min(kind.seconds, 0.5),
        short_seconds=min(kind.short_seconds, 0.5),
        streams=[max(streams // _QUICK_SHARE, 1) for streams in kind.streams],
        rate=kind.rate and max(kind.rate, 2),
        total=kind.total / _QUICK_SHARE,
        lasting=kind.lasting and 0.2,
    )


def loads(kind: Kind) -> list[Load]:
    usual = [
        Load(streams, kind.rate or kind.total / streams, kind.seconds, openings=kind.openings)
        for streams in kind.streams
    ]
    if not kind.lasting:
        return usual
    return [*usual, *(Load(one.streams, one.rate, one.seconds, lasting=kind.lasting) for one in usual)]
