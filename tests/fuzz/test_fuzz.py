"""Every target over its seeds and some hundred mutations of them. `python -m tests.fuzz` goes on from there."""

from collections.abc import Iterator
from random import Random
from zlib import crc32

import pytest

from gateway.entries import Entry, Kind
from gateway.sse import LineSplitter, Parser
from gateway.upstream.dialects.openai import Decoder
from tests.fuzz import answers, streams
from tests.fuzz.__main__ import main
from tests.fuzz.mutation import LONGEST, mutated
from tests.fuzz.seeds import CORPUS, seeds
from tests.fuzz.targets import TARGETS

_MUTATIONS = 400  # half a second for each target
_FORMS = 8  # numbers that decide on the decoder, the end and the head


@pytest.mark.parametrize("target", TARGETS)
def test_seeds(target: str) -> None:
    for seed in seeds(target):
        for number in range(_FORMS):
            TARGETS[target](seed, number)


@pytest.mark.parametrize("target", TARGETS)
def test_mutations(target: str) -> None:
    """The same in every run: the numbers come from the target's name, and from the input."""
    for data in mutations(target, _MUTATIONS):
        try:
            TARGETS[target](data, crc32(data))
        except Exception as error:
            error.add_note(f"the input: {data!r}")
            raise


def mutations(target: str, number: int) -> Iterator[bytes]:
    random, first = Random(target), seeds(target)
    for _ in range(number):
        yield mutated(random.choice(first), random, LONGEST[target])


def test_the_corpus_is_small() -> None:
    """It is read in every run of the tests, and by people."""
    files = [path for path in CORPUS.rglob("*") if path.is_file()]
    assert {path.parent.name for path in files} <= set(TARGETS)
    assert all(path.stat().st_size <= LONGEST[path.parent.name] for path in files)
    assert sum(path.stat().st_size for path in files) <= 65_536


def test_mutations_keep_to_the_longest_input() -> None:
    random, data = Random(7), b""
    for _ in range(2_000):
        data = mutated(data, random, 100)
        assert len(data) <= 100


# The checks find what is wrong


def finds(target: str) -> bool:
    try:
        test_mutations(target)
    except (AssertionError, ZeroDivisionError):
        return True
    return False


def test_a_splitter_that_counts_an_end_twice_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class Twice(LineSplitter):
        def feed(self, chunk: bytes) -> list[bytes]:
            self._skip_lf = False
            return super().feed(chunk)

    monkeypatch.setattr(streams, "LineSplitter", Twice)
    assert finds("splitter")


def test_a_parser_that_takes_too_much_as_whole_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class Careless(Parser):
        def whole(self, chunk: bytes) -> list[bytes] | None:
            return [chunk[6:-2]] if chunk[:6] == b"data: " and chunk[-2:] == b"\n\n" else None

    monkeypatch.setattr(streams, "Parser", Careless)
    assert finds("parser")


@pytest.mark.parametrize("target", ["decoder", "responses", "messages"])
def test_an_exception_that_nobody_expects_is_found(monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    class Broken(Decoder):
        def rest(self) -> list[Entry]:
            return [] if self.done else [Entry(Kind.TEXT, b"%d" % (7 // 0))]

    monkeypatch.setattr("tests.fuzz.apis.Decoder", Broken)
    monkeypatch.setattr(answers, "Decoder", Broken)
    assert finds(target)


def test_an_input_can_be_checked_once_more(capsys: pytest.CaptureFixture[str]) -> None:
    file = next((CORPUS / "responses").iterdir())
    assert main(["responses", "--again", str(file)]) == 0
    assert capsys.readouterr().out.startswith("responses: b'")


def test_a_target_that_does_not_exist_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["sockets"])
    assert "there is no target sockets" in capsys.readouterr().err
