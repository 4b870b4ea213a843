"""The errors of the demo in OpenAI's format: `{"error": {"message", "type", "param", "code"}}`."""

from collections.abc import Mapping

import msgspec
from aiohttp import web


class ErrorBody(msgspec.Struct, frozen=True):
    message: str
    type: str = "invalid_request_error"
    param: str | None = None
    code: str | None = None


class ApiError(Exception):
    """Ends a request with `status` and `body`. It is raised only before the first byte of an answer."""

    def __init__(self, status: int, body: ErrorBody, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(body.message)
        self.status = status
        self.body = body
        self.headers = headers

    def response(self) -> web.Response:
        return web.Response(
            status=self.status,
            body=encode_error(self.body),
            headers=self.headers,
            content_type="application/json",
        )


def encode_error(body: ErrorBody) -> bytes:
    return msgspec.json.encode({"error": body})


SERVER_ERROR = ErrorBody("The demo failed, as its model demo-error does.", "server_error", code="demo_error")


def rate_limited() -> ApiError:
    body = ErrorBody("Rate limit reached, as it always is for demo-429.", "requests", code="rate_limit_exceeded")
    headers = {
        "retry-after": "1",
        "x-ratelimit-limit-requests": "1",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "1s",
    }
    return ApiError(429, body, headers=headers)


def unavailable() -> ApiError:
    body = ErrorBody("The demo is overloaded, as demo-flaky often is.", "server_error", code="overloaded")
    return ApiError(503, body)


def unknown_model(name: str) -> ApiError:
    message = f"The model `{name}` does not exist; GET /v1/models lists those that do."
    return ApiError(404, ErrorBody(message, param="model", code="model_not_found"))


def from_http(error: web.HTTPException, request: web.Request) -> ApiError:
    """An error of aiohttp itself (unknown path, wrong method, too large body) in OpenAI's format."""
    message, code = _HTTP_ERRORS.get(error.status, (error.reason, None))
    where = f"{request.method} {request.path}"
    allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
    return ApiError(error.status, ErrorBody(message.format(where=where), code=code), headers=allow)


_HTTP_ERRORS: Mapping[int, tuple[str, str | None]] = {
    404: ("Invalid URL ({where}).", "unknown_url"),
    405: ("Not allowed: {where}.", "method_not_supported"),
    413: ("The request body is too large.", "request_too_large"),
}
