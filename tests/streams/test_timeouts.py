"""Every wait for the upstream has an end of its own, with its own error code."""

import contextlib
import socket
import time
from collections.abc import Sequence

import pytest

from tests.conftest import MakeGateway, configured
from tests.rig.clients import TEXT, ask, error_of
from tests.rig.scripted_upstream import DONE, Pause, ScriptedUpstream, Stall, Step, chunk, delta, event, finish, stream

pytestmark = pytest.mark.usefixtures("both_ways")

COMMENTS: list[bytes | Step] = [b": keep-alive\n\n", Pause(0.05)] * 40
EMPTY_DELTAS: list[bytes | Step] = [event(chunk(role="assistant", content="")), Pause(0.05)] * 40

TIMEOUTS: dict[str, tuple[Sequence[Step], str, str, str]] = {
    "silence before the headers": ([Stall()], "first_token = 0.2", "first_token_timeout", ""),
    "silence behind the headers": (stream(Stall()), "first_token = 0.2", "first_token_timeout", ""),
    "fault_24 comments are no token": (stream(*COMMENTS, Stall()), "first_token = 0.2", "first_token_timeout", ""),
    "empty deltas are no token": (stream(*EMPTY_DELTAS, Stall()), "first_token = 0.2", "first_token_timeout", ""),
    "fault_26 a stall in the middle": (stream(delta("a"), Stall()), "idle = 0.2", "idle_timeout", "a"),
    "fault_27 a drip of comments": (stream(delta("a"), *COMMENTS, Stall()), "total = 0.3", "total_timeout", "a"),
    "total outranks first_token": ([Stall()], "total = 0.2", "total_timeout", ""),
}


@pytest.mark.parametrize("case", TIMEOUTS)
async def test_timeouts(gateway: MakeGateway, upstream: ScriptedUpstream, case: str) -> None:
    """A failure with the code of the wait, an end with reason timeout, and an upstream let go within a second."""
    script, limit, code, text = TIMEOUTS[case]
    upstream.script(script)
    client = await gateway(f"[timeouts]\n{limit}")
    started = time.monotonic()
    answer = await ask(client)
    assert time.monotonic() - started < 2
    assert answer.failure["error"]["code"] == code
    assert answer.failure["retryable"] is True
    assert answer.end["reason"] == "timeout"
    assert answer.text == text
    await upstream.until(left=1, within=1)


@pytest.mark.parametrize("headers", [{}, TEXT], ids=["json", "text"])
async def test_a_timeout_before_the_first_byte_is_a_504(
    gateway: MakeGateway, upstream: ScriptedUpstream, headers: dict[str, str]
) -> None:
    upstream.script([Stall()])
    client = await gateway("[timeouts]\nfirst_token = 0.1")
    async with client.get("/chat?q=x", headers=headers) as response:
        assert await error_of(response) == (504, "first_token_timeout")


async def test_fault_24_comments_reset_idle(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """An upstream that says it is alive is not idle."""
    alive: list[bytes | Step] = [b": keep-alive\n\n", Pause(0.2)]
    upstream.script(stream(delta("a"), *alive * 4, delta("b"), finish(), DONE))
    answer = await ask(await gateway("[timeouts]\nidle = 0.6"))
    assert (answer.text, answer.end["reason"]) == ("ab", "complete")


async def test_fault_25_a_long_silence_before_the_first_token_is_no_stall(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script([Pause(0.4), *stream(delta("a"), finish(), DONE)])
    answer = await ask(await gateway("[timeouts]\nidle = 0.2\n[stream]\nheartbeat_seconds = 0.1"))
    assert (answer.text, answer.end["reason"]) == ("a", "complete")


async def test_an_upstream_that_finished_and_then_hangs_has_answered(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script(stream(delta("a"), finish(), Stall()))
    answer = await ask(await gateway("[timeouts]\nidle = 0.2"))
    assert answer.end["reason"] == "complete"
    await upstream.until(left=1, within=1)


async def test_timeouts_of_a_model_outrank_those_of_its_upstream(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script([Stall()])
    client = await gateway(
        "[timeouts]\nfirst_token = 30\n"
        '[[models]]\nname = "m"\ntargets = [{upstream = "up"}]\ntimeouts = {first_token = 0.1}\n'
    )
    assert (await ask(client)).failure["error"]["code"] == "first_token_timeout"


async def test_fault_53_a_connection_that_nobody_takes(gateway: MakeGateway) -> None:
    """A listener whose queue is full drops further connections, as a blackhole does."""
    with contextlib.ExitStack() as sockets:
        listener = sockets.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            crowd = sockets.enter_context(socket.socket())
            crowd.setblocking(False)
            crowd.connect_ex(listener.getsockname())
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        answer = await ask(await gateway(config=configured(url, "[timeouts]\nconnect = 0.3")))
    assert answer.failure["error"]["code"] == "connect_timeout"
    assert answer.end["reason"] == "timeout"


async def test_fault_53_a_connection_that_is_refused(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    await upstream.refuse()
    answer = await ask(await gateway())
    assert answer.failure["error"]["code"] == "upstream_unreachable"
    assert answer.end["reason"] == "upstream_error"
