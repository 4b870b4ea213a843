"""`X-Gateway-Attempts` is on each answer whose header waited for the answer; on `/v1`, headers wait for content."""

import asyncio

import pytest

from tests.faults.client import SURFACES
from tests.faults.rig import gateway
from tests.faults.scenario import HELLO, WELL
from tests.rig.clients import EVENTS, TEXT, remains
from tests.rig.scripted_upstream import DONE, Send, Until, answer, chunk, delta, event, finish, head, stream
from tests.rig.wire import HEARTBEAT, Wire, post

ASKED = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize("surface", ["chat JSON", "v1", "v1 whole"])
@pytest.mark.parametrize("failures", [0, 1, 2])
async def test_a_header_that_waited_tells_the_attempts(failures: int, surface: str) -> None:
    async with gateway() as rig:
        rig.one.script(*[answer(500, {})] * failures, WELL)
        rig.two.script(WELL)
        seen = await SURFACES[surface](rig.client)
        assert (seen.text, seen.headers["X-Gateway-Attempts"]) == (HELLO, str(failures + 1))


async def test_so_does_that_of_bare_text() -> None:
    async with gateway() as rig:
        rig.one.script(answer(500, {}), WELL)
        async with rig.client.get("/chat?q=hi&model=m", headers=TEXT) as response:
            assert (await response.text(), response.headers["X-Gateway-Attempts"]) == (HELLO, "2")


@pytest.mark.parametrize("surface", ["v1", "chat JSON", "v1 whole"])
async def test_so_does_an_error_status(surface: str) -> None:
    async with gateway() as rig:
        rig.one.script(answer(500, {}))
        rig.two.script(answer(500, {}))
        seen = await SURFACES[surface](rig.client)
        assert (seen.status, seen.headers["X-Gateway-Attempts"]) == (502, "3")


async def test_events_begin_before_it_is_known_so_the_end_tells_them() -> None:
    async with gateway() as rig:
        rig.one.script(answer(500, {}), WELL)
        seen = await SURFACES["chat"](rig.client)
        assert "X-Gateway-Attempts" not in seen.headers
        assert seen.told == 2


async def test_a_header_before_the_target_is_known_has_no_number() -> None:
    async with gateway("[stream]\nheartbeat_seconds = 0.05\n") as rig:
        go = asyncio.Event()
        rig.one.script([Until(go), *WELL])
        async with rig.client.post("/v1/chat/completions", json=ASKED) as response:
            assert "X-Gateway-Attempts" not in response.headers
            go.set()
            assert (await response.read()).startswith(HEARTBEAT)


# When the header of /v1 comes

SILENT_STARTS = {
    "a header": Send(head(200, Transfer_Encoding="chunked")),
    "a role": stream(event(chunk(role="assistant", content="")))[1],
    "a comment": stream(b": processing\n\n")[1],
}


async def test_the_header_waits_for_the_first_content() -> None:
    async with gateway() as rig:
        steps = [asyncio.Event() for _ in range(3)]
        first, role, comment = SILENT_STARTS.values()
        rest = stream(delta(HELLO), finish(), DONE)[1:]
        script = [first, Until(steps[0]), role, Until(steps[1]), comment, Until(steps[2]), *rest]
        rig.one.script(script)
        wire = await Wire.open(rig.client, post("/v1/chat/completions", ASKED))
        reading = asyncio.create_task(wire.head())
        await rig.one.until(requests=1)
        for step in steps:
            await remains(lambda: not reading.done(), seconds=0.05)
            step.set()
        assert (await reading).status == 200
        response = await wire.whole()
        assert response.body.endswith(b"data: [DONE]\n\n")


async def test_the_role_of_a_target_that_failed_is_not_passed_on() -> None:
    role = event({**chunk(role="assistant", content=""), "id": "SECRET"})
    async with gateway() as rig:
        rig.one.script(stream(role, event({"error": {"message": "no"}})))
        rig.two.script(WELL)
        seen = await SURFACES["v1"](rig.client)
        assert (seen.text, b"SECRET" in seen.raw) == (HELLO, False)
        assert seen.raw == b"".join([delta("Hello"), delta(", world"), finish(), DONE])


async def test_events_of_chat_begin_at_once() -> None:
    async with gateway() as rig:
        go = asyncio.Event()
        rig.one.script([Until(go), *WELL])
        async with rig.client.get("/chat?q=hi&model=m", headers=EVENTS) as response:
            assert b"event: start" in await response.content.readuntil(b"\n\n")
            go.set()
            await response.read()
