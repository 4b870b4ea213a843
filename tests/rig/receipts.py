"""The sum that a receipt has for a text, computed apart from the gateway's code."""

import hashlib
from typing import Any


def sum_of(words: str) -> dict[str, Any]:
    data = words.encode()
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


EMPTY = {"bytes": 0, "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}
