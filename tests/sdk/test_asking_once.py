"""The official clients before connections that break: with an `Idempotency-Key`, no retry asks the model again.

Their own retries send the fields of the first request, so the key too. They try again where they have no header yet.
Where a stream breaks off, the application has to ask again.
"""

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from tests.conftest import MakeGateway
from tests.rig.completions import HI, STREAMED
from tests.rig.scripted_upstream import DONE, Pause, ScriptedUpstream, Step, answer, delta, finish, stream
from tests.rig.wire import post
from tests.sdk.answers import QUESTION, completion
from tests.sdk.cutting import CuttingWire
from tests.sdk.node import needs, running, script

SECONDS = 60  # for all that is asked at once: it takes a tenth of that on a quiet machine
STEP = 5  # bytes from cut to cut
ATTEMPTS = 3  # of an application
UNCUT = 1_000_000  # bytes: more than an answer has

FIELDS = {"Connection": "close"}  # the wire closes a connection behind its response, so none can be used twice
SLOWLY: list[Step] = stream(delta("Hel"), Pause(0.02), delta("lo"), finish(), DONE)
WHOLE: list[Step] = completion()


@dataclass(frozen=True)
class Asked:
    """`cut`: the bytes of the response after which the connection breaks, the first time."""

    cut: int
    key: str | None


@dataclass(frozen=True)
class Got:
    """`times` is how often the application asked."""

    text: str
    finish: str | None
    times: int


Options = dict[str, Any]
Client = Callable[[str, Options, bool, Sequence[Asked]], Awaitable[list[Got]]]


async def openai_python(address: str, options: Options, streams: bool, asked: Sequence[Asked]) -> list[Got]:
    openai = pytest.importorskip("openai", reason="the openai package is not installed: it is in the extra `sdk`")

    async def read(client: Any, one: Asked) -> tuple[str, str | None]:
        headers = FIELDS if one.key is None else {**FIELDS, "Idempotency-Key": one.key}
        more: Any = {"extra_query": {"cut": one.cut}, "extra_headers": headers}
        answer = await client.chat.completions.create(**QUESTION, stream=streams, **more)
        if not streams:
            return answer.choices[0].message.content, answer.choices[0].finish_reason
        text, finish = "", None
        async for chunk in answer:
            text += chunk.choices[0].delta.content or ""
            finish = chunk.choices[0].finish_reason or finish
        return text, finish

    async def ask(client: Any, one: Asked) -> Got:
        words = ""
        for times in range(1, ATTEMPTS + 1):
            try:
                text, finish = await read(client, one)
            except Exception as error:
                words = repr(error)
            else:
                if finish is not None:
                    return Got(text, finish, times)
        return Got(words, None, ATTEMPTS)

    options = {"max_retries": 0, "timeout": 20.0} | options
    draws_keys = options.pop("draws_keys", False)
    async with openai.AsyncOpenAI(base_url=address, api_key="none", **options) as client:
        if draws_keys:
            client._idempotency_header = "Idempotency-Key"
        return list(await asyncio.gather(*[ask(client, one) for one in asked]))


async def openai_node(address: str, options: Options, streams: bool, asked: Sequence[Asked]) -> list[Got]:
    node = {
        "maxRetries": options.get("max_retries", 0),
        "timeout": options.get("timeout", 20.0) * 1000,
        "drawsKeys": options.get("draws_keys", False),
    }
    questions = [{"query": {"cut": one.cut}, "key": one.key} for one in asked]
    words = [json.dumps(value) for value in (node, {"stream": streams}, questions)]
    async with running(script("openai_node_once.mjs"), address, *words, within=SECONDS) as result:
        return [Got(*got) for got in result]


CLIENTS = [
    pytest.param(openai_python, id="Python"),
    pytest.param(openai_node, id="JavaScript", marks=needs("openai")),
]
FORMS = pytest.mark.parametrize("streams", [True, False], ids=["streamed", "whole"])


def once(cut: int) -> Asked:
    return Asked(cut, str(uuid.uuid4()))


async def sizes(port: int | None, streams: bool) -> tuple[int, int]:
    """The bytes of the header, and of all of a response that is not cut."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(post("/v1/chat/completions", STREAMED if streams else HI, Connection="close"))
    raw = await reader.read()
    writer.close()
    return raw.index(b"\r\n\r\n") + 4, len(raw)


# Connections that break


@FORMS
@pytest.mark.parametrize("client", CLIENTS)
async def test_before_the_header_the_clients_ask_again_themselves(
    gateway: MakeGateway, upstream: ScriptedUpstream, client: Client, streams: bool
) -> None:
    upstream.script(SLOWLY if streams else WHOLE)
    port = (await gateway()).port
    header, _ = await sizes(port, streams)
    asked = [once(cut) for cut in range(0, header, 4 * STEP)]
    async with CuttingWire(port) as wire:
        got = await client(f"{wire.address}/v1", {"max_retries": 2}, streams, asked)
        assert len(wire.passed) == len(asked)
    assert got == [Got("Hello", "stop", 1)] * len(asked)
    assert len(upstream.requests) == 1 + len(asked)


@FORMS
@pytest.mark.parametrize("client", CLIENTS)
async def test_an_application_asks_again_wherever_the_answer_broke_off(
    gateway: MakeGateway, upstream: ScriptedUpstream, client: Client, streams: bool
) -> None:
    """While the answer runs, and after its end. A client without retries of its own needs no more than one."""
    upstream.script(SLOWLY if streams else WHOLE)
    port = (await gateway()).port
    _, size = await sizes(port, streams)
    asked = [once(cut) for cut in range(0, size, STEP)]
    async with CuttingWire(port) as wire:
        got = await client(f"{wire.address}/v1", {}, streams, asked)
        assert len(wire.passed) == len(asked)
    assert {(one.text, one.finish) for one in got} == {("Hello", "stop")}
    assert {one.times for one in got} <= {1, 2}
    assert len(upstream.requests) == 1 + len(asked)


@FORMS
@pytest.mark.parametrize("client", CLIENTS)
async def test_without_a_key_each_retry_is_paid(
    gateway: MakeGateway, upstream: ScriptedUpstream, client: Client, streams: bool
) -> None:
    upstream.script(SLOWLY if streams else WHOLE)
    async with CuttingWire((await gateway()).port) as wire:
        got = await client(f"{wire.address}/v1", {"max_retries": 2}, streams, [Asked(0, None)])
    assert got == [Got("Hello", "stop", 1)]
    assert len(upstream.requests) == 2


# Clients that lose their patience, and others


@FORMS
@pytest.mark.parametrize("client", CLIENTS)
async def test_a_client_that_does_not_wait_for_long_gets_the_answer_of_its_first_request(
    gateway: MakeGateway, upstream: ScriptedUpstream, client: Client, streams: bool
) -> None:
    """The answer needs longer than the client waits. Each retry without a key would begin anew, and wait in vain."""
    upstream.script([Pause(1.5), *(SLOWLY if streams else WHOLE)])
    address = str((await gateway()).make_url("/v1"))
    got = await client(address, {"max_retries": 5, "timeout": 0.6}, streams, [once(UNCUT)])
    assert got == [Got("Hello", "stop", 1)]
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("client", CLIENTS)
async def test_a_client_that_knows_the_name_of_the_field_draws_a_key_for_each_question(
    gateway: MakeGateway, upstream: ScriptedUpstream, client: Client
) -> None:
    """Its own retries send the same one. The next question has another, so it is a question of its own."""
    upstream.script(SLOWLY)
    async with CuttingWire((await gateway()).port) as wire:
        options = {"max_retries": 2, "draws_keys": True}
        got = await client(f"{wire.address}/v1", options, True, [Asked(0, None), Asked(10, None), Asked(UNCUT, None)])
    assert got == [Got("Hello", "stop", 1)] * 3
    assert len(upstream.requests) == 3


@pytest.mark.parametrize("client", CLIENTS)
async def test_what_failed_before_any_content_begins_anew(
    gateway: MakeGateway, upstream: ScriptedUpstream, client: Client
) -> None:
    """A client tries again by itself where the status says that it may, and then its key is free."""
    upstream.script(answer(500, {"error": {"message": "no"}}), SLOWLY)
    address = str((await gateway()).make_url("/v1"))
    assert await client(address, {"max_retries": 1}, True, [once(UNCUT)]) == [Got("Hello", "stop", 1)]
    assert len(upstream.requests) == 2


@pytest.mark.parametrize("client", CLIENTS)
async def test_a_conflict_is_not_tried_again(
    gateway: MakeGateway, upstream: ScriptedUpstream, lines: list[dict[str, Any]], client: Client
) -> None:
    upstream.script(SLOWLY)
    address = str((await gateway()).make_url("/v1"))
    one = once(UNCUT)
    assert await client(address, {}, True, [one]) == [Got("Hello", "stop", 1)]
    (got,) = await client(address, {"max_retries": 2}, False, [one])
    assert "another request" in got.text
    assert [line["status"] for line in lines] == [200] + [409] * ATTEMPTS  # of the application
    assert len(upstream.requests) == 1
