"""After a failover the caller pays for the answer alone. The failed attempts stand in the log with their own cost."""

import json
from typing import Any

import pytest

from tests.faults.client import STREAMED, SURFACES
from tests.faults.rig import SAME, gateway
from tests.faults.sixty import TEXT, USED, WAYS, WELL
from tests.rig.clients import Answer, bearer
from tests.rig.completions import streamed
from tests.rig.inside import at_rest
from tests.rig.scripted_upstream import answer

Lines = list[dict[str, Any]]

PRICED = SAME + "prices = {input = 1_000.0, output = 10_000.0}\n"
KEY = '[[keys]]\nname = "team"\nkey = "the-key-of-the-team"\ntokens_per_minute = 10_000\n'
AUTH = bearer("the-key-of-the-team")
COST = round(USED["prompt_tokens"] * 1e-3 + USED["completion_tokens"] * 1e-2, 10)


@pytest.mark.parametrize("surface", STREAMED)
async def test_an_answer_that_was_taken_over(surface: str, lines: Lines) -> None:
    async with gateway(model=PRICED) as rig:
        rig.one.script(*WAYS["cut after 40 words"].first)
        rig.two.script(WELL)
        assert (await STREAMED[surface](rig.client)).text == TEXT
        await at_rest(rig.client)
    (record,) = [line["stream"] for line in lines]
    assert (record["input_tokens"], record["output_tokens"]) == (USED["prompt_tokens"], USED["completion_tokens"])
    assert "tokens_estimated" not in record
    assert (record["cost"], record["attempts"], record["target"]) == (COST, 2, "two/m-two")
    (failed,) = record["failed"]
    assert (failed["target"], failed["error"]) == ("one/m-one", "upstream_incomplete")
    assert failed["tokens_estimated"]
    assert 0 < failed["output_tokens"] < 120  # of forty words
    assert failed["cost"] == round(failed["input_tokens"] * 1e-3 + failed["output_tokens"] * 1e-2, 10)


@pytest.mark.parametrize("surface", SURFACES)
async def test_an_attempt_that_was_refused_costs_nothing(surface: str, lines: Lines) -> None:
    async with gateway(model=PRICED) as rig:
        rig.one.script(answer(503, {}))
        rig.two.script(WELL)
        assert (await SURFACES[surface](rig.client)).text == TEXT
        await at_rest(rig.client)
    (record,) = [line["stream"] for line in lines]
    assert (record["cost"], record["attempts"]) == (COST, 3)
    told = [(failed["target"], failed["error"], failed["cost"]) for failed in record["failed"]]
    assert told == [("one/m-one", "upstream_error", 0.0)] * 2


@pytest.mark.parametrize("surface", STREAMED)
async def test_an_answer_that_nobody_could_finish(surface: str, lines: Lines) -> None:
    """What the client got is charged, and the attempt that differed is not."""
    async with gateway(model=PRICED) as rig:
        rig.one.script(*WAYS["cut after 40 words"].first)
        rig.two.script(answer(500, {}))
        seen = await STREAMED[surface](rig.client)
        assert seen.text == "".join([f"word{number} " for number in range(1, 41)])
        await at_rest(rig.client)
    (record,) = [line["stream"] for line in lines]
    assert record["error"] == "upstream_incomplete"
    assert record["target"] == "one/m-one"
    assert 0 < record["output_tokens"] < 120
    assert [failed["target"] for failed in record["failed"]] == ["two/m-two"]


@pytest.mark.parametrize("path", ["/chat", "/v1/chat/completions"])
async def test_limits_count_the_tokens_of_the_answer(path: str) -> None:
    asked = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    async with gateway(KEY, model=PRICED) as rig:
        rig.two.script(WELL)
        left = []
        for _ in range(2):
            rig.one.script(*WAYS["cut after 40 words"].first)
            async with rig.client.post(path, json=asked, headers={**AUTH, "Accept": "text/event-stream"}) as response:
                assert response.status == 200, await response.text()
                left.append(int(response.headers["x-ratelimit-remaining-tokens"]))
                await response.read()
            await at_rest(rig.client)
    assert left[0] - left[1] == USED["total_tokens"]


async def test_with_an_idempotency_key_a_retry_gets_the_same_answer() -> None:
    once = {"Idempotency-Key": "0192f0c1-7bd0-7000-8000-000000000001", "Accept": "text/event-stream"}
    async with gateway() as rig:
        rig.one.script(*WAYS["cut after 40 words"].first)
        rig.two.script(WELL)
        answers = []
        for _ in range(2):
            async with rig.client.post("/chat", json={"question": "hi", "model": "m"}, headers=once) as response:
                answers.append(Answer(await response.read()))
        assert [answer.text for answer in answers] == [TEXT, TEXT]
        assert [answer.end["attempts"] for answer in answers] == [2, 2]
        assert answers[0].end["stream"] == answers[1].end["stream"]
        assert rig.requests == (1, 1)


async def test_with_an_idempotency_key_an_sdk_gets_the_same_chunks_of_both_targets() -> None:
    once = {"Idempotency-Key": "0192f0c1-7bd0-7000-8000-000000000001"}
    async with gateway() as rig:
        rig.one.script(*WAYS["cut after 40 words"].first)
        rig.two.script(WELL)
        bodies = [await streamed(rig.client, **once) for _ in range(2)]
        assert bodies[0] == bodies[1]
        assert not bodies[0].broken
        chunks = [json.loads(block.removeprefix(b"data: ")) for block in bodies[0].blocks[:-1]]
        assert "".join([choice["delta"].get("content", "") for one in chunks for choice in one["choices"]]) == TEXT
        assert rig.requests == (1, 1)


@pytest.mark.parametrize("path", ["/chat", "/v1/chat/completions"])
async def test_with_an_idempotency_key_a_failure_of_all_targets_may_be_asked_again(path: str) -> None:
    once = {"Idempotency-Key": "0192f0c1-7bd0-7000-8000-000000000001"}
    async with gateway() as rig:
        rig.one.script(answer(500, {}))
        rig.two.script(answer(500, {}))
        asked = {"messages": [{"role": "user", "content": "hi"}], "model": "m"}
        async with rig.client.post(path, json=asked, headers=once) as response:
            assert response.status == 502
        rig.one.script(WELL)
        async with rig.client.post(path, json=asked, headers=once) as response:
            assert (await response.json())["choices"][0]["message"]["content"] == TEXT
