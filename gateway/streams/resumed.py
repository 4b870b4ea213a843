"""The events of a response that an upstream has made, on their way to a client that comes back for them.

No target is chosen, nothing is recorded, and no tokens are counted: all of that was done for the request that created
the response.
"""

import asyncio
import logging
from collections.abc import Callable

import msgspec

from gateway.config import Timeouts
from gateway.entries import Entry, Kind
from gateway.errors import GatewayError
from gateway.log.views import View
from gateway.log.window import Window
from gateway.observe.spans import AttemptSpan
from gateway.streams.attempt import Attempt
from gateway.streams.dependencies import Dependencies
from gateway.upstream.client import UpstreamClient, UpstreamResponse
from gateway.upstream.dialects.completion import Outcome
from gateway.upstream.dialects.openai import Decoder
from gateway.upstream.redaction import redact
from gateway.upstream.routing import Target

logger = logging.getLogger(__name__)

_END = Entry(Kind.END, b"{}")

_encode_json = msgspec.json.Encoder().encode


class Resumed:
    """`log` gets the events, and always an end. `run` it in a task; `failure` is there once the log has ended."""

    def __init__(
        self,
        target: Target,
        path: str,
        decoder: Decoder,
        view: View,
        *,
        dependencies: Dependencies,
        count: Callable[[int], None],
    ) -> None:
        """`path` is below the target's endpoint. `count` is told of the bytes that the log holds."""
        self._descriptors = dependencies.descriptors
        self.log = Window(view, count=count)
        self.failure: GatewayError | None = None
        self.has_begun = False
        total = target.timeouts.total  # silence says nothing: a response may wait its turn
        self._attempt = Attempt(
            self,
            self.log,
            target,
            b"",
            decoder,
            client=_Asking(dependencies.client, path),
            limits=dependencies.config.stream,
            timeouts=Timeouts(target.timeouts.connect, total, total, total),
            asked_at=asyncio.get_running_loop().time(),
        )

    async def run(self) -> None:
        entries = [_END]
        self._descriptors.add_upstream()
        try:
            await self._attempt.run()
        except GatewayError as error:
            entries.insert(0, self._failed(error))
        except Exception:
            logger.exception("a response cannot be resumed because of an error of the gateway's own")
            entries.insert(0, self._failed(GatewayError()))
        finally:
            self._attempt.abort()
            self._descriptors.drop_upstream()
        self.log.append(entries)

    def _failed(self, error: GatewayError) -> Entry:
        upstream = self._attempt.target.upstream
        logger.warning("a resumed response of upstream %s: %s", upstream.name, redact(error, upstream))
        self.failure = error.copy()
        return Entry(Kind.FAILURE, _encode_json(error.failure()))

    # See Owner

    def begin(self, attempt: Attempt) -> bool:
        self.has_begun = True
        return True

    def outcome(self) -> Outcome:
        raise NotImplementedError  # only for one JSON body that comes as events


class _Asking:
    """The client, for an attempt that posts nothing."""

    def __init__(self, client: UpstreamClient, path: str) -> None:
        self._client = client
        self._path = path

    async def open(
        self, target: Target, body: bytes, *, accept: str, span: AttemptSpan | None = None
    ) -> UpstreamResponse:
        return await self._client.ask_about(target, "GET", self._path, accept=accept)
