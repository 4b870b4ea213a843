"""What the gateway serves of the playground, without a browser."""

from importlib.resources import files

import aiohttp
import pytest

from gateway.config import Assistant

from .conftest import Serve

pytestmark = pytest.mark.asyncio(loop_scope="session")

FOLDER = files("gateway") / "playground"


async def test_the_page_may_talk_to_nobody_but_the_gateway(gateway: str):
    async with aiohttp.request("GET", f"{gateway}/") as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/html; charset=utf-8"
        policy = dict(part.split(" ", 1) for part in response.headers["Content-Security-Policy"].split("; "))
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "connect-src": "'self'",
        "img-src": "'self' data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }


async def test_every_response_of_it_is_guarded_and_fresh(gateway: str):
    for path in ("/", "/playground/client.js", "/playground/icon.svg"):
        async with aiohttp.request("GET", gateway + path) as response:
            assert response.headers["Cache-Control"] == "no-store"
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert response.headers["Referrer-Policy"] == "no-referrer"
            assert response.headers["Cross-Origin-Resource-Policy"] == "same-origin"
            assert response.headers["Cross-Origin-Opener-Policy"] == "same-origin"
            assert response.headers["X-Frame-Options"] == "DENY"
            allowed = dict(part.split("=") for part in response.headers["Permissions-Policy"].split(", "))
            assert {"camera", "microphone", "geolocation", "payment", "usb"} <= allowed.keys()
            assert set(allowed.values()) == {"()"}
            assert "Content-Security-Policy" in response.headers


async def test_head_is_answered_without_a_body(gateway: str):
    async with aiohttp.request("HEAD", f"{gateway}/") as response:
        assert response.status == 200
        assert await response.read() == b""


@pytest.mark.parametrize(
    ("ending", "content_type"),
    [("js", "text/javascript"), ("css", "text/css"), ("svg", "image/svg+xml")],
)
async def test_every_file_is_served_as_what_it_is(gateway: str, ending: str, content_type: str):
    names = [file.name for file in FOLDER.iterdir() if file.name.endswith("." + ending)]
    assert names
    for name in names:
        async with aiohttp.request("GET", f"{gateway}/playground/{name}") as response:
            assert response.status == 200, name
            assert response.headers["Content-Type"] == f"{content_type}; charset=utf-8"
            assert await response.read() == (FOLDER / name).read_bytes()


@pytest.mark.parametrize("name", ["index.html", "missing.js", "..%2Fapp.py", "%2e%2e%2fapp.py", "client.js%00", ""])
async def test_nothing_else_is(gateway: str, name: str):
    async with aiohttp.request("GET", f"{gateway}/playground/{name}") as response:
        assert response.status == 404
        assert (await response.json())["error"]["code"] == "not_found"


async def test_a_page_of_another_origin_gets_nothing(gateway: str):
    for path in ("/playground/client.js", "/playground/offer.json"):
        async with aiohttp.request("GET", gateway + path, headers={"Origin": "https://example.com"}) as response:
            assert response.status == 403


async def test_the_offer_names_models_and_assistants(serve: Serve):
    assistants = {"default": Assistant(model="demo-slow"), "tutor": Assistant(system=["Explain."])}
    address = await serve(assistants=assistants)
    async with aiohttp.request("GET", f"{address}/playground/offer.json") as response:
        assert response.headers["Content-Type"] == "application/json"
        offer = await response.json()
    assert offer["models"][:2] == ["demo", "demo-flaky"]
    assert offer["assistants"] == ["default", "tutor"]
    assert offer["default"] == "demo-slow"


async def test_the_offer_of_a_gateway_that_takes_any_name(serve: Serve):
    for default_model in (None, "small-1"):
        address = await serve(models=[], default_model=default_model)
        async with aiohttp.request("GET", f"{address}/playground/offer.json") as response:
            assert await response.json() == {"models": [], "assistants": [], "default": default_model, "key": False}
