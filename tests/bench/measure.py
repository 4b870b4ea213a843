"""What Linux says about processes and the machine: CPU time, memory, and who else was busy.

CPU time is the scheduler's own count (`schedstat`, in ns), not `utime + stime`, whose ticks of 10 ms are too coarse
for a cheap contender, and not the wall clock, which on a shared machine measures the neighbours. It includes the
kernel's work in the process's system calls; on loopback that is also the TCP receive path of what it writes, as
every contender has it. Parsing is apart from reading, so that it can be tested.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


def supported() -> bool:
    return (PROC / "self/schedstat").exists() and (PROC / "self/smaps_rollup").exists()


def process_tree(roots: Iterable[int]) -> list[int]:
    """The processes `roots` and all that descend from them."""
    parents = {}
    for stat in PROC.glob("[0-9]*/stat"):
        if text := _read(stat):
            parents[int(stat.parent.name)] = parse_parent(text)
    return descendants(roots, parents)


def descendants(roots: Iterable[int], parents: dict[int, int]) -> list[int]:
    tree = list(roots)
    for pid in tree:  # grows while it is walked
        tree += [child for child, parent in parents.items() if parent == pid and child not in tree]
    return tree


def cpu_ns(pids: Iterable[int]) -> int:
    """CPU time of all threads that live in these processes."""
    return sum(parse_schedstat(_read(task)) for pid in pids for task in PROC.glob(f"{pid}/task/*/schedstat"))


def pss_kib(pids: Iterable[int]) -> int | None:
    """Memory of these processes, shared pages counted once; None where it may not be read."""
    sizes = [parse_pss(_read(PROC / f"{pid}/smaps_rollup")) for pid in pids]
    return sum(sizes) if all(sizes) and sizes else None


def unsent_bytes(port: int) -> int:
    """What waits in the kernel to be sent, or to be acknowledged, on connections to this port."""
    return parse_unsent(_read(PROC / "net/tcp"), port)


class Ticks(NamedTuple):
    """CPU time of the whole machine so far, in clock ticks."""

    busy: int
    stolen: int
    total: int


def machine_ticks() -> Ticks:
    return parse_ticks(_read(PROC / "stat"))


def cpu_model() -> str:
    lines = _read(PROC / "cpuinfo").splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown CPU")


def parse_parent(stat: str) -> int:
    """The parent's pid: the second field after the command, which may itself hold spaces and parentheses."""
    return int(stat.rpartition(")")[2].split()[1])


def parse_schedstat(text: str) -> int:
    return int(text.split()[0]) if text else 0


def parse_pss(text: str) -> int:
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")), 0)


def parse_unsent(text: str, port: int) -> int:
    rows = [line.split() for line in text.splitlines()[1:]]
    return sum(int(row[4].partition(":")[0], 16) for row in rows if int(row[1].rpartition(":")[2], 16) == port)


def parse_ticks(text: str) -> Ticks:
    user, nice, system, idle, iowait, irq, softirq, stolen = map(int, text.splitlines()[0].split()[1:9])
    busy = user + nice + system + irq + softirq
    return Ticks(busy, stolen, busy + stolen + idle + iowait)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # ended meanwhile, or belongs to someone else
        return ""
