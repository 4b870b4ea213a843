"""What the receipt of an answer costs: CPU time of the one thread, as medians of interleaved rounds.

    python -m tests.bench.receipts                     about 20 seconds

An event is appended to a log of an answer. The log is summed up not at all, as an attempt does it, at every event, or
only at the end. The longest turn is the longest time for which the event loop does nothing else.
"""

import time
from collections.abc import Callable
from statistics import median

from gateway.entries import Entry, Kind
from gateway.log.memory import MemoryStore
from gateway.log.receipt import STEP, Receipt

_EVENTS = 20_000  # a long answer, of four bytes to a token
_ROUNDS = 21
_LONGEST = 2_097_152  # events of four bytes that fill `stream.max_bytes`
_EVENT = Entry(Kind.TEXT, b"word")

Ways = dict[str, Callable[[int], bool]]
"""`way(bytes)`: whether the new entries are summed up now, where so many bytes of them wait."""

WAYS: Ways = {
    "not at all": lambda waiting: False,
    "as it is done": lambda waiting: waiting > STEP,
    "at every event": lambda waiting: True,
    "at the end": lambda waiting: False,
}


def main() -> None:
    costs: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(_ROUNDS):
        for way, cost in costs.items():
            cost.append(_measure(way, _EVENTS)[0])
    base = median(costs["not at all"])
    for way, cost in costs.items():
        added = "" if way == "not at all" else f"{median(cost) - base:+5.0f} ns an event"
        turn = "" if way == "not at all" else f"longest turn {_measure(way, _LONGEST)[1] / 1e6:7.2f} ms at 8 MiB"
        print(f"{way:15} {median(cost):5.0f} ns an event  {added}  {turn}".rstrip())


def _measure(way: str, events: int) -> tuple[float, int]:
    """Nanoseconds of each event, and of the longest turn of the receipt."""
    log = MemoryStore(max_streams=1, max_bytes=1 << 30).create("s")
    receipt, is_due, summed, longest = Receipt(log), WAYS[way], 0, 0
    start = time.thread_time_ns()
    for _ in range(events):
        log.append([_EVENT])
        if is_due(log.size - summed):
            began = time.thread_time_ns() if events == _LONGEST else 0
            receipt.take()
            summed = log.size
            longest = max(longest, time.thread_time_ns() - began) if began else 0
    began = time.thread_time_ns()
    if way != "not at all":
        receipt.fields()
    now = time.thread_time_ns()
    return (now - start) / events, max(longest, now - began)


if __name__ == "__main__":
    main()
