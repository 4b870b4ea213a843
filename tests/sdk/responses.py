"""A rich answer for clients of the Responses API: reasoning, a text, and two calls whose fragments alternate."""

from tests.rig.scripted_upstream import DONE, chunk, delta, event, finish, usage

TEXT = "Hé\r\nllo 👍"
CALLS = [("weather", '{"city": "西安"}'), ("weather", '{"city": "Paris"}')]


def fragment(index: int, arguments: str, **head: str) -> bytes:
    names = {"name": head["name"]} if head else {}
    ids = {"id": head["id"], "type": "function"} if head else {}
    return event(chunk(tool_calls=[{"index": index, **ids, "function": {**names, "arguments": arguments}}]))


RICH = [
    event(chunk(role="assistant", content="")),
    event(chunk(reasoning_content="I think")),
    event(chunk(reasoning_content=" twice.")),
    delta("Hé\r\n"),
    delta("llo 👍"),
    fragment(0, '{"city": ', id="call_1", name="weather"),
    fragment(1, '{"city"', id="call_2", name="weather"),
    fragment(0, '"西安"}'),
    fragment(1, ': "Paris"}'),
    finish("tool_calls"),
    usage(prompt_tokens=3, completion_tokens=4, total_tokens=7),
    DONE,
]
