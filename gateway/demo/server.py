"""The HTTP side of the demo: its routes, its refusals, and the choice of a script for a request."""

import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from uuid import uuid4

import msgspec
from aiohttp import web

from .completion import Completion, Tally, TextCompletion
from .errors import ApiError, from_http, unavailable, unknown_model
from .models import MODELS, Model
from .pace import Lifelike, Pace, Steady
from .playback import Playback
from .request import ChatRequest, decode, decode_chat, decode_text
from .values import EmbeddingsRequest, ModerationRequest, RerankRequest, embeddings, moderation, ranks

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_MAX_BODY = 4 << 20  # bytes: enough for a long conversation with a picture, and little for the memory of a laptop


def create_demo(*, tokens: int | None = None, interval: float | None = None) -> web.Application:
    """The demo upstream.

    `tokens` is the length of every answer; without it, each text has its own length. `interval` is the time in seconds
    between two tokens; with 0, the demo sends as fast as the client reads. Without it, the pace is realistic.
    """
    if tokens is not None and tokens < 1:
        raise ValueError("tokens must be at least 1")
    if interval is not None and not (0 <= interval < math.inf):
        raise ValueError("interval must be a number of seconds, 0 or more")
    return Demo(tokens, interval).app()


@dataclass(frozen=True, slots=True)
class Demo:
    """The settings of a demo, its handlers, and how often each model was asked."""

    tokens: int | None
    interval: float | None
    now: Callable[[], float] = time.time
    longest: float = 3600.0  # seconds for one answer: no client waits longer, and one that never leaves is cut
    asked: Counter[str] = field(default_factory=Counter)

    def app(self) -> web.Application:
        app = web.Application(client_max_size=_MAX_BODY, middlewares=[_refuse])
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/completions", self._text)
        app.router.add_post("/v1/embeddings", self._embeddings)
        app.router.add_post("/v1/moderations", self._moderations)
        app.router.add_post("/v1/rerank", self._ranks)
        app.router.add_get("/v1/models", self._list)
        app.router.add_get("/v1/models/{name}", self._show)
        return app

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        chat = decode_chat(await request.read())
        return await self._answer(request, chat, Completion, f"chatcmpl-{uuid4().hex}")

    async def _text(self, request: web.Request) -> web.StreamResponse:
        chat = decode_text(await request.read())
        return await self._answer(request, chat, TextCompletion, f"cmpl-{uuid4().hex}")

    async def _answer(
        self, request: web.Request, chat: ChatRequest, kind: type[Completion], answer_id: str
    ) -> web.StreamResponse:
        playback = Playback(
            request=request,
            completion=kind(answer_id, int(self.now()), chat.model, chat.wants_usage),
            steps=self._model(chat.model).script(chat, self.tokens),
            pace=self._pace(),
            tally=Tally(chat.prompt_tokens, chat.limit),
            longest=self.longest,
        )
        return await playback.run(stream=bool(chat.stream))

    async def _embeddings(self, request: web.Request) -> web.Response:
        asked = decode(await request.read(), EmbeddingsRequest)
        self._model(asked.model)
        return _json(embeddings(asked))

    async def _moderations(self, request: web.Request) -> web.Response:
        asked = decode(await request.read(), ModerationRequest)
        self._model(asked.model)
        return _json({"id": f"modr-{uuid4().hex}", **moderation(asked)})

    async def _ranks(self, request: web.Request) -> web.Response:
        asked = decode(await request.read(), RerankRequest)
        self._model(asked.model)
        return _json({"id": f"rerank-{uuid4().hex}", **ranks(asked)})

    def _model(self, name: str) -> Model:
        """The model, which counts this request. Raises ApiError if the model fails now."""
        model = _find(name)
        self.asked[name] += 1
        if self.asked[name] % (model.failures + 1):
            raise unavailable()
        return model

    def _pace(self) -> Pace:
        # Every answer has the same seed, so that the same request gives the same stream.
        return Lifelike(Random(0)) if self.interval is None else Steady(self.interval)

    async def _list(self, request: web.Request) -> web.Response:
        return _json({"object": "list", "data": [_described(name) for name in MODELS]})

    async def _show(self, request: web.Request) -> web.Response:
        return _json(_described(request.match_info["name"]))


@web.middleware
async def _refuse(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Sends every refusal in OpenAI's format. If the client has left, there is no traceback and no answer."""
    try:
        return await handler(request)
    except ApiError as error:
        return error.response()
    except web.HTTPException as error:
        return from_http(error, request).response()
    except ConnectionError:
        return web.Response()  # nobody receives it, but aiohttp expects one


def _find(name: str) -> Model:
    if name not in MODELS:
        raise unknown_model(name)
    return MODELS[name]


def _described(name: str) -> dict[str, str | int]:
    model = _find(name)
    return {"id": name, "object": "model", "created": _CREATED, "owned_by": "demo", "description": model.description}


_CREATED = 1767225600  # 2026-01-01; OpenAI's format has a date, and nobody uses this one


def _json(value: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")
