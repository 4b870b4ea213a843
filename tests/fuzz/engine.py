"""Fuzzes one target in this process, which ends with it. The only module that uses atheris.

Arguments: the target, a folder of inputs to begin with, and options of libFuzzer. Inputs that reach new code are added
to the folder: https://llvm.org/docs/LibFuzzer.html
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from random import Random
from zlib import crc32

import atheris

from tests.fuzz.mutation import mutated

# The code whose branches are counted, which takes more time than the code itself. The rest is not what is fuzzed.
COUNTED = [
    *("gateway.sse", "gateway.upstream.dialects", "gateway.responses", "gateway.messages"),
    *("gateway.admission.fields", "gateway.admission.surrogates"),
]
_OWN = 3  # of four mutations; the fourth is one of libFuzzer's, whose kinds are others


def main(arguments: Sequence[str]) -> None:
    target, *options = arguments
    with atheris.instrument_imports(include=COUNTED, enable_loader_override=False):
        check = import_module("tests.fuzz.targets").TARGETS[target]

    def check_one(data: bytes) -> None:
        check(data, crc32(data))

    atheris.Setup(["tests.fuzz", *options], check_one, custom_mutator=_mutate)
    atheris.Fuzz()


def _mutate(data: bytes, most: int, seed: int) -> bytes:
    random = Random(seed)
    if random.randrange(4) < _OWN:
        return mutated(data, random, most)
    changed: bytes = atheris.Mutate(data, len(data))
    return changed


if __name__ == "__main__":
    main(sys.argv[1:])
