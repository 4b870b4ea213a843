"""Another target goes on with an answer only if it repeats all of it. Otherwise nothing of its text is passed on."""

import asyncio
from itertools import pairwise
from typing import Any

import pytest

from tests.faults.client import STREAMED, SURFACES, events, relayed
from tests.faults.rig import SAME, gateway
from tests.faults.scenario import HELLO, WELL
from tests.rig.clients import TEXT, create, eventually, watched
from tests.rig.inside import held
from tests.rig.scripted_upstream import DONE, Close, Step, Until, chunk, delta, event, finish, stream

BREAKS = stream(delta("Hello"), Close())
CALL = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": "{"}}


def said(*texts: str) -> list[Step]:
    return stream(*map(delta, texts), finish(), DONE)


OTHERS = {
    "another text": said("Help, moon"),
    "another text at the first character": said("SECRET"),
    "another text behind the same beginning": said("Hel", "met"),
    "a shorter text": said("Hell"),
    "no text": said(),
    "a text behind reasoning": stream(event(chunk(reasoning_content="musing")), delta(HELLO), finish(), DONE),
    "a tool call": stream(event(chunk(tool_calls=[CALL])), finish("tool_calls"), DONE),
    "a refusal": stream(event(chunk(refusal="no")), finish(), DONE),
    "an answer in two choices": stream(event({**chunk(), "choices": [{"index": 1, "delta": {"content": "Hello"}}]})),
}


@pytest.mark.parametrize("surface", STREAMED)
@pytest.mark.parametrize("case", OTHERS)
async def test_no_character_of_another_answer_is_passed_on(case: str, surface: str) -> None:
    async with gateway() as rig:
        rig.one.script(BREAKS)
        rig.two.script(OTHERS[case])
        seen = await STREAMED[surface](rig.client)
        assert (seen.text, seen.code) == ("Hello", "upstream_incomplete")
        assert not any(word in seen.raw for word in (b"Help", b'Hell"', b"met", b"SECRET", b"moon", b"musing", b'no"'))
        assert rig.requests == (1, 1)


@pytest.mark.parametrize("surface", STREAMED)
async def test_it_is_cancelled_at_the_first_difference(surface: str) -> None:
    async with gateway() as rig:
        rig.one.script(BREAKS)
        rig.two.script([*said("Help, moon")[:2], *said("x" * 1000)[1:]])
        seen = await STREAMED[surface](rig.client)
        assert (seen.text, seen.code) == ("Hello", "upstream_incomplete")


SPLITS = [[HELLO], [*HELLO], ["Hel", "lo, wor", "ld"], ["Hello", ", world"], ["Hello, world", ""]]


@pytest.mark.parametrize("surface", STREAMED)
@pytest.mark.parametrize("known", range(1, len(HELLO) + 1))
async def test_however_the_texts_are_split_the_client_has_it_once(known: int, surface: str) -> None:
    for parts in SPLITS:
        async with gateway() as rig:
            rig.one.script(stream(delta(HELLO[:known]), Close()))
            rig.two.script(said(*parts))
            seen = await STREAMED[surface](rig.client)
            assert (seen.text, seen.code) == (HELLO, None)


@pytest.mark.parametrize("surface", STREAMED)
async def test_characters_of_many_bytes(surface: str) -> None:
    text = "é你👍\n\u2028e\u0301"
    for cut in range(1, len(text)):
        async with gateway() as rig:
            rig.one.script(stream(delta(text[:cut]), Close()))
            rig.two.script(said(*[text[a:b] for a, b in pairwise([0, 2, 3, len(text)])]))
            seen = await STREAMED[surface](rig.client)
            assert (seen.text, seen.code) == (text, None)


@pytest.mark.parametrize("surface", STREAMED)
@pytest.mark.parametrize(
    "more", [{"content": ", wo"}, {"finish_reason": "error"}, {"content": ", wo", "tool_calls": []}]
)
async def test_a_text_beside_an_error_is_neither_lost_nor_sent_twice(more: dict[str, Any], surface: str) -> None:
    """`/chat` passes it on, and `/v1` drops the chunk with the error."""
    async with gateway() as rig:
        rig.one.script(stream(delta("Hello"), event({**chunk(**more), "error": {"message": "no"}})))
        rig.two.script(WELL)
        seen = await STREAMED[surface](rig.client)
        assert (seen.text, seen.code) == (HELLO, None)


# When there is no takeover

DELIVERED = {
    "reasoning": [event(chunk(reasoning_content="musing"))],
    "reasoning, then text": [event(chunk(reasoning="hm")), delta("Hello")],
    "a tool call": [event(chunk(tool_calls=[CALL]))],
    "a refusal": [event(chunk(refusal="I"))],
    "text, then a tool call": [delta("Hello"), event(chunk(tool_calls=[CALL]))],
}


@pytest.mark.parametrize("surface", STREAMED)
@pytest.mark.parametrize("case", DELIVERED)
async def test_an_answer_with_anything_but_text_is_not_taken_over(case: str, surface: str) -> None:
    async with gateway() as rig:
        rig.one.script(stream(*DELIVERED[case], Close()))
        rig.two.script(WELL)
        seen = await STREAMED[surface](rig.client)
        assert (seen.text, seen.code) == ("Hello" if "text" in case else "", "upstream_incomplete")
        assert rig.requests == (1, 0)


ASKED: dict[str, tuple[str, dict[str, Any], bool]] = {
    "the model says so": (SAME, {}, True),
    "temperature 0": ("", {"temperature": 0}, True),
    "temperature 0.0": ("", {"temperature": 0.0}, True),
    "a seed": ("", {"seed": 7}, True),
    "nothing says so": ("", {}, False),
    "another temperature": ("", {"temperature": 0.1}, False),
    "temperature null": ("", {"temperature": None, "seed": None}, False),
}


@pytest.mark.parametrize("surface", STREAMED)
@pytest.mark.parametrize("case", ASKED)
async def test_only_an_answer_that_is_the_same_everywhere_is_taken_over(case: str, surface: str) -> None:
    model, fields, is_taken_over = ASKED[case]
    async with gateway(model=model) as rig:
        rig.one.script(BREAKS)
        rig.two.script(WELL)
        seen = await STREAMED[surface](rig.client, **fields)
        assert (seen.text, seen.code) == ((HELLO, None) if is_taken_over else ("Hello", "upstream_incomplete"))
        assert rig.requests == (1, int(is_taken_over))


async def test_two_choices_are_not_taken_over() -> None:
    async with gateway() as rig:
        rig.one.script(BREAKS)
        rig.two.script(WELL)
        seen = await relayed(rig.client, n=2)
        assert (seen.text, seen.code) == ("Hello", "upstream_incomplete")
        assert rig.requests == (1, 0)


@pytest.mark.parametrize("surface", STREAMED)
async def test_a_takeover_that_breaks_off_too_ends_in_one_failure(surface: str) -> None:
    """Each target is asked once. What the second one added is part of the answer."""
    async with gateway() as rig:
        rig.one.script(BREAKS)
        rig.two.script(stream(delta("Hello, wo"), Close()))
        seen = await STREAMED[surface](rig.client)
        assert (seen.text, seen.code) == ("Hello, wo", "upstream_incomplete")
        assert rig.requests == (1, 1)


# What is told of it


@pytest.mark.parametrize("surface", SURFACES)
async def test_the_answer_names_the_model_that_gave_it(surface: str) -> None:
    async with gateway() as rig:
        rig.one.script([Close()])
        rig.two.script(stream(event({**chunk(content=HELLO), "model": "another"}), finish(model="another"), DONE))
        seen = await SURFACES[surface](rig.client)
        assert (seen.text, seen.code) == (HELLO, None)
        assert b'"another"' in seen.raw


async def test_after_a_takeover_the_end_names_the_model_that_finished() -> None:
    async with gateway() as rig:
        rig.one.script(BREAKS)
        rig.two.script(stream(event({**chunk(content=HELLO), "model": "another"}), finish(model="another"), DONE))
        assert b'"model":"another"' in (await events(rig.client)).raw


# Other ways to read it


async def test_bare_text_goes_on() -> None:
    async with gateway() as rig:
        rig.one.script(BREAKS)
        rig.two.script(WELL)
        async with rig.client.get("/chat?q=hi&model=m", headers=TEXT) as response:
            assert await response.text() == HELLO


async def test_who_comes_back_in_the_middle_of_a_takeover_misses_nothing() -> None:
    go = asyncio.Event()
    async with gateway() as rig:
        rig.one.script(BREAKS)
        rig.two.script([Until(go), *WELL])
        made = await create(rig.client, {"question": "hi", "model": "m"})
        await rig.two.until(requests=1)
        first = asyncio.create_task(watched(rig.client, made["url"]))
        later = asyncio.create_task(watched(rig.client, made["url"], **{"Last-Event-ID": f"{made['id']}.1"}))
        await eventually(lambda: len(held(rig.client, made["id"]).cuts) == 2)
        go.set()
        assert [(await seen).text for seen in (first, later)] == [HELLO, ", world"]
