"""What an error looks like as a response, and how a long answer is read to be sent as one."""

import asyncio

import pytest

from gateway import errors
from gateway.entries import Entry, Kind
from gateway.errors import GatewayError
from gateway.handlers.replies import ENTRIES_AT_ONCE, error_response, read_all
from tests.conftest import MakeGateway
from tests.rig.clients import create
from tests.rig.inside import at_rest, held
from tests.rig.scripted_upstream import DONE, ScriptedUpstream, delta, finish, stream


@pytest.mark.parametrize(
    ("error", "value"),
    [
        (errors.UpstreamMisconfigured(), "false"),
        (errors.UpstreamTLS(), "false"),
        (errors.AnswerTooLarge(), "false"),
        (errors.IdempotencyConflict(), "false"),
        (errors.GatewayError(), "false"),
        (errors.UpstreamError(), None),
        (errors.ShuttingDown(), None),
        (errors.TotalTimeout(), None),
        (errors.RateLimited(), None),
        (errors.BodyTimeout(), None),
        (errors.NotFound(), None),
    ],
    ids=lambda value: getattr(value, "code", ""),
)
def test_clients_are_told_not_to_retry_what_they_would_retry_in_vain(error: GatewayError, value: str | None) -> None:
    """SDKs retry 409 and every status from 500 on, unless `x-should-retry` is false."""
    assert error_response(error).headers.get("X-Should-Retry") == value


async def test_a_long_answer_is_read_in_several_turns_of_the_event_loop(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    """Otherwise all other streams of the process would wait for it: for seconds, if it has many fragments of calls."""
    texts = [str(number) for number in range(3 * ENTRIES_AT_ONCE)]
    upstream.script(stream(b"".join(map(delta, texts)), finish(), DONE))
    client = await gateway()
    stream_ = held(client, (await create(client))["id"])
    await at_rest(client)
    read: list[Entry] = []
    seen: list[int] = []

    async def look() -> None:
        while len(read) < len(texts):
            seen.append(len(read))
            await asyncio.sleep(0)

    looking = asyncio.create_task(look())
    await asyncio.sleep(0)
    await read_all(stream_, read.append)
    await looking
    assert seen == [0, ENTRIES_AT_ONCE, 2 * ENTRIES_AT_ONCE]
    assert [entry.payload.decode() for entry in read if entry.kind is Kind.TEXT] == texts
