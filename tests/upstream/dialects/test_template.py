"""The text of a chunk without its JSON being decoded: only where the chunk differs from another in nothing else."""

import json

import pytest

from gateway.entries import Entry, Kind
from gateway.upstream.dialects.openai import Decoder
from gateway.upstream.dialects.template import template_of

CHUNK = b'{"id":"i","model":"m","choices":[{"index":0,"delta":{"content":"m"},"finish_reason":null}]}'


def saying(text: bytes) -> bytes:
    return CHUNK.replace(b'"content":"m"', b'"content":"%b"' % text)


@pytest.mark.parametrize("text", ["m", " b", "é", "👍", "content", "{}[]:,", "a b", "x" * 999])
def test_the_text_of_a_chunk_like_another(text: str) -> None:
    template = template_of(CHUNK, b"m")
    assert template is not None
    assert template.text_in(saying(text.encode())) == text.encode()


OTHERS: dict[str, bytes] = {
    "an escape": saying(rb"\n"),
    "an escaped quote": saying(rb"\""),
    "a quote, so that a field is behind it": saying(b'x","role":"assistant'),
    "a control character, which is not JSON": saying(b"\t"),
    "no UTF-8": saying(b"\xff"),
    "no text": saying(b""),
    "another model": CHUNK.replace(b'"model":"m"', b'"model":"n"'),
    "a finish reason": CHUNK.replace(b"null", b'"stop"'),
    "its head alone": CHUNK[: CHUNK.index(b'm"},')],
    "its tail alone": CHUNK[CHUNK.index(b'"},') :],
    "head and tail in one": b"[DONE]",
    "nothing": b"",
}


@pytest.mark.parametrize("case", OTHERS)
def test_any_other_is_decoded(case: str) -> None:
    template = template_of(CHUNK, b"m")
    assert template is not None
    assert template.text_in(OTHERS[case]) == b""


def test_head_and_tail_do_not_overlap() -> None:
    template = template_of(b'{"choices":[{"delta":{"content":"a"}}]}', b"a")
    assert template is not None
    assert template.text_in(b'{"choices":[{"delta":{"content":"}}]}') == b""


HIDDEN: dict[str, bytes] = {
    "the text is escaped": saying(b"\\u006d"),
    "the name is escaped": CHUNK.replace(b'"content"', b'"c\\u006fntent"'),
    "another content is before it": b'{"x":{"content":"m"},' + CHUNK[1:],
    "another content counts": CHUNK.replace(b'"content":"m"', b'"content":"m","content":"m"'),
}


@pytest.mark.parametrize("case", HIDDEN)
def test_there_is_no_template_where_the_text_is_not_found_for_sure(case: str) -> None:
    assert template_of(HIDDEN[case], b"m") is None


def test_chunks_are_found_in_any_spacing() -> None:
    spaced = json.dumps(json.loads(CHUNK), indent=1).encode()
    assert template_of(spaced, b"m") is not None


def test_where_each_chunk_is_another_few_are_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    learned: list[bytes] = []
    monkeypatch.setattr("gateway.upstream.dialects.openai.template_of", lambda data, text: learned.append(data))
    decoder, entries = Decoder(), list[Entry]()
    for number in range(1000):
        decoder.decode_data(CHUNK.replace(b'"id":"i"', b'"id":"%d"' % number), entries)
    assert entries == [Entry(Kind.TEXT, b"m")] * 1000
    assert len(learned) == 10


def test_a_chunk_of_another_kind_ends_a_template() -> None:
    """What was known of the answer may be another then."""
    decoder, entries = Decoder(), list[Entry]()
    for data in (CHUNK, CHUNK.replace(b'"m",', b'"n",').replace(b"null", b'"stop"'), CHUNK):
        decoder.decode_data(data, entries)
    assert decoder.model == "m"
    assert entries == [Entry(Kind.TEXT, b"m")] * 3
