"""The gateway's errors in Anthropic's form: https://platform.claude.com/docs/en/api/errors

SDKs decide by the status and, within a stream, by the type. `code` is the gateway's own, and is ignored by them.
"""

from collections.abc import Mapping
from typing import Any

from gateway.errors import GatewayError, from_failure

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def error_body(error: GatewayError, request_id: str) -> dict[str, Any]:
    """The place of a fault in the request begins the message, because this form has no field for it."""
    message = error.message if error.param is None else f"{error.param}: {error.message}"
    kind = _TYPES.get(error.status) or ("api_error" if error.status >= 500 else "invalid_request_error")
    return {
        "type": "error",
        "error": {"type": kind, "message": message, "code": error.code},
        "request_id": request_id,
    }


def failure_body(failure: Mapping[str, Any], request_id: str) -> dict[str, Any]:
    """The same for the payload of a failure entry."""
    return error_body(from_failure(failure), request_id)
