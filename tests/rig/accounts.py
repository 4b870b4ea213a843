"""A gateway that can be asked what lives in it: its tasks, descriptors and objects.

    ACCOUNT=FILE python -m tests.rig.accounts serve --config ...

It is the command `gateway`, with a handler for SIGUSR1 that writes the account to the file. So the gateway itself needs
no code for it. With PYTHONTRACEMALLOC set, the account also has the places that hold the most memory.
"""

import asyncio
import gc
import os
import signal
import sys
import tracemalloc
from collections import Counter
from pathlib import Path

import msgspec

_PLACES = 40  # of a traced process, those that hold the most memory
_LISTENING = "0A"  # a state in /proc/net/tcp
_PATIENCE = 20.0  # seconds for an account to come: a busy process collects its garbage first


class Account(msgspec.Struct, frozen=True):
    tasks: dict[str, int]  # by the names of their coroutines
    descriptors: dict[str, int]  # by what they are: `client`, `connection to PORT`, `pipe`, ...
    objects: dict[str, int]  # that the collector knows, by type
    resident_kib: int
    traced: dict[str, int] = {}  # bytes by place


async def account(pid: int, file: Path) -> Account:
    """Asks the process. Raises TimeoutError, and ProcessLookupError if it is gone."""
    _forget(file)
    os.kill(pid, signal.SIGUSR1)
    async with asyncio.timeout(_PATIENCE):
        while (data := _written(file)) is None:  # noqa: ASYNC110 - the state of another process
            await asyncio.sleep(0.02)
    return msgspec.json.decode(data, type=Account)


def _forget(file: Path) -> None:
    file.unlink(missing_ok=True)


def _written(file: Path) -> bytes | None:
    return file.read_bytes() if file.exists() else None


def take() -> Account:
    """The account of this process. The objects in its tables do not count."""
    gc.collect()
    objects = Counter(f"{type(one).__module__}.{type(one).__qualname__}" for one in gc.get_objects())
    tasks = Counter(getattr(task.get_coro(), "__qualname__", "?") for task in asyncio.all_tasks())
    return Account(dict(tasks), dict(_descriptors()), dict(objects), resident_kib(os.getpid()), _traced())


def resident_kib(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def _descriptors() -> Counter[str]:
    sockets, kinds = _tcp_sockets(), Counter[str]()
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:  # that of the listing itself
            continue
        kinds[sockets.get(target) or target.partition(":")[0]] += 1
    return kinds


def _tcp_sockets() -> dict[str, str]:
    """What each TCP socket of this network is, by the name that links to it have. See proc(5)."""
    lines = [line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
    sockets = [(f"socket:[{line[9]}]", _port(line[1]), _port(line[2]), line[3] == _LISTENING) for line in lines]
    served = {local for _, local, _, listens in sockets if listens}
    return {
        link: "listening socket" if listens else "client" if local in served else f"connection to {remote}"
        for link, local, remote, listens in sockets
    }


def _port(address: str) -> int:
    return int(address.partition(":")[2], 16)


def _traced() -> dict[str, int]:
    if not tracemalloc.is_tracing():
        return {}
    statistics = tracemalloc.take_snapshot().statistics("lineno")[:_PLACES]
    return {f"{one.traceback[0].filename}:{one.traceback[0].lineno}": one.size for one in statistics}


def _write(file: Path) -> None:
    part = file.with_suffix(".part")
    part.write_bytes(msgspec.json.encode(take()))
    part.rename(file)


def main() -> int:
    file = Path(os.environ["ACCOUNT"])
    signal.signal(signal.SIGUSR1, lambda *_: _write(file))
    from gateway.cli import main as gateway

    return gateway(sys.argv[1:])


if __name__ == "__main__":
    raise SystemExit(main())
