"""What a test run lets an outsider see (log lines, answers), searched for what must not be in it.

Nothing is declared by the tests. Keys are those that the gateways under test were configured with; prompts are what
reached the upstream, which nobody else needs to hear. Tickets are found in the answers, which is where they belong, and
nowhere else.
"""

import asyncio
import json
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from gateway.config import Config

_SHORTEST = 12  # characters: shorter texts, such as "hi", are found in any log
_MOST = 4_194_304  # bytes of answers that are kept of one test
_TICKET = re.compile(rb'(?:"ticket":"|[?&]ticket=)([A-Za-z0-9_-]{22})')  # in a start block, in what POST /streams says


class Overheard:
    def __init__(self) -> None:
        self.said: list[tuple[str, bytes]] = []  # where, and what
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
        """What was heard and should not have been. A text may stand in JSON, and be cut into pieces on its way."""
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
    """Stands before a connection's transport and hears what is written. uvloop's own transports take no attributes."""

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
