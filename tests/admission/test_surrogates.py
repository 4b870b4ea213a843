"""Half of a surrogate pair in a request: where it is, and what is said of it."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission.fields import body_fields
from gateway.admission.surrogates import half_of_pair
from gateway.errors import InvalidRequest
from tests.conftest import Client, MakeGateway
from tests.rig.clients import error_of
from tests.rig.scripted_upstream import ScriptedUpstream

HALVES = {
    "a text": (rb'{"question":"\ud83d"}', "question", "The text at `question`"),
    "the other half": (rb'{"question":"a\udE00b"}', "question", "The text at `question`"),
    "in a message": (
        rb'{"messages":[{"role":"user","content":"a"},{"role":"user", "content" : "a\ud83d"}]}',
        "messages[1].content",
        "The text at `messages[1].content`",
    ),
    "in parts": (
        rb'{"messages":[{"content":[{"type":"text"},{"type":"text","text":"\ud83d"}]}]}',
        "messages[0].content[1].text",
        "The text at `messages[0].content[1].text`",
    ),
    "in a list": (rb'{"stop":["a,[{\"","\udc00"]}', "stop[1]", "The text at `stop[1]`"),
    "behind what has ended": (rb'{"a":[[1],{"b":{}}],"model":"\ud83d"}', "model", "The text at `model`"),
    "a name": (rb'{"tools":[{"a":1,"b\ud83d":1}]}', "tools[0]", "A name at `tools[0]`"),
    "an outermost name": (rb'{"\ud83d":1}', None, "A name in the body"),
    "twice the same half": (rb'{"a":"\ud83d\ud83d\ude00"}', "a", "The text at `a`"),
    "two halves in the wrong order": (rb'{"a":"\ude00\ud83d"}', "a", "The text at `a`"),
    "behind a whole pair": (rb'{"a":"\ud83d\ude00\ude00"}', "a", "The text at `a`"),
    "behind a backslash": (rb'{"a":"\\\ud83d"}', "a", "The text at `a`"),
    "behind what only looks like a half": (rb'{"a":"\\ud83d\ude00"}', "a", "The text at `a`"),
    "behind a quote": (rb'{"a":"\"b\": \ud83d"}', "a", "The text at `a`"),
    "before a fault": (rb'{"a":"\ud83d", oops', "a", "The text at `a`"),
    "a long name": (b'{"' + b"n" * 1000 + rb'":"\ud83d"}', "n" * 64, f"The text at `{'n' * 64}`"),
    "far away": (b'{"a":[' + b"1," * 30_000 + rb'"\ud83d"]}', None, "The text in the body"),
}


@pytest.mark.parametrize("case", HALVES)
def test_the_words_say_where_it_is(case: str) -> None:
    body, path, subject = HALVES[case]
    with pytest.raises(InvalidRequest) as raised:
        body_fields(body)
    assert (raised.value.code, raised.value.param) == ("invalid_json", path)
    assert raised.value.message.startswith(f"{subject} holds half of a surrogate pair (U+D")


WHOLE = {
    "a whole pair": rb'{"a":"\ud83d\ude00"}',
    "capitals": rb'{"a":"\uD83D\uDE00"}',
    "an escaped backslash": rb'{"a":"\\ud83d"}',
    "neighbours": rb'{"a":"\ud7ff\ue000"}',
    "no string": rb'{"a":\ud83d}',
    "not whole": rb'{"a":"\ud83',
    "nothing": b"",
}


@pytest.mark.parametrize("case", WHOLE)
def test_everything_else_is_none(case: str) -> None:
    assert half_of_pair(WHOLE[case]) is None


VALUES = st.recursive(
    st.none() | st.integers() | st.text(st.characters() | st.characters(categories=["Cs"]), max_size=8),
    lambda values: (
        st.lists(values, max_size=4)
        | st.dictionaries(st.sampled_from(["a", "b c", '"', "[", "{,"]), values, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["question", "messages", "model"]), VALUES))
def test_it_is_found_where_it_is_and_nowhere_else(value: dict[str, Any]) -> None:
    body = json.dumps(value).encode()
    path = next(halves(json.loads(body)), None)
    found = half_of_pair(body)
    assert (found and found[0]) == path
    assert (found is None) == (path is None)
    if path is None:
        body_fields(body)


def halves(value: Any, path: str = "") -> Iterator[str]:
    """The paths of all texts that cannot be UTF-8."""
    if isinstance(value, dict):
        for name, item in value.items():
            name = json.dumps(name)[1:-1]
            yield from halves(item, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from halves(item, f"{path}[{index}]")
    elif isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
        yield path


@pytest.mark.parametrize("part", [b"[", b"[],", b'"",', b'{"a":', b"\\\\", rb"\ud83d\ude00"], ids=repr)
def test_fault_85_it_is_found_in_no_time(part: bytes) -> None:
    """In a body as large as any on `/v1`; generously measured, since machines that run tests are slow at times."""
    body = b'{"a":["' + part * (33_554_432 // len(part)) + rb'"\ud83d'
    started = time.process_time()
    half_of_pair(body)
    assert time.process_time() - started < 3


BODIES = {
    "a question": ("question", {"question": "half \ud83d"}),
    "a message": ("messages[0].content", {"messages": [{"role": "user", "content": "\ude00"}]}),
    "a model": ("model", {"messages": [{"role": "user", "content": "hi"}], "model": "m\ud83d"}),
    "an assistant": ("assistant", {"question": "hi", "assistant": "\ud83d"}),
    "a tool": ("tools[0].function.name", {"question": "hi", "tools": [{"function": {"name": "\ud83d"}}]}),
    "a field that nobody knows": ("x.y[1]", {"question": "hi", "x": {"y": [0, "\ud83d"]}}),
    "a name": ("metadata", {"question": "hi", "metadata": {"\ud83d": "x"}}),
}


@pytest.mark.parametrize("path", ["/chat", "/streams", "/v1/chat/completions"])
async def test_fault_38_every_route_says_what_it_is(
    gateway: MakeGateway, upstream: ScriptedUpstream, path: str
) -> None:
    client: Client = await gateway()
    for param, body in BODIES.values():
        async with client.post(path, json=body) as response:
            assert await error_of(response) == (400, "invalid_json")
            error = (await response.json())["error"]
            assert error["param"] == param
            assert "half of a surrogate pair" in error["message"]
    assert not upstream.requests
