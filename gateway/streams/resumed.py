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
    """`log` gets the events, and always an end; `failure` is there once it has ended. The owner must call `close`."""

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
        self.task = asyncio.get_running_loop().create_task(self._run())

    def interrupt(self, error: GatewayError) -> None:
        """Ends it from outside, if it has not ended."""
        self._fail(error)
        self.task.cancel()

    async def close(self) -> None:
        """Nobody reads it any more."""
        self.task.cancel()
        await asyncio.wait([self.task])
        self._attempt.abort()  # where the task has not run
        self.log.abandon()

    async def _run(self) -> None:
        self._descriptors.add_upstream()
        try:
            await self._attempt.run()
            if not self.log.ended:
                self.log.append([_END])
        except GatewayError as error:
            self._fail(error)
        except Exception:
            logger.exception("a response cannot be resumed because of an error of the gateway's own")
            self._fail(GatewayError())
        finally:
            self._attempt.abort()
            self._descriptors.drop_upstream()

    def _fail(self, error: GatewayError) -> None:
        if self.log.ended:
            return
        upstream = self._attempt.target.upstream
        logger.warning("a resumed response of upstream %s: %s", upstream.name, redact(error, upstream))
        self.failure = error.copy()
        self.log.append([Entry(Kind.FAILURE, _encode_json(error.failure())), _END])

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
