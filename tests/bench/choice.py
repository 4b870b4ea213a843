"""From the options to the contenders of a run, and to its plan."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.bench import contenders, peers
from tests.bench.contenders import Contender
from tests.bench.figures import BASE
from tests.bench.processes import BenchError, Cores, choose_cores, open_files_limit
from tests.bench.rounds import Plan

_BOTH = "relay"  # the OpenAI surface of a gateway: of this checkout by this name, of another one as a prefix says


class Chosen(NamedTuple):
    contenders: dict[str, Contender]
    versions: dict[str, str]  # of those that were installed for this run
    reasons: list[str]  # why some are left out


def plan(options: argparse.Namespace) -> Plan:
    loads = options.loads
    files, needed = open_files_limit(), 2 * max(load.streams + load.stalled for load in loads) + 200
    if files < needed:
        raise BenchError(f"{needed} open files are needed, and the hard limit is {files} (ulimit -Hn)")
    return Plan(
        rounds=options.rounds,
        loads=loads,
        short_seconds=options.short_seconds,
        cores=cores_of(options),
        upstream_port=options.upstream_port,
        together=options.pair is not None,
    )


def cores_of(options: argparse.Namespace) -> Cores:
    return choose_cores(sorted(os.sched_getaffinity(0)), pin=options.pin)


def choose(options: argparse.Namespace, tell: Callable[[str], None]) -> Chosen:
    started = peers.ready(options.peers, options.peers_cache, cores_of(options), tell)
    usual, others = contenders.own_contenders(), contenders.variants()
    for name, directory in options.checkout:
        usual[name] = contenders.checkout(Path(directory))
        others |= contenders.variants(Path(directory), prefix=f"{name}-")
    usual |= _running(options)
    found = usual | others | started.contenders
    known = _wanted(options, usual, others) | started.contenders
    names = options.pair or ([*options.only.split(","), *started.contenders] if options.only else list(known))
    if unknown := [name for name in names if name not in found]:
        reasons = "".join(f"\n{reason}" for reason in started.reasons)
        raise BenchError(f"no such contender here: {', '.join(unknown)} (there are {', '.join(found)}){reasons}")
    return Chosen({name: found[name] for name in names}, started.versions, started.reasons)


def _wanted(
    options: argparse.Namespace, usual: dict[str, Contender], others: dict[str, Contender]
) -> dict[str, Contender]:
    """Those that run where nobody names them."""
    if options.stalled:
        return {name: made for name, made in others.items() if name.endswith("viewers")}
    found = usual
    if options.kind.both or options.alone or options.peers:
        found = usual | {name: made for name, made in others.items() if name.endswith(_BOTH)}
    if not options.kind.direct:
        found = {name: made for name, made in found.items() if name != BASE}
    return found


def _running(options: argparse.Namespace) -> dict[str, Contender]:
    """The servers that run already."""
    headers, bodies, pids = options.peer_header, dict(options.peer_body), dict(options.peer_pid)
    running = dict(options.peer)
    if strangers := ({name for name, _ in headers} | set(bodies) | set(pids)) - set(running):
        raise BenchError(f"no --peer is called {', '.join(sorted(strangers))}")
    return {
        name: contenders.peer(
            url,
            headers=dict(_header(text) for owner, text in headers if owner == name),
            body=Path(bodies[name]).read_text() if name in bodies else None,
            pid=int(pids[name]) if name in pids else None,
        )
        for name, url in running.items()
    }


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise BenchError(f"a header is written 'Name: value', not {text!r}")
    return name.strip(), value.strip()
