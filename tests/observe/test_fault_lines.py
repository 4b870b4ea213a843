"""What the log says of faults that others make: one line for each, with the request's id, and no traceback."""

import logging

import pytest

from tests.conftest import MakeGateway
from tests.rig.clients import EVENTS, access_records
from tests.rig.inside import at_rest
from tests.rig.scripted_upstream import DONE, Close, Reset, Script, ScriptedUpstream, Stall, answer, delta, stream

FAULTS: dict[str, Script] = {
    "a refusal": answer(500, {"error": {"message": "no"}}),
    "a refused key": answer(401, {"error": {"message": "no"}}),
    "a limit": answer(429, {"error": {"message": "no"}}),
    "a web page": answer(200, b"<html>", "text/html"),
    "no HTTP": [Close()],
    "a reset": [Reset()],
    "half an answer": stream(delta("Hel")),
    "an answer that is reset": stream(delta("Hel"), Reset()),
    "an error within": stream(delta("Hel"), b'data: {"error": {"message": "no"}}\n\n', DONE),
}
BODIES: dict[str, dict[str, object]] = {
    "/chat": {"question": "hi"},
    "/streams": {"question": "hi"},
    "/v1/chat/completions": {"messages": []},
}


@pytest.mark.parametrize("path", list(BODIES))
@pytest.mark.parametrize("fault", list(FAULTS))
async def test_a_fault_of_an_upstream_is_one_line_with_the_requests_id(
    gateway: MakeGateway, upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture, path: str, fault: str
) -> None:
    upstream.script(FAULTS[fault])
    client = await gateway()
    with caplog.at_level(logging.INFO):
        headers = {**EVENTS, "X-Request-ID": "the-request-7"}
        async with client.post(path, json=BODIES[path] | {"stream": True}, headers=headers) as response:
            await response.read()
        await at_rest(client)
    (line,) = lines = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.levelname for record in lines] == ["WARNING"]
    assert line.getMessage().startswith("request the-request-7: stream ")
    assert ": upstream up: " in line.getMessage()
    assert "\n" not in line.getMessage()
    assert not line.exc_info


@pytest.mark.parametrize("path", ["/chat", "/v1/chat/completions"])
async def test_a_client_that_leaves_is_no_fault(
    gateway: MakeGateway, upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    """The line of its request is all."""
    upstream.script(stream(delta("Hel"), Stall()))
    client = await gateway('[stream]\non_disconnect = "cancel"\n')
    with caplog.at_level(logging.INFO):
        async with client.post(path, json=BODIES[path] | {"stream": True}, headers=EVENTS) as response:
            await response.content.readuntil(b"Hel")
            response.close()
        await upstream.until(left=1)
        await at_rest(client)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert len(access_records(caplog)) == 1
