"""Searches the log lines and answers of a test run for secrets that they must not contain.

Tests declare nothing. The keys are those in the configuration of the gateways under test. The prompts are those that
reached the upstream. Tickets belong in answers, where the search finds them, and they must not be anywhere else.
"""

import asyncio
import json
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from gateway.config import Config

_SHORTEST = 12  # characters; shorter texts, such as "hi", are in any log
_MOST = 4_194_304  # bytes of answers that are kept for one test
_TICKET = re.compile(rb'(?:"ticket":"|[?&]ticket=)([A-Za-z0-9_-]{22})')  # in a start block or of POST /streams


class Overheard:
    def __init__(self) -> None:
        self.said: list[tuple[str, bytes]] = []  # the place and the bytes
        self._sizes: Counter[str] = Counter()
        self._secrets: set[tuple[str, str]] = set()

    def hear(self, where: str, data: bytes) -> None:
        if self._sizes[where] < _MOST:
            self._sizes[where] += len(data)
            self.said.append((where, data))

    def keep(self, what: str, text: str) -> None:
        if len(text) >= _SHORTEST:
            self._secrets.add((what, text))

    def keep_keys(self, config: Config) -> None:
        for key in config.keys:
            if key.key is not None:
                self.keep("a key", key.key.reveal())
        for upstream in config.upstreams:
            for secret in (upstream.api_key, *upstream.headers.values()):
                if secret is not None:
                    self.keep("an upstream's key", secret.reveal())

    def keep_prompts(self, bodies: Iterable[bytes]) -> None:
        for body in bodies:
            for text in _texts(body):
                self.keep("a prompt", text)

    def leaks(self) -> list[str]:
        """The secrets that were found. A text may be escaped as in JSON, and may come in several pieces."""
        whole: dict[str, list[bytes]] = {}
        for where, data in self.said:
            whole.setdefault(where, []).append(data)
        found = []
        tickets = {("a ticket", match.decode()) for match in _TICKET.findall(b"".join(whole.get("answers", [])))}
        for where, parts in whole.items():
            heard = b"".join(parts)
            for what, text in sorted(self._secrets if where == "answers" else self._secrets | tickets):
                forms = {
                    text.encode(),
                    json.dumps(text)[1:-1].encode(),
                    json.dumps(text, ensure_ascii=False)[1:-1].encode(),
                }
                if any(form in heard for form in forms):
                    found.append(f"{what} in {where}: {text[:40]!r}")
        return found


class HeardTransport:
    """Wraps a connection's transport and records the writes. uvloop's transports do not accept attributes."""

    def __init__(self, transport: asyncio.Transport, heard: Overheard) -> None:
        self._transport = transport
        self._heard = heard

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        self._heard.hear("answers", bytes(data))
        self._transport.write(data)

    def writelines(self, parts: Iterable[bytes]) -> None:
        self.write(b"".join(parts))


def _texts(body: bytes) -> Iterable[str]:
    try:
        value: Any = json.loads(body)
    except (ValueError, RecursionError):
        return
    messages = value.get("messages") if isinstance(value, dict) else None
    for message in messages if isinstance(messages, list) else ():
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, str):
            yield content
