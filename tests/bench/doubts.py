"""What makes a result doubtful. Pure."""

from collections.abc import Sequence
from statistics import median

from tests.bench.figures import REFERENCE, Figures, Pass, summarize

# The bounds are where two runs on a quiet machine no longer agree with a run on it.

_NOISY_SPREAD = 0.25
_NOISY_OTHERS = 0.15  # cores
_NOISY_STOLEN = 0.05  # cores
_KEEPS_UP = 0.97  # of the events that the upstream should have sent
_LOAD_BUSY = 0.85  # of the core that upstream and client share
_CONTENDER_BUSY = 0.80  # of a core: from about here on, events wait for each other, and batches make them cheaper
_SATURATED = 0.90  # of a core, under a load that asks for as much as it gets


def doubts(passes: Sequence[Pass]) -> list[str]:
    """Sentences for the end of the report; none when there is nothing to say."""
    return [*_noise(passes), *_limits(passes)]


def _noise(passes: Sequence[Pass]) -> list[str]:
    found = []
    for load, summaries in summarize(passes).items():
        reference = summaries.get(REFERENCE, {}).get("cpu_us_per_event")
        if reference and reference.relative > _NOISY_SPREAD:
            share = f"{reference.relative:.0%}"
            found.append(f"{load.title}: {REFERENCE}'s own CPU per event differs by {share} between rounds.")
    others = [one.figures.streams.other_busy or 0.0 for one in passes]
    stolen = [one.figures.streams.stolen for one in passes]
    if max(others) > _NOISY_OTHERS:
        found.append(f"Other processes used up to {max(others):.2f} cores (median {median(others):.2f}).")
    if max(stolen) > _NOISY_STOLEN:
        found.append(f"The hypervisor kept up to {max(stolen):.2f} cores (median {median(stolen):.2f}).")
    return [f"Noisy: {note}" for note in found]


def _limits(passes: Sequence[Pass]) -> list[str]:
    found = []
    for one in passes:
        figures, where = one.figures.streams, f"{one.contender}, {one.load.title}, round {one.round}"
        expected = one.load.total_rate * figures.window_seconds
        if figures.events < _KEEPS_UP * expected:
            found.append(f"Saturated: {where}: {figures.events / expected:.0%} of the events arrived in time.")
        busy = (figures.cpu_ns or 0) / 1e9 / figures.window_seconds
        if busy > _CONTENDER_BUSY:
            found.append(f"Nearly saturated: {where}: it used {busy:.2f} cores, so its latencies are a queue's.")
        if figures.load_busy > _LOAD_BUSY:
            found.append(f"Overloaded: {where}: upstream and client used {figures.load_busy:.2f} cores themselves.")
    return found


def held_back(own: Figures) -> bool:
    """The contender had CPU time left while short streams were asked for: the load side was the limit."""
    short = own.short
    return short is not None and short.cpu_ns is not None and short.cpu_ns / 1e9 < _SATURATED * short.seconds
