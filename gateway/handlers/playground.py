"""The playground: a page to ask from, which shows how the gateway handles failures.

Its files are a fixed table that is read at import, so names in requests never reach the file system. The page fetches
nothing from other hosts. Its policy makes the browser enforce that, and refuse scripts and markup in answers.
"""

from importlib.resources import files

from aiohttp import web

from gateway.admission.admit import is_trusted
from gateway.config import Assistant
from gateway.endpoints import Endpoint
from gateway.errors import NotFound
from gateway.handlers.reading import authenticate
from gateway.handlers.replies import json_response
from gateway.handlers.services import EXCHANGE
from gateway.upstream.routing import default_model

_CONTENT_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_ASSETS = (
    "advice.js",
    "answer.css",
    "blocks.js",
    "client.js",
    "composer.css",
    "conversation.js",
    "demo.js",
    "element.js",
    "events.js",
    "extra.js",
    "icon.svg",
    "inline.js",
    "key.js",
    "markdown.js",
    "measures.js",
    "memory.js",
    "offer.js",
    "overflow.js",
    "playground.css",
    "playground.js",
    "prose.css",
    "receipt.js",
    "scroll.js",
    "states.js",
    "tabs.js",
    "takes.js",
    "turn.js",
    "verbatim.js",
)

_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data:",  # the icon, and images inside of answers; none are fetched
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",  # text never becomes markup or code by mistake
        "trusted-types 'none'",
    )
)
# The page needs none of these. It writes to the clipboard, which is not among them.
_PERMISSIONS = ", ".join(
    f"{name}=()"
    for name in (
        *("accelerometer", "camera", "display-capture", "geolocation", "gyroscope", "magnetometer", "microphone"),
        *("midi", "payment", "publickey-credentials-get", "screen-wake-lock", "usb", "xr-spatial-tracking"),
    )
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Permissions-Policy": _PERMISSIONS,
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",  # for browsers that do not know `frame-ancestors`
    "Cross-Origin-Opener-Policy": "same-origin",  # a page that opens this one gets no access to it
    "Cross-Origin-Resource-Policy": "same-origin",
}


def _read(name: str) -> bytes:
    return (files("gateway") / "playground" / name).read_bytes()


_PAGE = _read("index.html")
_FILES = {name: (_read(name), _CONTENT_TYPES["." + name.rpartition(".")[2]]) for name in _ASSETS}


async def page(request: web.Request) -> web.Response:
    return web.Response(body=_PAGE, content_type="text/html", charset="utf-8", headers=_HEADERS)


async def asset(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    if name not in _FILES:
        raise NotFound()
    body, content_type = _FILES[name]
    return web.Response(body=body, content_type=content_type, charset="utf-8", headers=_HEADERS)


async def offer(request: web.Request) -> web.Response:
    """The caller's choices: `{"models": [...], "assistants": [...], "default": ..., "key": ...}`.

    `models` are those that one can chat with.
    `default` is the model that answers if neither model nor assistant is named. `key` says whether a key would give
    access to more.
    """
    config = request[EXCHANGE].services.config
    caller = authenticate(request)
    silent = [model.name for model in config.models if Endpoint.CHAT not in model.endpoints]
    if not is_trusted(config, caller):
        public = [name for name, assistant in config.assistants.items() if assistant.public]
        return json_response({"models": [], "assistants": public, "default": None, "key": True})
    allowed = caller.key.models if caller.key is not None else []
    models = [name for name in allowed or [model.name for model in config.models] if name not in silent]
    default = config.assistants.get("default", Assistant()).model or default_model(config)
    assistants, opens = list(config.assistants), bool(config.keys) and not config.server.allow_anonymous
    return json_response({"models": models, "assistants": assistants, "default": default, "key": opens})
