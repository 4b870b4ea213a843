"""A client of two gateways that share a store: it asks at the first one, and comes back at the second."""

from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

Client = TestClient[web.Request, web.Application]


class Across(Client):
    """What a test sees of the inside is that of the first gateway, which produces all streams."""

    def __init__(self, first: TestServer, second: Client) -> None:
        super().__init__(first)
        self._second = second

    def port_for(self, request: bytes) -> int | None:
        """That of the second gateway for a request that comes back, or that names a stream."""
        head = request.partition(b"\r\n\r\n")[0].lower()
        comes_back = b"last-event-id" in head or b"last_event_id=" in head or b"lasteventid=" in head
        return self._second.port if comes_back or b" /streams/" in head else self.port

    def get(self, path: Any, **fields: Any) -> Any:
        return self._second.get(path, **fields) if str(path).startswith("/streams/") else super().get(path, **fields)

    def delete(self, path: Any, **fields: Any) -> Any:
        return self._second.delete(path, **fields)
