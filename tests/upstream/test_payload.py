"""The body for each target: the same fields, its own name of the model, and its own options."""

import json

import pytest
from msgspec import Raw

from gateway.config import Timeouts, Upstream
from gateway.upstream.payload import Payload
from gateway.upstream.routing import Target

OWN, USAGE = Raw(b'{"x":1}'), Raw(b'{"x":1,"include_usage":true}')


def sent(payload: Payload, *, stream_usage: bool = True) -> list[tuple[str, object]]:
    """The fields of the body in their order, duplicates included."""
    target = Target(Upstream("up", "http://up/v1", stream_usage=stream_usage), 'a "model"', Timeouts())
    pairs: list[tuple[str, object]] = json.loads(payload.for_target(target), object_pairs_hook=list)
    return pairs


@pytest.mark.parametrize("fields", [b"{}", b'{"stream":true}', b'{"stream":true,"seed":1}'])
@pytest.mark.parametrize(
    ("own", "usage", "stream_usage", "options"),
    [
        (None, None, True, None),
        (None, USAGE, True, USAGE),
        (None, USAGE, False, None),
        (OWN, USAGE, True, USAGE),
        (OWN, USAGE, False, OWN),
        (OWN, None, True, OWN),
        (Raw(b"null"), USAGE, False, Raw(b"null")),
    ],
)
def test_one_object_with_one_model(
    fields: bytes, own: Raw | None, usage: Raw | None, stream_usage: bool, options: Raw | None
) -> None:
    expected: list[tuple[str, object]] = [("model", 'a "model"')]
    if options is not None:
        expected.append(("stream_options", json.loads(bytes(options), object_pairs_hook=list)))
    expected += json.loads(fields, object_pairs_hook=list)
    assert sent(Payload(fields, own, usage), stream_usage=stream_usage) == [tuple(pair) for pair in expected]


def test_the_fields_pass_to_the_digit() -> None:
    target = Target(Upstream("up", "http://up/v1"), "m", Timeouts())
    assert Payload(b'{"seed":12345678901234567890123,"t":0.10}').for_target(target) == (
        b'{"model":"m","seed":12345678901234567890123,"t":0.10}'
    )


@pytest.mark.parametrize(("fields", "sent"), [(b"{}", b"{}"), (b'{"input": 1.0}', b'{"input": 1.0}')])
def test_the_upstreams_default_model_is_not_named(fields: bytes, sent: bytes) -> None:
    target = Target(Upstream("up", "http://up/v1"), "", Timeouts())
    assert Payload(fields).for_target(target) == sent


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (b'{"max_tokens":9,"seed":1}', {"max_completion_tokens": 9, "seed": 1}),
        (b'{"max_tokens":9,"max_completion_tokens":8}', {"max_tokens": 9, "max_completion_tokens": 8}),
        (b'{"messages":["max_tokens"]}', {"messages": ["max_tokens"]}),
        (b"{}", {}),
    ],
)
def test_the_bound_of_an_answer_has_the_name_that_the_upstream_knows(
    fields: bytes, expected: dict[str, object]
) -> None:
    upstream = Upstream("up", "http://up/v1", max_tokens_field="max_completion_tokens")
    assert json.loads(Payload(fields).for_target(Target(upstream, "m", Timeouts()))) == {"model": "m", **expected}
    other = Target(Upstream("up", "http://up/v1"), "m", Timeouts())
    assert json.loads(Payload(fields).for_target(other)) == {"model": "m", **json.loads(fields)}
