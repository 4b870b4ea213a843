"""What becomes of an answer that nobody watches: it is cancelled, finished, or waits for somebody to come back.

And of one that has ended: how long it is held, and for whom it makes room.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import ClientResponse

from gateway.observe.report import account
from tests.conftest import Client, MakeGateway
from tests.rig.clients import EVENTS, TEXT, ask, connect, create, error_of, eventually, remains, start_of, watched
from tests.rig.inside import held, streams
from tests.rig.scripted_upstream import (
    DONE,
    Pause,
    ScriptedUpstream,
    Stall,
    Step,
    Until,
    answer,
    delta,
    finish,
    stream,
    usage,
)

Lines = list[dict[str, Any]]

KEY = "the-key-of-a-team"
AUTH = {"Authorization": f"Bearer {KEY}"}
TEAM = f'[[keys]]\nname = "team"\nkey = "{KEY}"\n'

ENDLESS = stream(delta("a"), Stall())
COUNTED = usage(prompt_tokens=30, completion_tokens=40)
SLOW = stream(delta("a"), Pause(0.2), delta("b"), finish(), COUNTED, DONE)
OK = stream(delta("a"), finish(), DONE)


def config(policy: str = "", **times: float) -> str:
    lines = [f'on_disconnect = "{policy}"'] if policy else []
    return "\n".join(["[stream]", *lines, *[f"{name} = {value}" for name, value in times.items()], ""])


def ends(lines: Lines) -> list[dict[str, Any]]:
    """What the log says of streams that have ended."""
    return [line["stream"] for line in lines if "end" in line.get("stream", {})]


@asynccontextmanager
async def asking(client: Client, path: str = "/chat?q=hi", **headers: str) -> AsyncIterator[tuple[ClientResponse, str]]:
    """A client that has read the first text; it leaves at the end of the block."""
    async with client.get(path, headers={**EVENTS, **headers}) as response:
        start = await start_of(response)
        await response.content.readuntil(b"data: a\n")
        yield response, start["stream"]


async def left(client: Client, path: str = "/chat?q=hi", **headers: str) -> str:
    """The stream of a client that asked, read the first text, and is gone, as the gateway knows."""
    async with asking(client, path, **headers) as (_, stream_id):
        pass
    await eventually(lambda: (one := streams(client).find(stream_id)) is None or not one.viewers)
    return stream_id


async def state(client: Client, made: dict[str, Any]) -> int:
    async with client.get(made["url"]) as response:
        return response.status


# The three policies


WHERE = ["in the configuration", "in the query", "in the body"]


async def left_with(gateway: MakeGateway, policy: str, where: str, **times: float) -> tuple[Client, str]:
    client = await gateway(config(policy if where == "in the configuration" else "", **times))
    if where == "in the query":
        return client, await left(client, f"/chat?q=hi&on_disconnect={policy}")
    if where == "in the configuration":
        return client, await left(client)
    async with client.post("/chat", json={"question": "hi", "on_disconnect": policy}, headers=EVENTS) as response:
        start = await start_of(response)
        await response.content.readuntil(b"data: a\n")
    return client, start["stream"]


@pytest.mark.parametrize("where", WHERE)
async def test_fault_54_cancel_lets_the_upstream_go_at_once(
    gateway: MakeGateway, upstream: ScriptedUpstream, lines: Lines, where: str
) -> None:
    upstream.script(ENDLESS)
    await left_with(gateway, "cancel", where)
    await upstream.until(left=1, within=1)
    await eventually(lambda: len(lines) == 1)
    (end,) = ends(lines)
    assert (end["end"], end["tokens_estimated"]) == ("client_gone", True)


@pytest.mark.parametrize("where", WHERE)
async def test_drain_finishes_for_the_record(
    gateway: MakeGateway, upstream: ScriptedUpstream, lines: Lines, where: str
) -> None:
    """The upstream is read to its end, and says what it took; who comes back later finds the whole."""
    upstream.script(SLOW)
    client, stream_id = await left_with(gateway, "drain", where, grace_seconds=0.05)
    await eventually(lambda: bool(ends(lines)))
    (end,) = ends(lines)
    assert (end["end"], end["input_tokens"], end["output_tokens"]) == ("complete", 30, 40)
    assert "tokens_estimated" not in end
    assert upstream.left == 0
    rest = await watched(client, "/chat", **{"Last-Event-ID": f"{stream_id}.1"})
    assert (rest.text, rest.end["reason"]) == ("b", "complete")


@pytest.mark.parametrize("where", WHERE)
async def test_fault_55_detach_goes_on_for_the_grace_time(
    gateway: MakeGateway, upstream: ScriptedUpstream, lines: Lines, where: str
) -> None:
    """And is then cancelled: not earlier, and not much later."""
    upstream.script(stream(delta("a"), Pause(0.1), delta("b"), Stall()))
    begun = asyncio.get_running_loop().time()
    client, stream_id = await left_with(gateway, "detach", where, grace_seconds=0.3)
    gone = asyncio.get_running_loop().time()
    await eventually(lambda: held(client, stream_id).log.last == 2)
    assert upstream.left == 0
    await upstream.until(left=1, within=2)
    cancelled = asyncio.get_running_loop().time()
    assert cancelled - begun >= 0.3
    assert cancelled - gone < 1
    await eventually(lambda: bool(ends(lines)))
    assert [end["end"] for end in ends(lines)] == ["client_gone"]


async def test_detach_is_what_is_done_where_nothing_is_said(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(SLOW)
    client = await gateway()
    stream_id = await left(client)
    await eventually(lambda: held(client, stream_id).is_done)
    assert held(client, stream_id).record.end == "complete"


async def test_what_the_request_says_outranks_what_is_configured(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    """In its body before its query."""
    upstream.script(ENDLESS)
    client = await gateway(config("drain"))
    await left(client, "/chat?q=hi&on_disconnect=cancel")
    await upstream.until(left=1, within=1)
    body = {"question": "hi", "on_disconnect": "cancel"}
    async with client.post("/chat?on_disconnect=drain", json=body, headers=EVENTS) as response:
        await response.content.readuntil(b"data: a\n")
    await upstream.until(left=2, within=1)


@pytest.mark.parametrize("value", ["stay", "", "CANCEL"])
async def test_a_policy_that_there_is_not(gateway: MakeGateway, upstream: ScriptedUpstream, value: str) -> None:
    client = await gateway()
    for path in ("/chat?q=hi&", "/v1/chat/completions?"):
        body = {"messages": [{"role": "user", "content": "hi"}]} if path.startswith("/v1") else None
        method = "POST" if body else "GET"
        async with client.request(method, f"{path}on_disconnect={value}", json=body) as response:
            assert await error_of(response) == (400, "invalid_request")
    assert not upstream.requests


# Who may choose


def only(*policies: str) -> str:
    return f"{TEAM}on_disconnect = {list(policies)}\n"


@pytest.mark.parametrize("surface", ["chat", "streams", "completions"])
@pytest.mark.parametrize("where", ["query", "body"])
async def test_a_key_may_not_choose_what_it_was_not_given(
    gateway: MakeGateway, upstream: ScriptedUpstream, surface: str, where: str
) -> None:
    """403, on every surface, before anybody is asked; to cancel is always allowed."""
    upstream.script(ENDLESS)
    client = await gateway(only("cancel"))
    path = {"chat": "/chat", "streams": "/streams", "completions": "/v1/chat/completions"}[surface]
    for policy in ("drain", "detach"):
        body: dict[str, object] = {"messages": [{"role": "user", "content": "hi"}]}
        query = f"?on_disconnect={policy}" if where == "query" else ""
        if where == "body":
            body["on_disconnect"] = policy
        async with client.post(path + query, json=body, headers=AUTH) as response:
            assert await error_of(response) == (403, "policy_not_allowed")
            assert (await response.json())["error"]["param"] == "on_disconnect"
    assert not upstream.requests
    await left(client, "/chat?q=hi&on_disconnect=cancel", **AUTH)
    await upstream.until(left=1, within=1)


async def test_a_key_may_choose_what_it_was_given(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(SLOW, ENDLESS)
    client = await gateway(only("drain") + config("detach"))
    stream_id = await left(client, "/chat?q=hi&on_disconnect=drain", **AUTH)
    await eventually(lambda: held(client, stream_id).is_done)
    assert held(client, stream_id).record.end == "complete"
    async with client.get("/chat?q=hi&on_disconnect=detach", headers=AUTH) as response:
        assert await error_of(response) == (403, "policy_not_allowed")
    await left(client, "/chat?q=hi&on_disconnect=cancel", **AUTH)
    await upstream.until(left=1, within=1)


@pytest.mark.parametrize("configured", ["drain", "detach"])
async def test_a_default_that_a_key_may_not_use_falls_back_to_cancel(
    gateway: MakeGateway, upstream: ScriptedUpstream, configured: str
) -> None:
    """The caller asked for nothing, so it is refused nothing."""
    upstream.script(ENDLESS)
    client = await gateway(only("cancel") + config(configured))
    await left(client, **AUTH)
    await upstream.until(left=1, within=1)


PUBLIC = f"{TEAM}[assistants.guest]\npublic = true\n"


async def test_a_stranger_makes_nobody_pay_for_an_answer_without_a_reader(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    """Through a public assistant one may come back, but not leave it running to its end."""
    upstream.script(ENDLESS)
    client = await gateway(PUBLIC + config(grace_seconds=0.3))
    ask_guest = "/chat?q=hi&assistant=guest"
    async with client.get(f"{ask_guest}&on_disconnect=drain", headers=EVENTS) as response:
        assert await error_of(response) == (403, "policy_not_allowed")
    assert not upstream.requests
    stream_id = await left(client, f"{ask_guest}&on_disconnect=detach")
    assert not held(client, stream_id).log.ended
    await upstream.until(left=1, within=2)
    await left(client, f"{ask_guest}&on_disconnect=cancel")
    await upstream.until(left=2, within=1)


async def test_a_configured_drain_is_not_for_strangers(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """With a key, the same assistant drains."""
    upstream.script(ENDLESS, SLOW)
    client = await gateway(PUBLIC + config("drain"))
    await left(client, "/chat?q=hi&assistant=guest")
    await upstream.until(left=1, within=1)
    stream_id = await left(client, "/chat?q=hi&assistant=guest", **AUTH)
    await eventually(lambda: held(client, stream_id).is_done)
    assert held(client, stream_id).record.end == "complete"


# What nobody can come back to


WHOLE = answer(
    200,
    {
        "id": "c",
        "object": "chat.completion",
        "model": "m-1",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "ab"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 30, "completion_tokens": 40},
    },
)
FLEETING: dict[str, tuple[str, dict[str, str], dict[str, object], Sequence[Step]]] = {
    # the path, the header, the body, what the upstream answers slowly
    "json": ("/chat", {}, {}, SLOW),
    "text": ("/chat", TEXT, {}, SLOW),
    "sdk, streamed": ("/v1/chat/completions", {}, {"stream": True}, SLOW),
    "sdk, whole": ("/v1/chat/completions", {}, {}, [Pause(0.2), *WHOLE]),
}


async def leave_early(client: Client, upstream: ScriptedUpstream, way: str, query: str, **more: object) -> None:
    """Asks with a key, and leaves when the upstream has been asked."""
    path, headers, body, _ = FLEETING[way]
    body = {"messages": [{"role": "user", "content": "hi"}], **body, **more}
    requests = len(upstream.requests)
    asking = asyncio.create_task(client.post(path + query, json=body, headers={**headers, **AUTH}))
    await upstream.until(requests=requests + 1)
    await asyncio.sleep(0.05)  # within the pause of a slow answer, of which some ways have a part by then
    if asking.done():
        (await asking).close()
    asking.cancel()


@pytest.mark.parametrize("chosen", ["", "?on_disconnect=detach", "?on_disconnect=cancel"])
@pytest.mark.parametrize("way", FLEETING)
async def test_an_answer_that_cannot_be_resumed_is_cancelled(
    gateway: MakeGateway, upstream: ScriptedUpstream, lines: Lines, way: str, chosen: str
) -> None:
    """Waiting for somebody to come back would be in vain."""
    upstream.script([*FLEETING[way][3][:1], Stall()])
    client = await gateway(TEAM + config("detach", grace_seconds=30))
    await leave_early(client, upstream, way, chosen)
    await upstream.until(left=1, within=1)
    await eventually(lambda: len(lines) == 1 and len(streams(client)) == 0)
    assert [end["end"] for end in ends(lines)] == ["client_gone"]
    assert not list(streams(client))


LIMITED = f"{TEAM}tokens_per_minute = 10_000\n"


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("way", FLEETING)
async def test_unless_it_is_to_be_drained(
    gateway: MakeGateway, upstream: ScriptedUpstream, lines: Lines, way: str, where: str
) -> None:
    """Then the upstream is read to its end, and what it says it took is on record and charged."""
    upstream.script(FLEETING[way][3])
    client = await gateway(LIMITED + config("drain" if where == "in the configuration" else ""))
    query = "?on_disconnect=drain" if where == "in the query" else ""
    more = {"on_disconnect": "drain"} if where == "in the body" else {}
    await leave_early(client, upstream, way, query, **more)
    await eventually(lambda: bool(ends(lines)))
    (end,) = ends(lines)
    assert (end["end"], end["input_tokens"], end["output_tokens"]) == ("complete", 30, 40)
    assert "tokens_estimated" not in end
    assert upstream.left == 0
    assert "on_disconnect" not in upstream.requests[0].json
    await eventually(lambda: len(streams(client)) == 0)
    assert not list(streams(client))
    async with client.post("/streams", json={"question": "hi"}, headers=AUTH) as response:
        assert response.headers["x-ratelimit-remaining-tokens"] == str(10_000 - 70 - 1 - 256)


async def test_on_disconnect_is_ours_and_not_the_upstreams(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(OK)
    client = await gateway()
    messages = [{"role": "user", "content": "hi"}]
    for path in ("/chat", "/streams", "/v1/chat/completions"):
        for query in ("", "?on_disconnect=cancel"):
            body = {"messages": messages, "stream": True, "on_disconnect": "cancel"}
            async with client.post(path + query, json=body, headers=EVENTS) as response:
                assert response.status in (200, 201)
                await response.read()
    await upstream.until(requests=6)
    assert not any(b"on_disconnect" in request.body for request in upstream.requests)


async def test_drain_on_v1_does_not_wait_for_a_reader_that_is_gone(
    gateway: MakeGateway, upstream: ScriptedUpstream, lines: Lines
) -> None:
    """Even beyond what the window holds, where the upstream was not read until its reader took something."""
    upstream.script(stream(*[delta("x" * 100_000)] * 80, finish(), COUNTED, DONE))
    client = await gateway()
    body = b'{"messages":[{"role":"user","content":"hi"}],"stream":true,"on_disconnect":"drain"}'
    async with taking_nothing(client, "POST /v1/chat/completions HTTP/1.1\r\n", body):
        await eventually(lambda: any(one.log.full for one in streams(client)))
        await remains(lambda: not any(one.log.ended for one in streams(client)))
    await eventually(lambda: bool(ends(lines)))
    (end,) = ends(lines)
    assert (end["end"], end["input_tokens"], end["output_tokens"]) == ("complete", 30, 40)
    assert end["bytes"] > 8_000_000
    assert upstream.left == 0
    assert [line["request_id"] for line in lines] == [lines[0]["request_id"]] * 2


# Coming back


async def test_coming_back_within_the_grace_time_keeps_it(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """However often; and as long as somebody watches, no time runs."""
    upstream.script(stream(delta("a"), Pause(0.9), delta("b"), finish(), DONE))
    client = await gateway(config("detach", grace_seconds=0.3))
    stream_id = await left(client)
    for _ in range(2):
        async with client.get("/chat", headers={**EVENTS, "Last-Event-ID": f"{stream_id}.1"}):
            await asyncio.sleep(0.2)  # twice, and twice the way back: more than the grace time
    rest = await watched(client, "/chat", **{"Last-Event-ID": f"{stream_id}.1"})
    assert (rest.text, rest.end["reason"]) == ("b", "complete")
    assert len(upstream.requests) == 1
    assert upstream.left == 0


async def test_coming_back_too_late_gets_what_there_was(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """And an end that says why there is no more."""
    upstream.script(stream(delta("a"), delta("b"), Stall()))
    client = await gateway(config("detach", grace_seconds=0.1))
    stream_id = await left(client)
    await upstream.until(left=1)
    rest = await watched(client, "/chat", **{"Last-Event-ID": f"{stream_id}.1"})
    assert (rest.text, rest.data("failure"), rest.end["reason"]) == ("b", [], "client_gone")
    async with client.get("/chat", headers={**EVENTS, "Last-Event-ID": f"{stream_id}.3"}) as response:
        assert response.status == 204
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("policy", ["cancel", "detach"])
@pytest.mark.inside
async def test_only_the_last_ones_leaving_counts(gateway: MakeGateway, upstream: ScriptedUpstream, policy: str) -> None:
    """Whoever asked is one viewer like the others."""
    upstream.script(ENDLESS)
    client = await gateway(config(policy, grace_seconds=0.1))
    async with client.get("/chat?q=hi", headers=EVENTS) as first:
        start = await start_of(first)
        url = f"/streams/{start['stream']}?ticket={start['ticket']}"
        one = held(client, start["stream"])
        async with asking(client, url), asking(client, url, Accept="text/event-stream"):
            assert one.viewers == 3
            first.close()
            await eventually(lambda: one.viewers == 2)
            await remains(lambda: not one.log.ended, seconds=0.2)
        await eventually(lambda: one.viewers == 0)
    await upstream.until(left=1, within=1)
    assert one.record.end == "client_gone"


async def test_a_drained_stream_can_be_watched_again(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(SLOW)
    client = await gateway(config("drain"))
    stream_id = await left(client)
    rest = await watched(client, "/chat", **{"Last-Event-ID": f"{stream_id}.0"})
    assert (rest.text, rest.end["reason"]) == ("ab", "complete")
    assert held(client, stream_id).record.resumes == 1


async def test_a_viewer_does_not_choose(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """What becomes of a stream is the affair of the one who asked, and pays."""
    upstream.script(ENDLESS)
    client = await gateway(config("cancel"))
    made = await create(client)
    await left(client, f"{made['url']}&on_disconnect=drain")
    await upstream.until(left=1, within=1)


async def test_who_may_only_read_does_not_end_it_by_leaving(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """Nor does it shorten the time that the one who may stop it has to come."""
    upstream.script(ENDLESS)
    client = await gateway(config("cancel"))
    made = await create(client)
    await left(client, made["viewer_url"])
    await remains(lambda: not held(client, made["id"]).log.ended)
    await left(client, made["url"])
    await upstream.until(left=1, within=1)


@pytest.mark.parametrize("policy", ["drain", "detach"])
async def test_what_nobody_watches_can_be_stopped(
    gateway: MakeGateway, upstream: ScriptedUpstream, lines: Lines, policy: str
) -> None:
    upstream.script(ENDLESS)
    client = await gateway(config(policy))
    async with client.get("/chat?q=hi", headers=EVENTS) as response:
        start = await start_of(response)
    await eventually(lambda: not held(client, start["stream"]).viewers)
    async with client.delete(f"/streams/{start['stream']}?ticket={start['ticket']}") as response:
        assert response.status == 204
    await upstream.until(left=1, within=1)
    await eventually(lambda: bool(ends(lines)))
    assert [end["end"] for end in ends(lines)] == ["stopped"]


# A stream that nobody comes to watch


@pytest.mark.parametrize(("policy", "least"), [("cancel", 0.2), ("detach", 0.4)])
async def test_a_stream_that_nobody_comes_to_watch_is_ended(
    gateway: MakeGateway, upstream: ScriptedUpstream, lines: Lines, policy: str, least: float
) -> None:
    """After `attach_seconds` it is as if the last viewer had left."""
    upstream.script(ENDLESS)
    client = await gateway(config(policy, attach_seconds=0.2, grace_seconds=0.2))
    started = asyncio.get_running_loop().time()
    made = await create(client)
    await eventually(lambda: bool(ends(lines)), within=10)
    assert least - 0.02 < asyncio.get_running_loop().time() - started < least + 5  # a busy machine takes its time
    await eventually(lambda: upstream.playing == 0)
    assert [end["end"] for end in ends(lines)] == ["client_gone"]
    assert (await watched(client, made["url"])).end["reason"] == "client_gone"


async def test_with_drain_it_is_made_all_the_same(
    gateway: MakeGateway, upstream: ScriptedUpstream, lines: Lines
) -> None:
    upstream.script(SLOW)
    client = await gateway(config("drain", attach_seconds=0.1, grace_seconds=0.1))
    made = await create(client)
    await eventually(lambda: bool(ends(lines)))
    assert [end["end"] for end in ends(lines)] == ["complete"]
    assert (await watched(client, made["url"])).text == "ab"


async def test_who_comes_in_time_stops_that_clock(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """Its own leaving is then what counts; and looking at it as JSON is not watching it."""
    upstream.script(ENDLESS)
    client = await gateway(config("cancel", attach_seconds=0.2))
    made = await create(client)
    async with asking(client, made["url"]):
        await remains(lambda: upstream.left == 0, seconds=0.4)
    await upstream.until(left=1, within=1)
    made = await create(client)
    one = held(client, made["id"])
    while not one.log.ended:
        assert await state(client, made) == 200
    assert one.record.end == "client_gone"


# How many nobody watches


async def test_orphans_are_bounded_in_number(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """The one that has waited longest is ended. Those that are watched do not count, nor do those that came back."""
    upstream.script(ENDLESS)
    client = await gateway(config("detach") + "max_orphans = 2\n")
    async with asking(client) as (_, watched_one):
        first, second = await left(client), await left(client)
        async with client.get("/chat", headers={**EVENTS, "Last-Event-ID": f"{first}.1"}):
            third = await left(client)
            assert not any(one.log.ended for one in streams(client))
        await eventually(lambda: held(client, second).log.ended)  # first has begun to wait anew
        assert held(client, second).record.end == "client_gone"
        assert not held(client, first).log.ended
        fourth = await left(client)
        assert held(client, third).log.ended
        ended = [one.id for one in streams(client) if one.log.ended]
        assert set(ended) == {second, third}
        assert not held(client, watched_one).log.ended
        assert not held(client, fourth).log.ended
    await upstream.until(left=3)  # the watched one's leaving was one too many again


async def test_awaited_ones_are_orphans_too_and_drained_ones_are_not(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    """What is drained waits for nobody, and is to be finished: `timeouts.total` bounds it."""
    upstream.script(ENDLESS)
    client = await gateway(config("drain") + "max_orphans = 1\n")
    drained = [await left(client), await left(client)]
    made = await create(client)
    third = await left(client, "/chat?q=hi&on_disconnect=detach")
    assert held(client, made["id"]).record.end == "client_gone"
    assert not any(held(client, name).log.ended for name in (*drained, third))


async def test_an_answer_that_has_ended_is_no_orphan(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """Though its upstream may still be being put away when its viewer has left: it pushes out nobody who waits."""
    upstream.script(ENDLESS, stream(delta("a"), finish(), DONE, Stall()))
    client = await gateway(config("detach") + "max_orphans = 1\n")
    waiting = await left(client)
    for _ in range(3):
        assert (await ask(client)).end["reason"] == "complete"
    await eventually(lambda: len(streams(client)) == 1)
    assert not held(client, waiting).log.ended


async def test_orphans_are_ended_when_the_gateway_goes_down(
    gateway: MakeGateway, upstream: ScriptedUpstream, lines: Lines
) -> None:
    """Whatever they wait for; and each is on record."""
    upstream.script(ENDLESS)
    client = await gateway()
    await create(client)
    await left(client)
    await left(client, "/chat?q=hi&on_disconnect=drain")
    await streams(client).close()
    await upstream.until(left=3, within=1)
    await eventually(lambda: len(ends(lines)) == 3)
    assert [end["end"] for end in ends(lines)] == ["shutting_down"] * 3


async def test_an_orphan_gives_its_place_to_its_callers_next_question(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    """A page that was reloaded may ask again; but leaving and asking again is no way around the limit."""
    upstream.script(ENDLESS)
    client = await gateway(f"{TEAM}max_streams = 1\n" + config("detach"))
    orphan = await left(client, **AUTH)
    async with asking(client, **AUTH):
        assert held(client, orphan).record.end == "client_gone"
        async with client.get("/chat?q=hi", headers={**EVENTS, **AUTH}) as response:
            assert await error_of(response) == (429, "too_many_streams")


async def test_one_whose_page_is_still_to_come_keeps_its_place(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script(ENDLESS)
    client = await gateway(f"{TEAM}max_streams = 1\n" + config("detach"))
    made = await create(client, **AUTH)
    async with client.get("/chat?q=hi", headers={**EVENTS, **AUTH}) as response:
        assert await error_of(response) == (429, "too_many_streams")
    assert not held(client, made["id"]).log.ended


# What is held when it has ended


async def ended_streams(client: Client, number: int) -> list[dict[str, Any]]:
    made = []
    for _ in range(number):
        made.append(await create(client))
        await watched(client, made[-1]["url"])
        await eventually(lambda: len(streams(client)) == 0)
    return made


@pytest.mark.memory
async def test_ended_streams_make_room_and_the_oldest_goes_first(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    """Oldest is whichever nobody has watched for longest."""
    upstream.script(OK)
    client = await gateway("[store]\nmax_streams = 3")
    first, second, third = await ended_streams(client, 3)
    assert [await state(client, made) for made in (first, second, third)] == [200, 200, 200]
    await watched(client, first["url"])
    (fourth,) = await ended_streams(client, 1)
    assert [await state(client, made) for made in (first, second, third, fourth)] == [200, 404, 200, 200]
    (fifth,) = await ended_streams(client, 1)
    assert [await state(client, made) for made in (first, third, fourth, fifth)] == [200, 404, 200, 200]


@pytest.mark.memory
async def test_one_that_runs_or_is_watched_makes_no_room(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """Where only such are left, the next one is refused, and asks nobody."""
    upstream.script(ENDLESS, stream(*[delta("x" * 100_000)] * 80, finish(), DONE), OK)
    client = await gateway(config("detach") + "[store]\nmax_streams = 2")
    running = await create(client)
    await upstream.until(requests=1)  # the other script is for the next one
    being_read = await create(client)
    one = held(client, being_read["id"])
    async with taking_nothing(client, f"GET {being_read['url']} HTTP/1.1\r\nAccept: text/event-stream\r\n"):
        await eventually(lambda: one.is_done and one.viewers == 1)
        for _ in range(2):
            async with client.get("/chat?q=hi", headers=EVENTS) as response:
                assert await error_of(response) == (503, "busy")
                assert int(response.headers["Retry-After"]) > 0
        assert [await state(client, made) for made in (running, being_read)] == [200, 200]
        assert len(upstream.requests) == 2
    await eventually(lambda: one.viewers == 0)
    assert (await ask(client)).end["reason"] == "complete"
    assert [await state(client, made) for made in (running, being_read)] == [200, 404]


@pytest.mark.inside
async def test_ended_streams_make_room_for_one_that_grows(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """The oldest first, and no more of them than it takes; the one that runs is never cut for it."""
    part = delta("x" * 50_000)
    grow = [asyncio.Event() for _ in range(3)]
    growing = stream(part, Until(grow[0]), part, Until(grow[1]), part, Until(grow[2]), finish(), DONE)
    upstream.script(stream(part, finish(), DONE), stream(part, finish(), DONE), growing)
    client = await gateway("[store]\nmax_bytes = 200_000")
    first, second = await ended_streams(client, 2)
    made = await create(client)
    one = held(client, made["id"])

    async def are_held(parts: int) -> list[bool]:
        """The ended ones, when the running one has grown so far. To ask for their text would take room, too."""
        await eventually(lambda: one.log.last == parts)
        grow[parts - 1].set()
        return [streams(client).find(other["id"]) is not None for other in (first, second)]

    assert [await are_held(parts) for parts in (1, 2, 3)] == [[True, True], [False, True], [False, False]]
    whole = await watched(client, made["url"])
    assert (len(whole.text), whole.end["reason"]) == (150_000, "complete")


@pytest.mark.inside
async def test_where_what_runs_fills_the_store_new_ones_are_refused(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    go = asyncio.Event()
    upstream.script(stream(delta("x" * 300_000), Until(go), finish(), DONE), OK)
    client = await gateway("[store]\nmax_bytes = 200_000")
    made = await create(client)
    await eventually(lambda: held(client, made["id"]).log.size == 300_000)
    for path in ("/chat", "/streams"):
        async with client.post(path, json={"question": "hi"}) as response:
            assert await error_of(response) == (503, "busy")
    assert len(upstream.requests) == 1
    go.set()
    assert (await watched(client, made["url"])).end["reason"] == "complete"
    await eventually(lambda: len(streams(client)) == 0)
    assert (await ask(client)).end["reason"] == "complete"


@pytest.mark.memory
async def test_an_ended_stream_is_held_for_a_while(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """Counted from its end, however often it is looked at. What was asked for as JSON or text is not held at all."""
    upstream.script(OK)
    client = await gateway(config(keep_seconds=0.4))
    for headers in ({}, TEXT):
        async with client.get("/chat?q=hi", headers=headers) as response:
            await response.read()
        await eventually(lambda: not list(streams(client)))
    started = asyncio.get_running_loop().time()
    (made,) = await ended_streams(client, 1)
    ended = asyncio.get_running_loop().time()
    while await state(client, made) == 200:
        async with client.get("/chat", headers={**EVENTS, "Last-Event-ID": f"{made['id']}.1"}) as response:
            assert response.status in (200, 404)
            await response.read()
    gone = asyncio.get_running_loop().time()
    assert gone - started > 0.4
    assert gone - ended < 2
    assert not list(streams(client))


# What is on record


async def logged(client: Client, lines: Lines, number: int) -> Lines:
    """That many lines, and no more when everything has come to rest."""
    await eventually(lambda: len(lines) >= number and len(streams(client)) == 0)
    await remains(lambda: len(lines) == number)
    return lines


def counted(lines: Lines) -> int:
    """Streams, as `gateway usage` counts them."""
    told = account([json.dumps(line).encode() for line in lines], [])
    assert told.skipped == 0
    return sum(sums.streams for _, sums in told.rows)


async def test_a_stream_that_outlives_its_request_has_a_line_of_its_own(
    gateway: MakeGateway, upstream: ScriptedUpstream, lines: Lines
) -> None:
    """With the id of that request and the name of its key; it is the only one that says how the stream ended."""
    upstream.script(SLOW)
    client = await gateway(TEAM)
    stream_id = await left(client, "/chat?q=hi", **AUTH, **{"X-Request-ID": "from-nginx.7"})
    request, end = await logged(client, lines, 2)
    assert (request["request_id"], request["key"], request["status"]) == ("from-nginx.7", "team", 499)
    assert request["stream"]["stream"] == stream_id
    assert "end" not in request["stream"]
    assert end["stream"].pop("seconds") > 0
    assert end["stream"] == request["stream"] | {
        "model": "m-1",
        "end": "complete",
        "finish_reason": "stop",
        "input_tokens": 30,
        "output_tokens": 40,
        "entries": 2,
        "bytes": len("ab"),
        "first_token": held(client, stream_id).record.first_token,
    }
    rest = {name: value for name, value in end.items() if name not in ("time", "stream")}
    assert rest == {"level": "info", "logger": "gateway.access", "request_id": "from-nginx.7", "key": "team"}
    assert counted(lines) == 1


async def test_a_stream_that_ends_within_its_request_is_on_that_line_only(
    gateway: MakeGateway, upstream: ScriptedUpstream, lines: Lines
) -> None:
    """Also where its client left and that was the end."""
    upstream.script(OK, ENDLESS)
    client = await gateway(config("cancel"))
    await ask(client)
    await left(client)
    await logged(client, lines, 2)
    assert [end["end"] for end in ends(lines)] == ["complete", "client_gone"]
    assert counted(lines) == 2


async def test_watchers_have_watched_and_nothing_is_told_twice(
    gateway: MakeGateway, upstream: ScriptedUpstream, lines: Lines
) -> None:
    """The stream is on the line of the request that started it, and on its own; others name what they viewed."""
    upstream.script(stream(delta("a"), Stall()))
    client = await gateway(TEAM)
    made = await create(client, **AUTH)
    assert await state(client, made) == 200
    async with asking(client, made["viewer_url"]):
        pass
    async with client.get(f"/streams/{made['id']}?ticket=wrong") as response:
        assert response.status == 404
    async with client.delete(made["url"]) as response:
        assert response.status == 204
    assert (await watched(client, made["url"])).end["reason"] == "stopped"
    await logged(client, lines, 7)
    told = [(line.get("method"), line.get("status"), line.get("viewed"), "stream" in line) for line in lines]
    assert sorted(told, key=str) == sorted(
        [
            ("POST", 201, None, True),
            ("GET", 200, made["id"], False),
            ("GET", 499, made["id"], False),
            ("GET", 404, None, False),
            ("DELETE", 204, made["id"], False),
            (None, None, None, True),
            ("GET", 200, made["id"], False),
        ],
        key=str,
    )
    (end,) = [line for line in lines if "end" in line.get("stream", {})]
    assert end["request_id"] == lines[0]["request_id"]
    assert counted(lines) == 1


@pytest.mark.inside
async def test_how_often_somebody_came_back_is_counted(
    gateway: MakeGateway, upstream: ScriptedUpstream, lines: Lines
) -> None:
    """By either address. Who reads from the start did not come back, nor did one who had the end already."""
    upstream.script(stream(delta("a"), Pause(0.4), delta("b"), finish(), DONE))
    client = await gateway()
    async with client.get("/chat?q=hi", headers=EVENTS) as response:
        start = await start_of(response)
        await response.content.readuntil(b"data: a\n")
    url = f"/streams/{start['stream']}?ticket={start['ticket']}"
    last = {"Last-Event-ID": f"{start['stream']}.1"}
    async with client.get("/chat", headers={**EVENTS, **last}):
        pass
    async with client.get(url, headers={**EVENTS, **last}):
        pass
    async with asking(client, url):
        pass
    rest = await watched(client, f"{url}&last_event_id={start['stream']}.1")
    assert rest.end["reason"] == "complete"
    async with client.get("/chat", headers={**EVENTS, "Last-Event-ID": f"{start['stream']}.3"}) as response:
        assert response.status == 204
    await logged(client, lines, 7)
    assert [end["resumes"] for end in ends(lines)] == [3]
    assert [line.get("viewed") for line in lines if "stream" not in line] == [start["stream"]] * 5
    assert counted(lines) == 1


@asynccontextmanager
async def taking_nothing(client: Client, head: str, body: bytes = b"") -> AsyncIterator[None]:
    """A client that sends this request, leaves the answer in the network, and goes at the end of the block."""
    _, writer = await connect(client, receive_buffer=4096)
    fields = f"Host: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(f"{head}{fields}".encode() + body)
    yield
    writer.transport.abort()
