"""All routes of the gateway, what each of them does, and a request for each that is answered if nothing is wrong.

A route that is not in this table fails `test_routes.py`. So a new one gets its place here, and with it all attacks.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from aiohttp import ClientResponse

from gateway.app import create_app
from gateway.config import Config
from tests.conftest import Client
from tests.rig.clients import bearer
from tests.rig.scripted_upstream import DONE, Received, Script, ScriptedUpstream, Stall, answer, delta, finish, stream

ONE, OTHER = "test-key-of-one-0123456789", "test-key-of-other-0123456789"
KEYS = f'[[keys]]\nname = "one"\nkey = "{ONE}"\n[[keys]]\nname = "other"\nkey = "{OTHER}"\n'


class What(Enum):
    ASKS = auto()  # a model, or counts for one
    READS = auto()  # an answer
    STOPS = auto()  # or deletes
    LISTS = auto()  # what one may ask
    WATCHES = auto()  # the gateway itself: for its own machine, or for those with a key or a token
    HEALTH = auto()  # for everyone
    PAGE = auto()  # the first request of a person, from wherever the person comes
    FILES = auto()  # of the page


@dataclass(frozen=True)
class Route:
    method: str
    path: str  # as the app has it
    what: What
    body: object = None
    query: str = ""

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    def filled(self, names: "Names") -> str:
        """The path and query of a request."""
        names_of = {"/streams/": names.stream, "/v1/responses/": names.response, "/playground/": "client.js"}
        name = next((name for prefix, name in names_of.items() if self.path.startswith(prefix)), "default-model")
        return re.sub(r"\{[^}]*\}", name, self.path) + self.query


@dataclass(frozen=True)
class Names:
    """What exists at the gateway, for the one who asked for it."""

    stream: str
    response: str
    ticket: str
    viewing: str  # a ticket that may only read


_CHAT = {"messages": [{"role": "user", "content": "hi"}]}

ROUTES = [
    Route("GET", "/chat", What.ASKS, query="?q=hi"),
    Route("POST", "/chat", What.ASKS, _CHAT),
    Route("POST", "/streams", What.ASKS, _CHAT),
    Route("POST", "/v1/chat/completions", What.ASKS, _CHAT),
    Route("POST", "/v1/completions", What.ASKS, {"prompt": "hi"}),
    Route("POST", "/v1/embeddings", What.ASKS, {"input": "hi"}),
    Route("POST", "/v1/moderations", What.ASKS, {"input": "hi"}),
    Route("POST", "/v1/rerank", What.ASKS, {"query": "hi", "documents": ["a"]}),
    Route("POST", "/v1/messages", What.ASKS, {**_CHAT, "max_tokens": 9}),
    Route("POST", "/v1/messages/count_tokens", What.ASKS, {**_CHAT, "max_tokens": 9}),
    Route("POST", "/v1/responses", What.ASKS, {"input": "hi"}),
    Route("GET", "/streams/{id}", What.READS),
    Route("GET", "/v1/responses/{id}", What.READS),
    Route("DELETE", "/streams/{id}", What.STOPS),
    Route("POST", "/v1/responses/{id}/cancel", What.STOPS),
    Route("DELETE", "/v1/responses/{id}", What.STOPS),
    Route("GET", "/v1/models", What.LISTS),
    Route("GET", "/v1/models/{id}", What.LISTS),
    Route("GET", "/playground/offer.json", What.LISTS),
    Route("GET", "/metrics", What.WATCHES),
    Route("GET", "/doctor", What.WATCHES, query="?events=2&pace_ms=10"),
    Route("GET", "/chat/doctor", What.WATCHES, query="?events=2&pace_ms=10"),
    Route("GET", "/v1/doctor", What.WATCHES, query="?events=2&pace_ms=10"),
    Route("GET", "/healthz", What.HEALTH),
    Route("GET", "/readyz", What.HEALTH),
    Route("GET", "/", What.PAGE),
    Route("GET", "/playground/{name}", What.FILES),
]

GUARDED = [route for route in ROUTES if route.what not in (What.HEALTH, What.PAGE)]
"""Those that a foreign page, a rebound name or a proxy does not reach."""

ASKING = [route for route in ROUTES if route.what is What.ASKS]
BY_ID = [route for route in ROUTES if route.what in (What.READS, What.STOPS)]


def of_the_app() -> Iterator[tuple[str, str]]:
    """The method and path of each route that the app has. A HEAD that aiohttp adds is answered as its GET."""
    for route in create_app(Config()).router.routes():
        if route.resource is not None and route.method != "HEAD":
            yield route.method, re.sub(r":[^}]*", "", route.resource.canonical)


# An upstream for all of them

_CHUNK = {"id": "c", "object": "chat.completion", "model": "m-1"}
_VALUES = {
    "/v1/completions": {"choices": [{"index": 0, "text": "a", "finish_reason": "stop"}]},
    "/v1/embeddings": {"data": [{"index": 0, "embedding": [0.5]}]},
    "/v1/moderations": {"results": [{"flagged": False}]},
    "/v1/rerank": {"results": [{"index": 0, "relevance_score": 0.5}]},
    "/v1/models": {"data": [{"id": "default-model", "object": "model"}]},
}
LASTING = "an answer that lasts"


def answers(request: Received) -> Any:
    """A short answer at every endpoint. One to the question LASTING never ends."""
    path = request.path.partition("?")[0]
    if path in _VALUES:
        return answer(200, _VALUES[path])
    if LASTING.encode() in request.body:
        return stream(delta("a"), Stall())
    if not json.loads(request.body).get("stream"):
        return answer(200, {**_CHUNK, "choices": [{"index": 0, "message": {"content": "a"}, "finish_reason": "stop"}]})
    return stream(delta("a"), finish(), DONE)


ANSWERS: Script = answers


async def begun(client: Client, upstream: ScriptedUpstream, key: str = "") -> Names:
    """Starts a stream and a response that last."""
    headers = bearer(key) if key else {}
    before = len(upstream.requests)
    async with client.post("/streams", json={"question": LASTING}, headers=headers) as response:
        assert response.status == 201, await response.text()
        made = await response.json()
    asked = {"input": LASTING, "background": True, "model": "default-model"}
    async with client.post("/v1/responses", json=asked, headers=headers) as response:
        assert response.status == 200, await response.text()
        name = (await response.json())["id"]
    await upstream.until(requests=before + 2)
    return Names(made["id"], name, made["ticket"], made["viewer_url"].partition("ticket=")[2])


async def send(client: Client, route: Route, names: Names, *, query: str = "", **headers: str) -> ClientResponse:
    """Sends the request, and reads the response, which a stream that lasts does not end: its start is enough."""
    path = route.filled(names)
    path += ("&" if "?" in path else "?") + query if query else ""
    headers = {"Accept": "application/json", **headers}
    body = None if route.body is None else json.dumps(route.body).encode()
    if body is not None:
        headers = {"Content-Type": "application/json", **headers}
    response = await client.request(route.method, path, data=body, headers=headers)
    await response.read()
    return response


async def code_of(response: ClientResponse) -> tuple[int, str]:
    """The status and the code of an error, which Anthropic's form has not."""
    error = (await response.json())["error"]
    return response.status, error.get("code", "")


async def is_running(client: Client, names: Names, key: str = "") -> bool:
    """Whether both answers that were begun still run."""
    headers = bearer(key) if key else {}
    async with client.get(f"/streams/{names.stream}?ticket={names.ticket}") as response:
        stream_runs = (await response.json())["state"] == "running"
    async with client.get(f"/v1/responses/{names.response}", headers=headers) as response:
        return stream_runs and (await response.json())["status"] in ("queued", "in_progress")
