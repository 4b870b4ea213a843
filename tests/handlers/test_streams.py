"""Streams by their address: `POST /streams` starts one, `GET` watches it, `DELETE` stops it."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

import pytest

from tests.conftest import Client, MakeGateway
from tests.rig.clients import EVENTS, TEXT, Answer, api_key, bearer, create, error_of, eventually, start_of, watched
from tests.rig.inside import held, is_at_rest, streams
from tests.rig.receipts import EMPTY
from tests.rig.scripted_upstream import (
    DONE,
    Pause,
    ScriptedUpstream,
    Stall,
    chunk,
    delta,
    event,
    finish,
    stream,
    usage,
)

OK = stream(delta("Hello"), delta(" world"), finish(), DONE)
LASTING = stream(delta("a"), Stall())

TEAM, OTHERS = "the-key-of-a-team", "the-key-of-others"
KEYS = f"""
[[keys]]
name = "team"
key = "{TEAM}"
[[keys]]
name = "others"
key = "{OTHERS}"
"""


def ticket_in(url: str) -> str:
    return url.partition("?ticket=")[2]


async def snapshot(client: Client, url: str, **headers: str) -> dict[str, Any]:
    async with client.get(url, headers={"Accept": "application/json", **headers}) as response:
        assert response.status == 200
        value: dict[str, Any] = await response.json()
        return value


async def stop(client: Client, url: str, **headers: str) -> int:
    async with client.delete(url, headers=headers) as response:
        return response.status


# Starting one


async def test_a_stream_is_created_and_has_an_address(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(OK)
    client = await gateway("[timeouts]\ntotal = 60\n[stream]\nkeep_seconds = 40")
    async with client.post("/streams", json={"question": "hi"}) as response:
        assert response.status == 201
        assert response.headers["Cache-Control"] == "no-store"
        body = await response.json()
        assert set(body) == {"id", "url", "ticket", "viewer_url", "expires_in"}
        path = f"/streams/{body['id']}"
        assert response.headers["Location"] == path
        assert body["url"] == f"{path}?ticket={body['ticket']}"
        assert body["viewer_url"].startswith(f"{path}?ticket=")
        assert len(body["id"]) == len(body["ticket"]) == len(ticket_in(body["viewer_url"])) == 22
        assert len({body["id"], body["ticket"], ticket_in(body["viewer_url"])}) == 3
        assert body["expires_in"] in (99, 100)
    await upstream.until(requests=1)
    assert upstream.requests[0].json["messages"] == [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize("public_url", ["https://chat.example", "https://chat.example/", "https://chat.example/llm/"])
async def test_where_the_public_address_is_known_streams_have_whole_ones(
    gateway: MakeGateway, upstream: ScriptedUpstream, public_url: str
) -> None:
    upstream.script(OK)
    client = await gateway(f'[server]\npublic_url = "{public_url}"\nallow_anonymous = true')
    async with client.post("/streams", json={"question": "hi"}) as response:
        body = await response.json()
        address = f"{public_url.rstrip('/')}/streams/{body['id']}"
        assert response.headers["Location"] == address
        assert body["url"] == f"{address}?ticket={body['ticket']}"
        assert body["viewer_url"].startswith(f"{address}?ticket=")


async def test_fields_may_be_in_the_query_or_in_the_body(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """Whom to ask and how in both, with the body's word before the query's; OpenAI's parameters in the body."""
    upstream.script(OK)
    client = await gateway('[assistants.terse]\nsystem = ["Be brief."]')
    messages = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]
    body = {"messages": messages, "temperature": 0.5, "format": "json", "reasoning": True}
    await create(client, body, query="?model=m-query&assistant=terse&temperature=2")
    await create(client, {"question": "hi", "model": "m-body"}, query="?model=m-query&q=other")
    await upstream.until(requests=2)
    first, second = sorted([request.json for request in upstream.requests], key=lambda body: str(body["model"]))[::-1]
    assert first == {
        "model": "m-query",
        "messages": [{"role": "system", "content": "Be brief."}, *messages],
        "temperature": 0.5,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert (second["model"], second["messages"]) == ("m-body", [{"role": "user", "content": "hi"}])


REFUSED = {
    # the body, more of the request, status and code
    "no question": (b"{}", {}, (400, "question_missing")),
    "not JSON": (b"{", {}, (400, "invalid_json")),
    "two answers": (b'{"question": "x", "n": 2}', {}, (400, "invalid_request")),
    "an unknown format": (b'{"question": "x", "format": "xml"}', {}, (400, "invalid_request")),
    "an unknown policy": (b'{"question": "x", "on_disconnect": "stay"}', {}, (400, "invalid_request")),
    "an unknown assistant": (b'{"question": "x", "assistant": "zz"}', {}, (404, "assistant_not_found")),
    "a query twice": (b'{"question": "x"}', {"path": "?model=a&model=b"}, (400, "invalid_query")),
    "no key": (b'{"question": "x"}', {"Authorization": ""}, (401, "invalid_api_key")),
    "a wrong key": (b'{"question": "x"}', bearer("wrong"), (401, "invalid_api_key")),
    "no JSON by its type": (b'{"question": "x"}', {"Content-Type": "text/plain"}, (415, "media_type_not_supported")),
    "too much": (b'"' + b"x" * 2048 + b'"', {}, (413, "body_too_large")),
}


@pytest.mark.parametrize("path", ["/chat", "/streams"])
@pytest.mark.parametrize("case", REFUSED)
async def test_what_is_refused_is_refused_on_both_addresses(
    gateway: MakeGateway, upstream: ScriptedUpstream, path: str, case: str
) -> None:
    body, more, told = REFUSED[case]
    client = await gateway(f"{KEYS}[server]\nmax_body_bytes = 2048")
    headers = {"Content-Type": "application/json", **bearer(TEAM), **more}
    query = headers.pop("path", "")
    async with client.post(path + query, data=body, headers=headers) as response:
        assert await error_of(response) == told
    assert not upstream.requests
    assert is_at_rest(client)


# Watching


async def test_it_is_shown_from_the_start_however_late(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """The start block first, and without a ticket: who shows one has it. Every watcher gets the same bytes."""
    upstream.script(OK)
    client = await gateway("[stream]\nretry_ms = 1234")
    made = await create(client)
    await eventually(lambda: is_at_rest(client))
    answer = await watched(client, made["url"])
    assert answer.raw.startswith(b'retry: 1234\nevent: start\ndata: {"stream":"')
    assert answer.data("start") == [f'{{"stream":"{made["id"]}"}}']
    assert [(event.type, event.data) for event in answer.events[1:3]] == [("message", "Hello"), ("message", " world")]
    assert [event.last_event_id for event in answer.events] == [f"{made['id']}.{n}" for n in range(4)]
    assert answer.end["reason"] == "complete"
    assert answer.end["stream"] == made["id"]
    assert (await watched(client, made["viewer_url"])).raw == answer.raw
    assert len(upstream.requests) == 1


async def test_it_is_followed_live(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """What was said before is there at once, the rest as it comes."""
    upstream.script(stream(delta("a"), Pause(0.3), delta("b"), finish(), DONE))
    client = await gateway()
    made = await create(client)
    await eventually(lambda: held(client, made["id"]).log.last == 1)
    async with client.get(made["url"], headers=EVENTS) as response:
        assert response.headers["Content-Type"] == "text/event-stream"
        assert await start_of(response) == {"stream": made["id"]}
        await response.content.readuntil(b"data: a\n")
        assert (await snapshot(client, made["url"]))["state"] == "running"
        rest = Answer(await response.read())
    assert (rest.text, rest.end["reason"]) == ("b", "complete")


WAYS_IN: dict[str, Callable[[Mapping[str, Any]], tuple[str, dict[str, str]]]] = {
    "the ticket in the address": lambda made: (made["url"], {}),
    "the viewer's ticket in the address": lambda made: (made["viewer_url"], {}),
    "the ticket as a bearer's": lambda made: (f"/streams/{made['id']}", bearer(made["ticket"])),
    "the viewer's as a bearer's": lambda made: (f"/streams/{made['id']}", bearer(ticket_in(made["viewer_url"]))),
    "the ticket as x-api-key": lambda made: (f"/streams/{made['id']}", api_key(made["ticket"])),
    "the viewer's as x-api-key": lambda made: (f"/streams/{made['id']}", api_key(ticket_in(made["viewer_url"]))),
    "the ticket in both fields": lambda made: (
        f"/streams/{made['id']}",
        bearer(made["ticket"]) | api_key(made["ticket"]),
    ),
    "the ticket behind a proxy's password": lambda made: (
        f"/streams/{made['id']}",
        {"Authorization": "Basic dTpw"} | api_key(made["ticket"]),
    ),
    "the key that asked as x-api-key": lambda made: (f"/streams/{made['id']}", api_key(TEAM)),
    "the key that asked": lambda made: (f"/streams/{made['id']}", bearer(TEAM)),
    "a ticket and another's key": lambda made: (made["viewer_url"], bearer(OTHERS)),
    "a ticket and no valid key": lambda made: (made["viewer_url"], bearer("nobody's")),
    "the key that asked and a wrong ticket": lambda made: (f"/streams/{made['id']}?ticket=wrong", bearer(TEAM)),
}


WITHOUT_KEYS = [way for way in WAYS_IN if "the key that asked" not in way]


@pytest.mark.parametrize(("way", "keys"), [(way, KEYS) for way in WAYS_IN] + [(way, "") for way in WITHOUT_KEYS])
async def test_what_opens_a_stream(gateway: MakeGateway, upstream: ScriptedUpstream, way: str, keys: str) -> None:
    """A ticket, wherever it is sent, or the key that asked; in every representation. Reading charges nothing."""
    upstream.script(OK)
    client = await gateway(keys)
    made = await create(client, **(bearer(TEAM) if keys else {}))
    url, headers = WAYS_IN[way](made)
    assert (await watched(client, url, **headers)).text == "Hello world"
    async with client.get(url, headers={**TEXT, **headers}) as response:
        assert response.content_type == "text/plain"
        assert await response.text() == "Hello world"
    assert (await snapshot(client, url, **headers))["text"] == "Hello world"
    assert len(upstream.requests) == 1


async def test_as_text_it_comes_as_it_is_said(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(delta("a"), Pause(0.2), delta("b"), finish(), DONE))
    client = await gateway()
    made = await create(client)
    async with client.get(made["viewer_url"], headers=TEXT) as response:
        assert (response.content_type, response.charset) == ("text/plain", "utf-8")
        assert await response.content.readany() == b"a"
        assert await response.read() == b"b"


@pytest.mark.inside
async def test_a_look_at_what_there_is(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """As JSON, at once: while it runs, and when it has ended. Text is what a person is to read."""
    thought = event(chunk(reasoning_content="hm"))
    refused = event(chunk(refusal="no"))
    upstream.script(stream(thought, delta("é\n"), Pause(0.3), refused, finish(), usage(prompt_tokens=3), DONE))
    client = await gateway()
    made = await create(client)
    stream_id = made["id"]
    await eventually(lambda: held(client, made["id"]).log.last == 2)
    assert await snapshot(client, made["url"]) == {
        "id": stream_id,
        "state": "running",
        "text": "é\n",
        "events": 2,
        "last_event_id": f"{stream_id}.2",
        "end": None,
    }
    end = (await watched(client, made["url"])).end
    assert await snapshot(client, made["viewer_url"]) == {
        "id": stream_id,
        "state": "ended",
        "text": "é\nno",
        "events": 4,
        "last_event_id": f"{stream_id}.4",
        "end": end,
    }
    assert end["usage"] == {"prompt_tokens": 3}


async def test_a_look_before_anything_was_said(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script([Stall()])
    client = await gateway()
    made = await create(client)
    told = {"state": "running", "text": "", "events": 0, "last_event_id": f"{made['id']}.0", "end": None}
    assert await snapshot(client, made["url"]) == {"id": made["id"], **told}


async def test_format_and_reasoning_are_the_viewers(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """Whatever the request asked for that started it."""
    upstream.script(stream(event(chunk(reasoning_content="hm")), delta("a\r\nb"), finish(), DONE))
    client = await gateway()
    made = await create(client, {"question": "hi", "format": "json", "reasoning": True})
    plain = await watched(client, made["url"])
    assert (plain.data("message"), plain.data("reasoning")) == (["a\nb"], [])
    thinking = await watched(client, f"{made['url']}&reasoning=1")
    assert (thinking.data("message"), thinking.data("reasoning")) == (["a\nb"], ["hm"])
    exact = await watched(client, f"{made['viewer_url']}&format=json&reasoning=true")
    assert (exact.data("message"), exact.data("reasoning")) == ([r'{"content":"a\r\nb"}'], ['{"reasoning":"hm"}'])
    assert [event.last_event_id for event in plain.events] == [f"{made['id']}.{n}" for n in (0, 2, 3)]
    async with client.get(f"{made['url']}&format=xml", headers=EVENTS) as response:
        assert await error_of(response) == (400, "invalid_request")


async def test_a_watcher_that_lost_its_connection_gets_the_rest(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    """By the field or by the query, without a start block; who has the end already is told to stay away."""
    upstream.script(OK)
    client = await gateway()
    made = await create(client)
    whole = await watched(client, made["url"])
    last = b"id: %b.1\n\n" % made["id"].encode()
    by_field = await watched(client, made["url"], **{"Last-Event-ID": f"{made['id']}.1"})
    by_query = await watched(client, f"{made['viewer_url']}&last_event_id={made['id']}.1")
    assert by_field.raw == by_query.raw == whole.raw.partition(last)[2]
    for wanted in (EVENTS, TEXT):
        async with client.get(made["url"], headers={**wanted, "Last-Event-ID": f"{made['id']}.3"}) as response:
            assert (response.status, await response.read()) == (204, b"")
    async with client.get(made["url"], headers={**TEXT, "Last-Event-ID": f"{made['id']}.1"}) as response:
        assert await response.read() == b" world"


# What opens nothing


async def refusal(client: Client, method: str, url: str, **headers: str) -> tuple[int, bytes]:
    async with client.request(method, url, headers=headers) as response:
        assert await error_of(response) == (404, "stream_not_found")
        return response.status, await response.read()


CLOSED: dict[str, Callable[[Mapping[str, Any]], tuple[str, dict[str, str]]]] = {
    "an unknown id": lambda made: (f"/streams/{'A' * 22}?ticket={made['ticket']}", {}),
    "an unknown id and the key": lambda made: (f"/streams/{'A' * 22}", bearer(TEAM)),
    "no id at all": lambda made: ("/streams/%20", bearer(TEAM)),
    "an odd id": lambda made: ("/streams/%ff%00", bearer(TEAM)),
    "no ticket": lambda made: (f"/streams/{made['id']}", {}),
    "an empty ticket": lambda made: (f"/streams/{made['id']}?ticket=", {}),
    "an empty bearer": lambda made: (f"/streams/{made['id']}", {"Authorization": "Bearer "}),
    "a wrong ticket": lambda made: (f"/streams/{made['id']}?ticket={'A' * 22}", {}),
    "a long ticket": lambda made: (f"/streams/{made['id']}?ticket={'A' * 8000}", {}),
    "an odd ticket": lambda made: (f"/streams/{made['id']}?ticket=%C3%A9%00%F0%9F%98%80", {}),
    "an odd bearer": lambda made: (f"/streams/{made['id']}", bearer("\udcff\udc80")),
    "the id as a ticket": lambda made: (f"/streams/{made['id']}?ticket={made['id']}", {}),
    "the key as a ticket": lambda made: (f"/streams/{made['id']}?ticket={TEAM}", {}),
    "a ticket as another scheme": lambda made: (f"/streams/{made['id']}", {"Authorization": f"Basic {made['ticket']}"}),
    "a wrong ticket and a right bearer's": lambda made: (f"/streams/{made['id']}?ticket=x", bearer(made["ticket"])),
    "an odd x-api-key": lambda made: (f"/streams/{made['id']}", api_key("\udcff\udc80")),
    "an empty x-api-key": lambda made: (f"/streams/{made['id']}", api_key("")),
    "another stream's ticket as x-api-key": lambda made: (f"/streams/{made['id']}", api_key(made["other"]["ticket"])),
    "another team's key as x-api-key": lambda made: (f"/streams/{made['id']}", api_key(OTHERS)),
    "another team's key": lambda made: (f"/streams/{made['id']}", bearer(OTHERS)),
    "a wrong key": lambda made: (f"/streams/{made['id']}", bearer("wrong")),
    "another stream's ticket": lambda made: (f"/streams/{made['id']}?ticket={made['other']['ticket']}", {}),
    "another stream's address": lambda made: (f"/streams/{made['other']['id']}?ticket={made['ticket']}", {}),
    "an event of another stream": lambda made: (made["url"], {"Last-Event-ID": f"{made['other']['id']}.0", **EVENTS}),
    "an event that is not there": lambda made: (made["url"], {"Last-Event-ID": f"{made['id']}.9", **EVENTS}),
    "an event that is none": lambda made: (made["url"], {"Last-Event-ID": f"{made['id']}.-1", **EVENTS}),
}


async def test_fault_62_88_90_what_opens_nothing_is_one_answer_for_all(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    """To the byte, for reading as for stopping: whether a stream is there is nobody's to find out."""
    upstream.script(LASTING)
    client = await gateway(KEYS)
    made = await create(client, **bearer(TEAM))
    made["other"] = await create(client, **bearer(OTHERS))
    answers = {}
    for case, closed in CLOSED.items():
        url, headers = closed(made)
        answers[case] = await refusal(client, "GET", url, **headers)
        if "event" not in case:
            answers[f"{case}, to stop"] = await refusal(client, "DELETE", url, **headers)
    assert len(set(answers.values())) == 1, answers
    assert (await snapshot(client, made["url"]))["state"] == "running"


async def test_fault_90_two_different_secrets_open_nothing(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """They are the same refusal whether the stream is there or not."""
    upstream.script(LASTING)
    client = await gateway(KEYS)
    made = await create(client, **bearer(TEAM))
    answers = set()
    for stream_id in (made["id"], "A" * 22):
        for one, other in ((made["ticket"], TEAM), (TEAM, OTHERS), (OTHERS, made["ticket"])):
            for method in ("GET", "DELETE"):
                headers = bearer(one) | api_key(other)
                async with client.request(method, f"/streams/{stream_id}", headers=headers) as response:
                    assert await error_of(response) == (400, "two_api_keys")
                    answers.add(await response.text())
    assert len(answers) == 1
    assert (await snapshot(client, made["url"]))["state"] == "running"


async def test_nobodys_stream_is_opened_by_its_ticket_only(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """Without keys, everybody is nobody in particular."""
    upstream.script(LASTING)
    client = await gateway()
    made = await create(client)
    for headers in ({}, bearer("anything"), bearer(made["id"])):
        for method in ("GET", "DELETE"):
            await refusal(client, method, f"/streams/{made['id']}", **headers)
    assert (await snapshot(client, made["url"]))["state"] == "running"


async def test_a_ticket_expires(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """The key that asked still opens what is held."""
    upstream.script(LASTING)
    client = await gateway(f"{KEYS}[timeouts]\ntotal = 60\n[stream]\nkeep_seconds = 40")
    made = await create(client, **bearer(TEAM))
    now = asyncio.get_running_loop().time
    held(client, made["id"]).tickets._now = lambda: now() + 99
    assert (await snapshot(client, made["url"]))["state"] == "running"
    held(client, made["id"]).tickets._now = lambda: now() + 100
    for url in (made["url"], made["viewer_url"]):
        await refusal(client, "GET", url)
        await refusal(client, "DELETE", url)
        await refusal(client, "GET", f"/streams/{made['id']}", **bearer(ticket_in(url)))
    assert (await snapshot(client, f"/streams/{made['id']}", **bearer(TEAM)))["state"] == "running"


async def test_a_ticket_expires_with_the_key_that_made_it(
    gateway: MakeGateway, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream.script(LASTING)
    client = await gateway(KEYS.replace('name = "team"', 'name = "team"\nexpires = 2030-01-31'))
    dates = ["gateway.handlers.reading.today", "gateway.handlers.streams.today"]
    for name in dates:
        monkeypatch.setattr(name, lambda: date(2030, 1, 31))
    made = await create(client, **bearer(TEAM))
    other = await create(client, **bearer(OTHERS))
    assert (await snapshot(client, made["url"]))["state"] == "running"
    for name in dates:
        monkeypatch.setattr(name, lambda: date(2030, 2, 1))
    for url in (made["url"], made["viewer_url"]):
        await refusal(client, "GET", url)
        await refusal(client, "DELETE", url)
        await refusal(client, "GET", url, **bearer(OTHERS))
    await refusal(client, "GET", f"/streams/{made['id']}", **bearer(TEAM))
    await refusal(client, "GET", f"/streams/{made['id']}", **bearer(made["ticket"]))
    assert (await snapshot(client, other["url"]))["state"] == "running"


async def test_an_answer_to_an_sdk_is_no_stream_with_an_address(
    gateway: MakeGateway, upstream: ScriptedUpstream, lines: list[dict[str, Any]]
) -> None:
    """It is not kept, and its only reader is the one who asked, whose key opens it no second time."""
    upstream.script(LASTING)
    client = await gateway(KEYS)
    body = {"messages": [{"role": "user", "content": "hi"}], "stream": True}
    async with client.post("/v1/chat/completions", json=body, headers=bearer(TEAM)) as response:
        await response.content.readuntil(b"\n\n")
        (one,) = streams(client)
        ticket = one.tickets.issue(may_stop=True)
        for method in ("GET", "DELETE"):
            await refusal(client, method, f"/streams/{one.id}", **bearer(TEAM))
            await refusal(client, method, f"/streams/{one.id}?ticket={ticket}")
        async with client.get("/chat", headers={**EVENTS, **bearer(TEAM), "Last-Event-ID": f"{one.id}.0"}) as again:
            assert await error_of(again) == (404, "stream_not_found")
        assert not one.is_done


@pytest.mark.parametrize("method", ["HEAD", "PUT", "PATCH", "POST"])
async def test_other_methods_are_405(gateway: MakeGateway, upstream: ScriptedUpstream, method: str) -> None:
    upstream.script(LASTING)
    client = await gateway()
    made = await create(client)
    async with client.request(method, made["url"]) as response:
        assert response.status == 405
        assert response.headers["Allow"] == "DELETE, GET"
    for other in ("HEAD", "GET", "DELETE"):
        async with client.request(other, "/streams") as response:
            assert response.status == 405
            assert response.headers["Allow"] == "POST"
    assert (await snapshot(client, made["url"]))["state"] == "running"
    await upstream.until(requests=1)
    assert len(upstream.requests) == 1


# Stopping


WAYS_TO_STOP = {way: WAYS_IN[way] for way in WAYS_IN if "viewer" not in way and "a ticket and" not in way}
WAYS_TO_STOP["the ticket and another's key"] = lambda made: (made["url"], bearer(OTHERS))


@pytest.mark.parametrize("way", WAYS_TO_STOP)
async def test_who_may_stop_a_stream(gateway: MakeGateway, upstream: ScriptedUpstream, way: str) -> None:
    """The upstream is let go at once: what nobody wants is not paid for."""
    upstream.script(LASTING)
    client = await gateway(KEYS)
    made = await create(client, **bearer(TEAM))
    await upstream.until(requests=1)
    url, headers = WAYS_TO_STOP[way](made)
    async with client.delete(url, headers=headers) as response:
        assert (response.status, await response.read()) == (204, b"")
    await upstream.until(left=1, within=1)
    await eventually(lambda: is_at_rest(client), within=1)
    assert (await snapshot(client, made["url"]))["end"]["reason"] == "stopped"


@pytest.mark.parametrize("way", [way for way in WAYS_IN if "viewer" in way])
async def test_a_viewers_ticket_does_not_stop(gateway: MakeGateway, upstream: ScriptedUpstream, way: str) -> None:
    upstream.script(stream(delta("a"), Pause(0.2), delta("b"), finish(), DONE))
    client = await gateway(KEYS)
    made = await create(client, **bearer(TEAM))
    watching = asyncio.create_task(watched(client, made["url"]))
    url, headers = WAYS_IN[way](made)
    await refusal(client, "DELETE", url, **headers)
    answer = await watching
    assert (answer.text, answer.end["reason"]) == ("ab", "complete")


@pytest.mark.inside
async def test_every_viewer_is_told_that_it_was_stopped(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """Whatever it looks at, and the one who asked as well: the end comes last, and there is no failure."""
    upstream.script(stream(event(chunk(reasoning_content="hm")), delta("a"), Stall()))
    client = await gateway()
    async with client.get("/chat?q=hi", headers=EVENTS) as first:
        start = await start_of(first)
        url = f"/streams/{start['stream']}?ticket={start['ticket']}"
        more = [f"{url}&reasoning=1", f"{url}&format=json"]
        watching = [asyncio.create_task(watched(client, other)) for other in more]
        one = held(client, start["stream"])
        await eventually(lambda: one.viewers == 3 and one.log.last == 2)
        assert await stop(client, url) == 204
        answers = [Answer(await first.read()), *await asyncio.gather(*watching)]
    assert [answer.end["reason"] for answer in answers] == ["stopped"] * 3
    assert len({str(answer.end) for answer in answers}) == 1
    assert not any(answer.data("failure") for answer in answers)
    assert [answer.data("message") for answer in answers] == [["a"], ["a"], ['{"content":"a"}']]
    assert [answer.data("reasoning") for answer in answers] == [[], ["hm"], []]


async def test_a_reader_of_text_is_not_told_that_a_stopped_answer_is_whole(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    """Its body breaks off, or, where it had not begun, is a status."""
    upstream.script(LASTING, [Stall()])
    client = await gateway()
    made = await create(client)
    async with client.get(made["url"], headers=TEXT) as response:
        assert await response.content.readany() == b"a"
        await stop(client, made["url"])
        with pytest.raises(Exception, match="payload is not completed"):
            await response.read()
    made = await create(client)
    reading = asyncio.create_task(client.get(made["url"], headers=TEXT))
    await upstream.until(requests=2)
    await stop(client, made["url"])
    assert await error_of(await reading) == (409, "stopped")


async def test_stopping_what_has_ended_changes_nothing(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """Neither the second time nor after an answer that is whole; and it is no error."""
    upstream.script(LASTING, OK)
    client = await gateway()
    stopped = await create(client)
    await upstream.until(requests=1)
    assert await stop(client, stopped["url"]) == 204
    whole = await create(client)
    await watched(client, whole["url"])
    for made, reason in ((stopped, "stopped"), (whole, "complete")):
        before = await snapshot(client, made["url"])
        assert await stop(client, made["url"]) == 204
        assert await stop(client, made["url"]) == 204
        assert await snapshot(client, made["url"]) == before
        assert before["end"]["reason"] == reason
    assert upstream.left == 1


async def test_stopping_before_the_upstream_answered(
    gateway: MakeGateway, upstream: ScriptedUpstream, lines: list[dict[str, Any]]
) -> None:
    upstream.script([Stall()])
    client = await gateway()
    made = await create(client)
    await upstream.until(requests=1)
    assert await stop(client, made["url"]) == 204
    await upstream.until(left=1, within=1)
    answer = await watched(client, made["url"])
    assert [event.type for event in answer.events] == ["start", "end"]
    assert answer.end == {
        "reason": "stopped",
        "finish_reason": None,
        "model": None,
        "usage": None,
        "stream": made["id"],
        "attempts": 1,
        "receipt": EMPTY,
    }
    (end,) = [line["stream"] for line in lines if line.get("stream", {}).get("end")]
    assert "output_tokens" not in end


async def test_stopping_at_once(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """Before anything of it has happened: whatever the moment, it ends once, and nothing runs on."""
    upstream.script(LASTING)
    client = await gateway()
    for _ in range(10):
        made = await create(client)
        assert await stop(client, made["url"]) == 204
        assert (await watched(client, made["url"])).end["reason"] == "stopped"
    await eventually(lambda: is_at_rest(client) and upstream.playing == 0)


async def test_what_a_stopped_answer_took_is_estimated(
    gateway: MakeGateway, upstream: ScriptedUpstream, lines: list[dict[str, Any]]
) -> None:
    """Four bytes to a token, of the prompt and of what was said until then; the limit is charged that much."""
    upstream.script(stream(delta("x" * 400), Stall()))
    client = await gateway(KEYS.replace('name = "team"', 'name = "team"\ntokens_per_minute = 10_000'))
    made = await create(client, {"question": "y" * 80}, **bearer(TEAM))
    await eventually(lambda: held(client, made["id"]).log.last == 1)
    await stop(client, made["url"])
    await eventually(lambda: any(line.get("stream", {}).get("end") for line in lines))
    (end,) = [line["stream"] for line in lines if line.get("stream", {}).get("end")]
    assert end["end"] == "stopped"
    assert (end["input_tokens"], end["output_tokens"], end["tokens_estimated"]) == (20, 100, True)
    await eventually(lambda: is_at_rest(client))
    async with client.post("/streams", json={"question": "hi"}, headers=bearer(TEAM)) as response:
        assert response.headers["x-ratelimit-remaining-tokens"] == str(10_000 - 120 - 1 - 256)


async def test_one_who_asked_for_json_is_told_that_it_was_stopped(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script(LASTING)
    client = await gateway()
    key = {"Idempotency-Key": "a-key-of-sufficient-length"}
    asking = asyncio.create_task(client.get("/chat?q=hi", headers=key))
    await upstream.until(requests=1)
    made = await create(client, **key)
    assert await stop(client, made["url"]) == 204
    assert await error_of(await asking) == (409, "stopped")
    assert len(upstream.requests) == 1


# Whose page


FOREIGN = [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
async def test_fault_80_a_foreign_page_neither_starts_nor_reads_nor_stops(
    gateway: MakeGateway, upstream: ScriptedUpstream, headers: dict[str, str]
) -> None:
    """Whatever ticket it holds, and whether the stream is there or not."""
    upstream.script(LASTING)
    client = await gateway()
    made = await create(client)
    await upstream.until(requests=1)
    for method, url in [("POST", "/streams"), ("GET", made["url"]), ("DELETE", made["url"]), ("GET", "/streams/x")]:
        async with client.request(method, url, headers=headers) as response:
            assert await error_of(response) == (403, "origin_not_allowed")
    assert (await snapshot(client, made["url"]))["state"] == "running"
    assert len(upstream.requests) == 1


async def test_a_prefetch_neither_starts_nor_reads_nor_stops(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(LASTING)
    client = await gateway()
    made = await create(client)
    await upstream.until(requests=1)
    for method, url in [("POST", "/streams"), ("GET", made["url"]), ("DELETE", made["url"])]:
        async with client.request(method, url, headers={"Sec-Purpose": "prefetch;prerender"}) as response:
            assert await error_of(response) == (403, "prefetch_not_allowed")
    assert (await snapshot(client, made["url"]))["state"] == "running"
    assert len(upstream.requests) == 1


async def test_fault_79_a_page_of_another_origin_that_is_allowed(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    """Its browser lets it stop, authorize itself and name its request, and read where the stream is."""
    upstream.script(LASTING)
    client = await gateway('[server]\ncors_origins = ["https://app.example"]')
    mine = {"Origin": "https://app.example", "Sec-Fetch-Site": "cross-site"}
    asked = {"Access-Control-Request-Headers": "authorization,idempotency-key,content-type,last-event-id"}
    for path, method in (("/streams", "POST"), ("/streams/x", "GET"), ("/streams/x", "DELETE")):
        preflight = {**mine, **asked, "Access-Control-Request-Method": method}
        async with client.options(path, headers=preflight) as response:
            assert response.status == 204
            assert response.headers["Access-Control-Allow-Origin"] == "https://app.example"
            assert method in response.headers["Access-Control-Allow-Methods"].split(", ")
            allowed = response.headers["Access-Control-Allow-Headers"].lower().split(", ")
            assert set(asked["Access-Control-Request-Headers"].split(",")) <= set(allowed)
    async with client.post("/streams", json={"question": "hi"}, headers=mine) as response:
        assert response.status == 201
        assert response.headers["Access-Control-Allow-Origin"] == "https://app.example"
        assert "Location" in response.headers["Access-Control-Expose-Headers"].split(", ")
        made = await response.json()
    async with client.get(made["url"], headers={**mine, **EVENTS}) as response:
        assert response.headers["Access-Control-Allow-Origin"] == "https://app.example"
    async with client.delete(made["url"], headers=mine) as response:
        assert response.status == 204
        assert response.headers["Access-Control-Allow-Origin"] == "https://app.example"


# The log


async def test_fault_81_no_ticket_is_in_any_line_of_the_log(
    gateway: MakeGateway, upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    """However it was sent, and whatever came of it. (That the search would find one is in `test_overheard.py`.)"""
    caplog.set_level(logging.DEBUG)
    upstream.script(LASTING, stream(delta("a"), b"data: {oops\n\n", finish(), DONE), stream(delta("a")))
    client = await gateway(f'{KEYS}[server]\npublic_url = "https://chat.example"')
    made = await create(client, **bearer(TEAM))
    address, ticket = f"/streams/{made['id']}", made["ticket"]
    for url, headers in [
        (f"{address}?ticket={ticket}", {}),
        (address, bearer(ticket)),
        (address, api_key(ticket)),
        (address, bearer(TEAM) | api_key(ticket)),
        (f"/streams/{'A' * 22}?ticket={ticket}", {}),
        (f"{address}?ticket={ticket}&ticket={ticket}", {}),
        (f"{address}?ticket={ticket}&format=xml", EVENTS),
        (f"/chat?ticket={ticket}", bearer(TEAM)),
        (f"/v1/models?ticket={ticket}", bearer(ticket)),
        (f"{address}?ticket={ticket}", {"Referer": f"https://chat.example/?ticket={ticket}"}),
    ]:
        async with client.get(url, headers=headers) as response:
            await response.read()
    await stop(client, f"{address}?ticket={ticket}")
    for _ in range(2):
        async with client.get("/chat?q=hi", headers={**EVENTS, **bearer(TEAM)}) as response:
            await response.read()
    records = [record for record in caplog.records if record.name == "gateway.access"]
    assert len(records) == 15  # fourteen requests, and the end of the stream that outlived its own
    assert ticket not in caplog.text
    assert ticket_in(made["viewer_url"]) not in caplog.text
