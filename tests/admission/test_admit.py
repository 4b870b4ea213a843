"""From what was asked to what is sent upstream, or to a clear error."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission.admit import AdmittedRequest, Completion, admit
from gateway.admission.admit_v1 import admit_completion, admit_translated
from gateway.admission.auth import Caller
from gateway.admission.fields import (
    ChatRequest,
    Show,
    body_fields,
    chat_request,
    completion_request,
    query_fields,
    view_fields,
)
from gateway.config import Assistant, Config, Model, TargetName, Upstream
from gateway.endpoints import Endpoint
from gateway.errors import EndpointNotSupported, GatewayError, InvalidRequest, ModelNotFound, NotFound
from gateway.log.views import Format

UP = Upstream("up", "http://up/v1")
CONFIG = Config(
    upstreams=[UP],
    default_model="m",
    assistants={
        "maths": Assistant("k", ["Teach.", "Be brief."], {"temperature": 0.3, "top_p": 0.5, "stop": ["x"]}),
        "plain": Assistant(),
        "greedy": Assistant(
            parameters={
                "model": "x",
                "messages": [],
                "n": 3,
                "stream": False,
                "stream_options": {"include_usage": False},
            }
        ),
    },
)
SOMEONE = Caller("127.0.0.1")
HI = {"role": "user", "content": "hi"}
MESSAGES = b'{"messages":[{"role":"user","content":"hi"}]'  # left open


def asked(body: object, config: Config = CONFIG) -> AdmittedRequest:
    return admit(config, SOMEONE, said(body))


def body_of(request: AdmittedRequest) -> bytes:
    return request.payload.for_target(request.route.targets[0])


def said(body: object) -> ChatRequest:
    return chat_request(body_fields(body if isinstance(body, bytes) else json.dumps(body).encode()))


def sent(body: object, config: Config = CONFIG) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(body_of(asked(body, config)))
    return value


# What is sent


def test_a_question_becomes_a_message() -> None:
    assert sent({"question": "why?"}) == {
        "model": "m",
        "messages": [{"role": "user", "content": "why?"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_messages_pass_as_they_are() -> None:
    """Parts, names and fields that nobody knows; nothing is read but the role."""
    messages = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": [{"type": "text", "text": "é\u2028"}], "name": "n", "x": {"y": [None, 1e300]}},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c"}]},
        {"role": "tool", "tool_call_id": "c", "content": ""},
    ]
    assert sent({"messages": messages})["messages"] == messages


def test_any_parameter_passes_to_the_digit() -> None:
    """Integers of any size, and null; of duplicate names the last one wins; fields of ours stay here."""
    fields = (
        MESSAGES + b',"seed":123456789012345678901234567890,"temperature":0.10,"stop":"a","stop":["b"],"x":{"y": 1 },'
        b'"user":null,"format":"json","reasoning":true,"n":1,"stream":false,"stream_options":{"x":1},"assistant":"plain"}'
    )
    body = body_of(asked(fields))
    assert b'"seed":123456789012345678901234567890' in body
    assert b'"temperature":0.10' in body
    assert json.loads(body) == {
        "model": "m",
        "messages": [HI],
        "seed": 123456789012345678901234567890,
        "temperature": 0.1,
        "stop": ["b"],
        "x": {"y": 1},
        "user": None,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_of_two_questions_the_last_one_is_asked() -> None:
    assert sent(b'{"question":"a","question":"b"}')["messages"] == [{"role": "user", "content": "b"}]


def test_usage_is_asked_for_where_the_upstream_takes_that() -> None:
    config = Config(upstreams=[Upstream("up", "http://up/v1", stream_usage=False)], default_model="m")
    assert "stream_options" not in sent({"question": "a"}, config)


def test_an_assistant_goes_before_and_a_request_outranks_it_key_by_key() -> None:
    body = sent({"assistant": "maths", "messages": [HI], "temperature": 1, "stop": None})
    assert body["messages"] == [
        {"role": "system", "content": "Teach."},
        {"role": "system", "content": "Be brief."},
        HI,
    ]
    assert (body["model"], body["temperature"], body["top_p"], body["stop"]) == ("k", 1, 0.5, None)
    assert sent({"assistant": "maths", "question": "a", "model": "z"})["model"] == "z"


def test_an_assistants_parameters_are_not_what_makes_a_request() -> None:
    body = sent({"assistant": "greedy", "question": "hi"})
    assert (body["model"], body["messages"], body["stream"]) == ("m", [HI], True)
    assert body["stream_options"] == {"include_usage": True}
    assert "n" not in body


# Whom it is sent to

WITH_DEFAULT = Config(
    upstreams=[UP], default_model="m", assistants={"default": Assistant("d", ["S"]), "plain": Assistant()}
)
WITH_MODELS = Config(
    upstreams=[UP],
    models=[Model("first", [TargetName("up", "f")]), Model("second", [TargetName("up")])],
    assistants={"a": Assistant("second")},
)


@pytest.mark.parametrize(
    ("config", "fields", "told", "target"),
    [
        (CONFIG, {}, "m", "m"),
        (CONFIG, {"model": "x"}, "x", "x"),
        (CONFIG, {"model": "Org/Model:7b é"}, "Org/Model:7b é", "Org/Model:7b é"),
        (CONFIG, {"model": ""}, "m", "m"),
        (CONFIG, {"model": None, "assistant": None}, "m", "m"),
        (CONFIG, {"assistant": ""}, "m", "m"),
        (CONFIG, {"assistant": "maths"}, "k", "k"),
        (CONFIG, {"assistant": "maths", "model": "x"}, "x", "x"),
        (WITH_DEFAULT, {}, "d", "d"),
        (WITH_DEFAULT, {"model": "x"}, "x", "x"),
        (WITH_DEFAULT, {"assistant": "plain"}, "m", "m"),
        (WITH_MODELS, {}, "first", "f"),
        (WITH_MODELS, {"model": "second"}, "second", "second"),
        (WITH_MODELS, {"assistant": "a"}, "second", "second"),
    ],
)
def test_whom_it_is_sent_to(config: Config, fields: dict[str, object], told: str, target: str) -> None:
    """A model that is named, else the assistant's, else the default; `default` is the assistant of who names none."""
    result = asked({"question": "hi", **fields}, config)
    assert (result.model, result.route.targets[0].model, json.loads(body_of(result))["model"]) == (
        told,
        target,
        target,
    )


def test_the_default_assistant_is_asked_where_neither_it_nor_a_model_is_named() -> None:
    assert sent({"question": "hi"}, WITH_DEFAULT)["messages"] == [{"role": "system", "content": "S"}, HI]
    assert sent({"question": "hi", "model": "x"}, WITH_DEFAULT)["messages"] == [HI]
    assert sent({"question": "hi", "assistant": "plain"}, WITH_DEFAULT)["messages"] == [HI]


# How it is shown


@pytest.mark.parametrize(
    ("fields", "format", "reasoning"),
    [
        ({}, Format.TEXT, False),
        ({"format": "text"}, Format.TEXT, False),
        ({"format": "json"}, Format.JSON, False),
        ({"format": None, "reasoning": None}, Format.TEXT, False),
        *[({"reasoning": yes}, Format.TEXT, True) for yes in (True, 1, "1", "true")],
        *[({"reasoning": no}, Format.TEXT, False) for no in (False, 0, "0", "false", "")],
    ],
)
def test_how_it_is_shown(fields: dict[str, object], format: Format, reasoning: bool) -> None:
    assert said({"question": "hi", **fields}).show == Show(format, reasoning)


# A query


@pytest.mark.parametrize("question", ["why?", " é\n", "1", "null", '"', "\0", "a&b=c"])
def test_a_query_asks_as_a_body_does(question: str) -> None:
    query = {"q": question, "model": "x", "format": "json", "reasoning": "1", "other": "x"}
    request = chat_request(query_fields(query))
    result = admit(CONFIG, SOMEONE, request)
    assert json.loads(body_of(result))["messages"] == [{"role": "user", "content": question}]
    assert (result.model, request.show) == ("x", Show(Format.JSON, True))
    assert b"other" not in body_of(result)


def test_a_query_without_a_question() -> None:
    with pytest.raises(InvalidRequest, match=r"add \?q=") as raised:
        query_fields({"question": "why?"})
    assert (raised.value.code, raised.value.param) == ("question_missing", "q")


def test_a_query_of_a_post_says_whom_to_ask_and_how_to_show_it() -> None:
    """The body outranks it."""
    query = view_fields(
        {"model": "x", "assistant": "maths", "format": "json", "reasoning": "1", "temperature": "2", "q": "b"}
    )
    request = chat_request(query | body_fields(b'{"question":"a","model":"y"}'))
    result = admit(CONFIG, SOMEONE, request)
    body = json.loads(body_of(result))
    assert (result.model, request.show) == ("y", Show(Format.JSON, True))
    assert body["messages"][-1] == {"role": "user", "content": "a"}
    assert body["temperature"] == 0.3


# What is refused

BODIES = {
    "nothing": b"",
    "a space": b" ",
    "prose": b"why?",
    "half": b'{"question":',
    "two": b'{"question":"a"}{}',
    "a comma too many": b'{"question":"a",}',
    "NaN": b'{"question":"a","x":NaN}',
    "null": b"null",
    "a list": b'[{"question":"a"}]',
    "a string": b'"why?"',
    "not UTF-8": b'{"question":"\xff"}',
    "not UTF-8, where nobody looks": b'{"question":"a","x":"\xc3"}',
    "a surrogate as bytes": b'{"question":"\xed\xa0\x80"}',
    "half a pair of surrogates": b'{"question":"\\ud83d"}',
    "UTF-16": '{"question":"a"}'.encode("utf-16"),
    "two byte-order marks": b'\xef\xbb\xbf\xef\xbb\xbf{"question":"a"}',
    "fault_85 nested deeply": b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "fault_85 opened deeply": b'{"x":' * 100_000,
    "a name that is none": b'{1:"a"}',
}


@pytest.mark.parametrize("case", BODIES)
def test_a_body_that_is_no_json_object(case: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        body_fields(BODIES[case])
    assert (raised.value.status, raised.value.code) == (400, "invalid_json")
    assert len(raised.value.message) < 200


def test_bytes_that_are_not_utf8_are_told_by_their_place() -> None:
    with pytest.raises(InvalidRequest, match=r"not UTF-8 \(byte 13\)"):
        body_fields(b'{"question":"\xff"}')


Refusal = tuple[dict[str, object], type[GatewayError], str, str | None]

REFUSALS: dict[str, Refusal] = {
    # the fields, the error, its code, its param
    "no question": ({}, InvalidRequest, "question_missing", "question"),
    "null as the question": ({"question": None}, InvalidRequest, "question_missing", "question"),
    "an empty question": ({"question": ""}, InvalidRequest, "question_missing", "question"),
    "a blank question": ({"question": " \n\u3000"}, InvalidRequest, "question_missing", "question"),
    "a number as the question": ({"question": 7}, InvalidRequest, "invalid_request", "question"),
    "a list as the question": ({"question": ["a"]}, InvalidRequest, "invalid_request", "question"),
    "a question and messages": ({"question": "a", "messages": [HI]}, InvalidRequest, "invalid_request", "messages"),
    "no messages": ({"messages": []}, InvalidRequest, "question_missing", "messages"),
    "null as messages": ({"messages": None}, InvalidRequest, "question_missing", "messages"),
    "a string as messages": ({"messages": "hi"}, InvalidRequest, "invalid_request", "messages"),
    "one message": ({"messages": HI}, InvalidRequest, "invalid_request", "messages"),
    "a string as a message": ({"messages": [HI, "hi"]}, InvalidRequest, "invalid_request", "messages[1]"),
    "null as a message": ({"messages": [None]}, InvalidRequest, "invalid_request", "messages[0]"),
    "a message without a role": ({"messages": [{"content": "a"}]}, InvalidRequest, "invalid_request", "messages[0]"),
    "a role that is none": ({"messages": [{"role": 7}]}, InvalidRequest, "invalid_request", "messages[0]"),
    "two answers": ({"question": "a", "n": 2}, InvalidRequest, "invalid_request", "n"),
    "no answer": ({"question": "a", "n": 0}, InvalidRequest, "invalid_request", "n"),
    "a string of answers": ({"question": "a", "n": "1"}, InvalidRequest, "invalid_request", "n"),
    "many answers": ({"question": "a", "n": 10**40}, InvalidRequest, "invalid_request", "n"),
    "true answers": ({"question": "a", "n": True}, InvalidRequest, "invalid_request", "n"),
    "a number as the model": ({"question": "a", "model": 7}, InvalidRequest, "invalid_request", "model"),
    "a list as the model": ({"question": "a", "model": ["m"]}, InvalidRequest, "invalid_request", "model"),
    "fault_75 a line end in the model": (
        {"question": "a", "model": "m\r\nx: y"},
        InvalidRequest,
        "invalid_request",
        "model",
    ),
    "fault_75 NUL in the model": ({"question": "a", "model": "m\0"}, InvalidRequest, "invalid_request", "model"),
    "fault_75 an escape in the model": (
        {"question": "a", "model": "\x1b[2J"},
        InvalidRequest,
        "invalid_request",
        "model",
    ),
    "a separator in the model": ({"question": "a", "model": "m\u2028"}, InvalidRequest, "invalid_request", "model"),
    "a long model": ({"question": "a", "model": "m" * 201}, InvalidRequest, "invalid_request", "model"),
    "a line end in the assistant": (
        {"question": "a", "assistant": "m\n"},
        InvalidRequest,
        "invalid_request",
        "assistant",
    ),
    "an unknown assistant": ({"question": "a", "assistant": "x"}, NotFound, "assistant_not_found", "assistant"),
    "an object as the assistant": ({"question": "a", "assistant": {}}, InvalidRequest, "invalid_request", "assistant"),
    "an unknown format": ({"question": "a", "format": "xml"}, InvalidRequest, "invalid_request", "format"),
    "an empty format": ({"question": "a", "format": ""}, InvalidRequest, "invalid_request", "format"),
    "a number as the format": ({"question": "a", "format": 1}, InvalidRequest, "invalid_request", "format"),
    "an unknown flag": ({"question": "a", "reasoning": "yes"}, InvalidRequest, "invalid_request", "reasoning"),
    "another number as a flag": ({"question": "a", "reasoning": 2}, InvalidRequest, "invalid_request", "reasoning"),
    "a list as a flag": ({"question": "a", "reasoning": []}, InvalidRequest, "invalid_request", "reasoning"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_is_refused(case: str) -> None:
    """A plain status with the name of the field; the message can be sent."""
    fields, kind, code, param = REFUSALS[case]
    with pytest.raises(kind) as raised:
        asked(fields)
    error = raised.value
    assert type(error) is kind
    assert (error.code, error.param) == (code, param)
    assert json.dumps(error.body(), ensure_ascii=False).encode()


def test_a_model_that_is_not_there() -> None:
    with pytest.raises(ModelNotFound):
        asked({"question": "a", "model": "x"}, WITH_MODELS)


def test_a_request_that_names_no_model_where_there_is_no_default() -> None:
    with pytest.raises(InvalidRequest) as raised:
        asked({"question": "a"}, Config(upstreams=[UP]))
    assert raised.value.code == "model_missing"


@pytest.mark.parametrize("where", ["messages", "message", "content", "parameter"])
def test_fault_85_nesting_is_refused_or_passes_but_never_crashes(where: str) -> None:
    """Also where one reader can just take it, and the next one, a few calls deeper, cannot."""
    for depth in range(300, 1_010):
        lists = "[" * depth + "]" * depth
        body = {
            "messages": f'{{"messages":{lists}}}',
            "message": f'{{"messages":[{{"role":{lists}}}]}}',
            "content": f'{{"messages":[{{"role":"user","content":{lists}}}]}}',
            "parameter": f'{{"question":"a","x":{lists}}}',
        }[where]
        try:
            asked(body.encode())
        except InvalidRequest:
            continue


_fields = st.sampled_from(
    ["question", "messages", "model", "assistant", "format", "reasoning", "n", "stream", "x", "role"]
)
_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
    | st.sampled_from(["1", "json"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_fields, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(_fields, _values, max_size=6))
def test_any_object_is_asked_or_refused(fields: dict[str, Any]) -> None:
    try:
        body = sent(json.dumps(fields).encode())
    except (InvalidRequest, NotFound) as error:
        json.dumps(error.body()).encode()
    else:
        assert body["stream"] is True
        assert body["messages"]
        assert body["model"]


# Endpoints

FEW = Config(
    upstreams=[UP],
    models=[
        Model("talks", [TargetName("up")], endpoints=[Endpoint.CHAT, Endpoint.MESSAGES]),
        Model("embeds", [TargetName("up")], endpoints=[Endpoint.EMBEDDINGS]),
    ],
)


def completed(fields: dict[str, Any], endpoint: Endpoint, config: Config = FEW) -> Completion:
    return admit_completion(config, SOMEONE, completion_request(body_fields(json.dumps(fields).encode())), endpoint)


def test_a_model_is_asked_only_at_endpoints_that_it_has() -> None:
    assert completed({"model": "embeds"}, Endpoint.EMBEDDINGS).request.endpoint is Endpoint.EMBEDDINGS
    for name, endpoint in (("talks", Endpoint.EMBEDDINGS), ("embeds", Endpoint.CHAT), ("embeds", Endpoint.RERANK)):
        with pytest.raises(EndpointNotSupported, match=f"{name} has no {endpoint}"):
            completed({"model": name}, endpoint)
    with pytest.raises(EndpointNotSupported, match=r"embeds has no chat/completions. It can be asked at: embeddings\."):
        asked({"question": "hi", "model": "embeds"}, FEW)


def test_a_translated_request_names_the_endpoint_that_was_asked() -> None:
    """It is posted to another one."""
    request = admit_translated(FEW, SOMEONE, model="talks", fields={}, endpoint=Endpoint.MESSAGES)
    assert request.endpoint is Endpoint.CHAT
    assert [target.endpoint for target in request.route.targets] == [Endpoint.CHAT]
    with pytest.raises(EndpointNotSupported, match="talks has no responses"):
        admit_translated(FEW, SOMEONE, model="talks", fields={}, endpoint=Endpoint.RESPONSES)
    with pytest.raises(EndpointNotSupported):
        admit_translated(FEW, SOMEONE, model="embeds", fields={}, endpoint=Endpoint.MESSAGES)


@pytest.mark.parametrize(
    ("fields", "choices"),
    [
        ({}, 1),
        ({"prompt": "a"}, 1),
        ({"prompt": ["a"]}, 1),
        ({"prompt": ["a", "b"]}, 2),
        ({"prompt": ["a", "b"], "n": 3}, 6),
        ({"prompt": [1, 2, 3]}, 1),
        ({"prompt": [[1, 2], [3]]}, 2),
        ({"prompt": []}, 1),
        ({"prompt": {"a": 1}}, 1),
        ({"prompt": None, "n": 2}, 2),
    ],
)
def test_each_prompt_of_a_text_completion_has_its_choices(fields: dict[str, Any], choices: int) -> None:
    config = Config(upstreams=[UP])
    assert completed({"model": "m", **fields}, Endpoint.COMPLETIONS, config).choices == choices
    assert completed({"model": "m", **fields}, Endpoint.CHAT, config).choices == fields.get("n", 1)
