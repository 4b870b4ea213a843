"""What callers are told of their limits: fields of the response, and errors. Both limiters use the same words."""

import math
from collections.abc import Mapping

from gateway.errors import RateLimited, TooManyStreams

_STREAM_RETRY = 5  # seconds for `Retry-After`, since nobody knows when a stream will end


def limit_headers(kind: str, limit: int, count: int, left: float) -> dict[str, str]:
    """The state of a limit whose window is over in `left` seconds.

    The fields have OpenAI's names: https://platform.openai.com/docs/guides/rate-limits
    """
    return {
        f"x-ratelimit-limit-{kind}": str(limit),
        f"x-ratelimit-remaining-{kind}": str(max(0, limit - count)),
        f"x-ratelimit-reset-{kind}": f"{_whole(left)}s",
    }


def rate_limited(kind: str, limit: int, count: int, left: float, others: Mapping[str, str]) -> RateLimited:
    """`others` are the fields of the limits that were counted before."""
    seconds = _whole(left)
    words = f"This is more than your limit of {limit:,} {kind} a minute. Try again in {seconds} s."
    headers = limit_headers(kind, limit, count, left)
    return RateLimited(words, headers={**others, **headers, "Retry-After": str(seconds)})


def too_many_streams() -> TooManyStreams:
    return TooManyStreams(headers={"Retry-After": str(_STREAM_RETRY)})


def _whole(seconds: float) -> int:
    return max(1, math.ceil(seconds))
