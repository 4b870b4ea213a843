"""Feeds the code that reads bytes of strangers with inputs that nobody thought of.

    python -m tests.fuzz                           every target, 100,000 inputs in all
    python -m tests.fuzz --inputs 10000000         the same for ten million: that is what `.ci/long` does
    python -m tests.fuzz parser decoder            these targets only
    python -m tests.fuzz parser --again FILE       one input once more, such as the one that the fuzzer has kept

It needs the extra `fuzz`. Inputs are divided among the targets by what each of them costs and may find. An input with
which a target fails is kept in a file, whose name is printed.
"""

import argparse
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from zlib import crc32

from tests.fuzz.mutation import LONGEST
from tests.fuzz.seeds import seeds
from tests.fuzz.targets import TARGETS

# Of the inputs, in percent. A second of CPU time takes 16,000 of the splitter, and 1,800 to 2,900 of the others: so ten
# million take about 40 minutes of it, 20 on two cores.
_SHARES = {"splitter": 56, "parser": 14, "decoder": 12, "responses": 8, "messages": 10}
_ROUND = 250_000  # inputs of one process; what it has found, the next one begins with
_SLOWEST = 10  # seconds for one input; most take less than a millisecond
_LARGEST = 1024  # MiB of memory of one process; 100 are usual
_TOLD = 6_000  # characters of what a fuzzer has written, at its end


@dataclass(frozen=True)
class Round:
    target: str
    inputs: int
    seed: int


@dataclass(frozen=True)
class Result:
    """`seconds` of CPU time, and the end of what the fuzzer wrote if it has found a fault."""

    seconds: float
    failure: str


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    if options.again:
        return _again(options.targets, options.again)
    if find_spec("atheris") is None:
        print("The fuzzer is not installed: pip install -e '.[test,fuzz]'", file=sys.stderr)
        return 2
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    for target in options.targets:
        _plant(target, folder / target)
    rounds = list(_rounds(options.targets, options.inputs, options.seed))
    with ThreadPoolExecutor(options.processes) as pool:
        results = list(pool.map(lambda one: _run(one, folder), rounds))
    _report(rounds, results)
    if all(result.failure == "" for result in results):
        shutil.rmtree(folder)
        return 0
    return 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; without one, all")
    parser.add_argument("--inputs", type=int, default=100_000, metavar="N", help="in all (default: 100,000)")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), metavar="N", help="at a time")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="another one gives other inputs (default: 1)")
    parser.add_argument("--again", type=Path, nargs="+", metavar="FILE", help="check these inputs, and nothing else")
    options = parser.parse_args(arguments)
    if unknown := set(options.targets) - set(TARGETS):
        parser.error(f"there is no target {', '.join(sorted(unknown))}")
    options.targets = options.targets or list(TARGETS)
    return options


def _again(targets: Sequence[str], files: Sequence[Path]) -> int:
    for target in targets:
        for file in files:
            data = file.read_bytes()
            print(f"{target}: {data!r}")
            TARGETS[target](data, crc32(data))
    return 0


def _plant(target: str, folder: Path) -> None:
    folder.mkdir()
    for number, seed in enumerate(seeds(target)):
        (folder / f"seed-{number}").write_bytes(seed)


def _rounds(targets: Sequence[str], inputs: int, seed: int) -> Iterator[Round]:
    """The rounds of each target, in turn."""
    whole = sum(_SHARES[target] for target in targets)
    shares = {target: math.ceil(inputs * _SHARES[target] / whole) for target in targets}
    for number in range(math.ceil(max(shares.values()) / _ROUND)):
        for target, share in shares.items():
            if (left := share - number * _ROUND) > 0:
                yield Round(target, min(left, _ROUND), seed + number)


def _run(one: Round, folder: Path) -> Result:
    limits = [f"-max_len={LONGEST[one.target]}", f"-timeout={_SLOWEST}", f"-rss_limit_mb={_LARGEST}"]
    options = [f"-runs={one.inputs}", f"-seed={one.seed}", f"-artifact_prefix={folder}/{one.target}-", *limits]
    command = [sys.executable, "-m", "tests.fuzz.engine", one.target, str(folder / one.target), *options]
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        told = output.read().decode(errors="replace")
    seconds = used.ru_utime + used.ru_stime
    print(f"{one.target}: {one.inputs:,} inputs in {seconds:.0f} s of CPU time", flush=True)
    return Result(seconds, "" if process.returncode == 0 else told[-_TOLD:])


def _report(rounds: Sequence[Round], results: Sequence[Result]) -> None:
    print(f"\n{'target':<12}{'inputs':>12}{'a second':>12}   (of CPU time)")
    for target in dict.fromkeys(one.target for one in rounds):
        pairs = [pair for pair in zip(rounds, results, strict=True) if pair[0].target == target]
        inputs, seconds = sum(one.inputs for one, _ in pairs), sum(result.seconds for _, result in pairs)
        print(f"{target:<12}{inputs:>12,}{inputs / seconds:>12,.0f}")
    for one, result in zip(rounds, results, strict=True):
        if result.failure:
            print(f"\n{one.target} has a fault:\n{result.failure}")


if __name__ == "__main__":
    sys.exit(main())
