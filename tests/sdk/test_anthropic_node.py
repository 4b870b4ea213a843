"""Anthropic's provider of the Vercel AI SDK, unmodified, in Node before a running gateway."""

from typing import Any

import pytest

from tests.conftest import MakeGateway
from tests.rig.scripted_upstream import (
    DONE,
    Pause,
    Reset,
    ScriptedUpstream,
    Step,
    chunk,
    delta,
    event,
    finish,
    stream,
    usage,
)
from tests.sdk.answers import USAGE
from tests.sdk.node import needs, running, script

pytestmark = needs("ai", "@ai-sdk/anthropic")

SOON = "[stream]\nheartbeat_seconds = 0.05"


async def ask(gateway: MakeGateway) -> Any:
    address = str((await gateway(SOON)).make_url("/v1"))
    async with running(script("ai_sdk_anthropic.mjs"), address) as result:
        return result


async def test_a_tool_round_trip(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """With usage, over heartbeats, and with thinking, which the client sends back."""
    call = {"index": 0, "id": "c1", "function": {"name": "weather", "arguments": '{"city":'}}
    rest = {"index": 0, "function": {"arguments": ' "Oslo"}'}}
    upstream.script(
        stream(
            Pause(0.2),
            event(chunk(reasoning_content="hm")),
            *[event(chunk(tool_calls=[part])) for part in (call, rest)],
            finish("tool_calls"),
            usage(**USAGE),
            DONE,
        ),
        stream(delta("It is "), Pause(0.2), delta("21."), finish(), usage(**USAGE), DONE),
    )
    assert await ask(gateway) == {
        "text": "It is 21.",
        "thinking": "hm",
        "calls": [["weather", {"city": "Oslo"}]],
        "finish": "stop",
        "tokens": 6,
        "error": None,
        "warnings": [],
    }
    messages: Any = upstream.requests[1].json["messages"]
    assert messages[-1] == {"role": "tool", "tool_call_id": "c1", "content": "21"}


FAILURES: dict[str, tuple[list[Step], str, str]] = {
    # what the upstream does, the text before, words of the error
    "after content": (stream(delta("Hel"), Pause(0.05), Reset()), "Hel", "The answer broke off"),
    "behind a heartbeat": (stream(Pause(0.2), Reset()), "", "The answer broke off"),
}


@pytest.mark.parametrize("case", FAILURES)
async def test_a_failure_is_told(gateway: MakeGateway, upstream: ScriptedUpstream, case: str) -> None:
    steps, text, words = FAILURES[case]
    upstream.script(steps)
    result = await ask(gateway)
    assert result["text"] == text
    assert words in result["error"]
    assert result["finish"] in (None, "error")
