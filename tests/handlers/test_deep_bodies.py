"""JSON that is nested nearly as deeply as Python can read: each step that reads a part of it has the same bound."""

import json

import pytest

from tests.conftest import MakeGateway
from tests.rig import anthropic
from tests.rig.scripted_upstream import DONE, Received, ScriptedUpstream, Step, answer, delta, finish, stream

# Levels in steps, about the 1000 that calls and levels of JSON have together. The window in which one step can read a
# part and another cannot had twenty for lists. For objects it began at 300, where a step had three calls for a level.
NESTED = [
    *["[" * depth + "]" * depth for depth in range(760, 970, 10)],
    *['{"a":' * depth + "1" + "}" * depth for depth in range(100, 970, 60)],
]

TWO_TARGETS = """
[[upstreams]]
name = "other"
base_url = "{url}/v1"
[[models]]
name = "m"
targets = [{{upstream = "up", model = "m"}}, {{upstream = "other", model = "m"}}]
[[models]]
name = "e"
targets = [{{upstream = "up", model = "e"}}]
endpoints = ["embeddings"]
[[keys]]
name = "k"
key = "key-of-a-caller-0123456789"
tokens_per_minute = 1000000000
"""

BODIES = {
    # the path, the body without the part that is nested
    "a field of a chat": ("/chat", '{"question":"a","x":%s}'),
    "a message of a chat": ("/chat", '{"messages":[{"role":"user","content":%s}]}'),
    "a field of a stream": ("/streams", '{"question":"a","x":%s}'),
    "a field of a completion": (
        "/v1/chat/completions",
        '{"messages":[{"role":"user","content":"a"}],"temperature":%s}',
    ),
    "a message of a completion": ("/v1/chat/completions", '{"messages":[{"role":"user","content":"a","x":%s}]}'),
    "a tool of a completion": (
        "/v1/chat/completions",
        '{"messages":[{"role":"user","content":"a"}],"tools":[{"type":"function","function":{"name":"f","parameters":{"a":%s}}}]}',
    ),
    "a call in a completion": (
        "/v1/chat/completions",
        '{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":null,"tool_calls":[{"id":"c","type":'
        '"function","function":{"name":"f","arguments":"{\\"a\\":%s}"}}]},{"role":"tool","tool_call_id":"c","content":"b"}]}',
    ),
    "an item of a response": ("/v1/responses", '{"input":[{"role":"user","content":"a","x":%s}]}'),
    "a tool of a response": (
        "/v1/responses",
        '{"input":"a","tools":[{"type":"function","name":"f","parameters":{"a":%s}}]}',
    ),
    "a schema of a response": (
        "/v1/responses",
        '{"input":"a","text":{"format":{"type":"json_schema","name":"n","schema":{"a":%s}}}}',
    ),
    "metadata of a response": ("/v1/responses", '{"input":"a","metadata":%s}'),
    "a block of a message": (
        "/v1/messages",
        '{"max_tokens":9,"messages":[{"role":"user","content":[{"type":"text","text":"a","x":%s}]}]}',
    ),
    "a tool of a message": (
        "/v1/messages",
        '{"max_tokens":9,"messages":[{"role":"user","content":"a"}],"tools":[{"name":"f","input_schema":{"a":%s}}]}',
    ),
    "a call in a message": (
        "/v1/messages/count_tokens",
        '{"messages":[{"role":"assistant","content":[{"type":"tool_use","id":"c","name":"f","input":{"a":%s}}]}]}',
    ),
    "an input of embeddings": ("/v1/embeddings", '{"model":"e","input":%s}'),
}


TRANSLATED = [
    (case, "anthropic") for case in BODIES if case.endswith("of a completion") or case == "a call in a completion"
]


def answered(request: Received) -> list[Step]:
    if request.path.endswith("/messages"):
        return anthropic.answered(anthropic.HELLO)
    if request.path.endswith("/embeddings"):
        return answer(200, {"object": "list", "data": []})
    return stream(delta("a"), finish(), DONE)


@pytest.mark.parametrize(("case", "dialect"), [*[(case, "openai") for case in BODIES], *TRANSLATED])
async def test_fault_85_nesting_is_refused_or_passes_at_every_depth(
    gateway: MakeGateway, upstream: ScriptedUpstream, case: str, dialect: str
) -> None:
    upstream.script(answered)
    toml = TWO_TARGETS.format(url=upstream.url)
    if dialect == "anthropic":
        toml = toml.replace('name = "other"', 'name = "other"\ndialect = "anthropic"')
        toml = toml.replace('{upstream = "up", model = "m"}, ', "")
    client = await gateway(toml)
    path, body = BODIES[case]
    headers = {"Content-Type": "application/json", "Authorization": "Bearer key-of-a-caller-0123456789"}
    statuses = []
    for nested in NESTED:
        part = json.dumps(nested)[1:-1] if "arguments" in body else nested
        async with client.post(path, data=(body % part).encode(), headers=headers) as response:
            told = await response.read()
            assert response.status in (200, 201, 400), told
            assert response.status != 400 or json.loads(told)["error"]["message"]
            statuses.append(response.status)
    assert 400 not in (statuses[0], statuses[21])
    assert statuses[-1] == 400 or "call" in case, "they end before the bound"  # that in a text is not read
