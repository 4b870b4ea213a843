"""What an error looks like as a response."""

import pytest

from gateway import errors
from gateway.errors import GatewayError
from gateway.handlers.replies import error_response


@pytest.mark.parametrize(
    ("error", "value"),
    [
        (errors.UpstreamMisconfigured(), "false"),
        (errors.UpstreamTLS(), "false"),
        (errors.AnswerTooLarge(), "false"),
        (errors.IdempotencyConflict(), "false"),
        (errors.GatewayError(), "false"),
        (errors.UpstreamError(), None),
        (errors.ShuttingDown(), None),
        (errors.TotalTimeout(), None),
        (errors.RateLimited(), None),
        (errors.BodyTimeout(), None),
        (errors.NotFound(), None),
    ],
    ids=lambda value: getattr(value, "code", ""),
)
def test_clients_are_told_not_to_retry_what_they_would_retry_in_vain(error: GatewayError, value: str | None) -> None:
    """SDKs retry 409 and every status from 500 on, unless `x-should-retry` is false."""
    assert error_response(error).headers.get("X-Should-Retry") == value
