"""Access to the inside of the gateway under test: the streams that it holds, and the moment when it holds none."""

from typing import Any

from gateway.handlers.services import SERVICES
from gateway.streams.held import HeldStream
from gateway.streams.registry import Streams
from tests.conftest import Client
from tests.rig.clients import eventually


def streams(client: Client) -> Streams:
    return client.app[SERVICES].streams


def held(client: Client, stream_id: str) -> HeldStream[Any]:
    found = streams(client).find(stream_id)
    assert found is not None
    return found


def is_at_rest(client: Client) -> bool:
    return len(streams(client)) == 0


async def at_rest(client: Client) -> None:
    await eventually(lambda: is_at_rest(client))
