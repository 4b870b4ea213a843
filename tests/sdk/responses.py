"""What clients of the Responses API ask, and a rich answer: reasoning, a text, and two calls that alternate."""

from typing import Any

from tests.rig.scripted_upstream import DONE, chunk, delta, event, finish, usage

ASKED: dict[str, Any] = {"model": "m-1", "input": "Hi"}
TOOLS = [
    {
        "type": "function",
        "name": "weather",
        "description": "d",
        "strict": None,
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    }
]

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


def checked(event: Any) -> dict[str, Any]:
    """The event as it came. The SDK's own model of its type accepts it: no field is missing or of a wrong type."""
    fields: dict[str, Any] = event.to_dict(mode="json")
    type(event).model_validate(fields)
    return fields


async def events_of(stream: Any) -> list[dict[str, Any]]:
    return [checked(event) async for event in stream]
