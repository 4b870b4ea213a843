"""Requests that are refused, with a status and a body in OpenAI's shape."""

import io
import json

import pytest

from gateway.demo import create_demo

from .conversation import PATH, asking

MESSAGES = [{"role": "user", "content": "Hello"}]


@pytest.fixture
async def client(aiohttp_client):
    return await aiohttp_client(create_demo(interval=0))


async def refusal(response, status: int) -> dict[str, str | None]:
    assert response.status == status
    body = await response.json()
    assert list(body) == ["error"]
    assert list(body["error"]) == ["message", "type", "param", "code"]
    assert body["error"]["message"]
    error: dict[str, str | None] = body["error"]
    return error


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"not json",
        b'{"messages": NaN}',
        b'{"messages": [{"role": "user", "content": "\xff"}]}',
        b'{"x":' + b"[" * 100_000,
        b"\xef\xbb\xbf{}",
    ],
)
async def test_malformed_json_is_a_400(client, body):
    async with client.post(PATH, data=body) as response:
        assert "JSON" in str((await refusal(response, 400))["message"])


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ([], None),
        ("text", None),
        (None, None),
        ({}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "Hello"}, "messages"),
        ({"messages": ["Hello"]}, "messages[0]"),
        ({"messages": [{"content": "Hello"}]}, "messages[0]"),
        ({"messages": [{"role": "robot", "content": "Hello"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": MESSAGES, "model": 5}, "model"),
        ({"messages": MESSAGES, "stream": "yes"}, "stream"),
        ({"messages": MESSAGES, "stream_options": []}, "stream_options"),
        ({"messages": MESSAGES, "max_tokens": 0}, "max_tokens"),
        ({"messages": MESSAGES, "max_tokens": 1.5}, "max_tokens"),
        ({"messages": MESSAGES, "max_completion_tokens": True}, "max_completion_tokens"),
        ({"messages": MESSAGES, "tools": {}}, "tools"),
        ({"messages": MESSAGES, "n": 2}, "n"),
    ],
)
async def test_a_body_of_the_wrong_shape_is_a_400_that_says_where(client, body, param):
    async with client.post(PATH, data=json.dumps(body)) as response:
        error = await refusal(response, 400)
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param


async def test_parameters_that_mean_nothing_to_it_are_accepted(client):
    body = asking(temperature=0.3, n=1, seed=7, user="someone", response_format={"type": "text"}, invented=True)
    async with client.post(PATH, json=body) as response:
        assert response.status == 200


@pytest.mark.parametrize("authorization", [None, "Bearer anything", "Basic eDp5"])
async def test_no_key_is_needed_and_any_is_accepted(client, authorization):
    headers = {} if authorization is None else {"Authorization": authorization}
    async with client.post(PATH, json=asking(), headers=headers) as response:
        assert response.status == 200


async def test_an_unknown_model_is_a_404(client):
    async with client.post(PATH, json=asking(model="gpt-0")) as response:
        error = await refusal(response, 404)
    assert error["code"] == "model_not_found"
    assert "gpt-0" in str(error["message"])
    async with client.get("/v1/models/gpt-0") as response:
        assert (await refusal(response, 404))["code"] == "model_not_found"


async def test_an_unknown_path_is_a_404(client):
    async with client.post("/v1/images", json={}) as response:
        assert (await refusal(response, 404))["message"] == "Invalid URL (POST /v1/images)."


async def test_a_wrong_method_is_a_405_that_says_which_is_right(client):
    async with client.get(PATH) as response:
        await refusal(response, 405)
        assert response.headers["Allow"] == "POST"


async def test_a_body_too_large_is_a_413(client):
    async with client.post(PATH, data=io.BytesIO(b" " * (4 << 20) + b"{}")) as response:
        await refusal(response, 413)


async def test_a_body_with_a_picture_in_it_is_not_too_large(client):
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 3_000_000}}
    body = json.dumps(asking(messages=[{"role": "user", "content": [picture]}])).encode()
    async with client.post(PATH, data=io.BytesIO(body)) as response:
        assert response.status == 200
