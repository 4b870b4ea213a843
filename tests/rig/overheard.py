"""Searches the log lines and answers of a test run for secrets that they must not contain.

Tests declare nothing. The keys are those in the configuration of the gateways under test, and what clients send as
credentials. The prompts are those that reached the upstream, and those in queries. Tickets belong in answers, where the
search finds them, and they must not be anywhere else.
"""

import asyncio
import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl, quote

from gateway.config import Config

_SHORTEST = 12  # characters; shorter texts, such as "hi", are in any log
_MOST = 4_194_304  # bytes of answers that are kept for one test
_MOST_SECRETS = 1_000  # of one kind in one test, so that the search takes no longer than the test
_TICKET = re.compile(rb'(?:"ticket":"|[?&]ticket=)([A-Za-z0-9_-]{22})')  # in a start block or of POST /streams
_TARGET = re.compile(rb"[A-Z]{3,7} ([^ ?\r\n]*)\??([^ \r\n]*) HTTP/1")
_CREDENTIALS = re.compile(
    rb"^(?:authorization|x-api-key|idempotency-key|cookie):[ \t]*(?:bearer |basic )?([^\r\n]+)", re.I | re.M
)
_SENT = ("a query", "a credential")
_PRIVATE = frozenset({"q", "question", "ticket", "idempotency_key"})  # fields of a query
_ASKED = ("messages", "input", "prompt", "query", "documents", "system", "instructions")  # fields of a body
_WORDS = frozenset(
    {"type", "role", "id", "call_id", "name", "status", "tool_call_id"}
)  # of its objects: they hold no prompt


class Overheard:
    def __init__(self) -> None:
        self.said: list[tuple[str, bytes]] = []  # the place and the bytes
        self._sizes: Counter[str] = Counter()
        self._secrets: dict[tuple[str, str], bool] = {}  # whether it may be in an answer
        self._kinds: Counter[str] = Counter()
        self._paths: set[str] = set()

    def hear(self, where: str, data: bytes) -> None:
        if self._sizes[where] < _MOST:
            self._sizes[where] += len(data)
            self.said.append((where, data))

    def keep(self, what: str, text: str, *, in_answers: bool = False) -> None:
        if len(text) < _SHORTEST:
            return
        if (what, text) in self._secrets:
            self._secrets[what, text] &= in_answers
        elif self._kinds[what] < _MOST_SECRETS:
            self._kinds[what] += 1
            self._secrets[what, text] = in_answers

    def keep_keys(self, config: Config) -> None:
        for key in config.keys:
            if key.key is not None:
                self.keep("a key", key.key.reveal())
        for upstream in config.upstreams:
            for secret in (upstream.api_key, *upstream.headers.values()):
                if secret is not None:
                    self.keep("an upstream's key", secret.reveal())
        if config.metrics.token is not None:
            self.keep("a token", config.metrics.token.reveal())

    def keep_prompts(self, bodies: Iterable[bytes]) -> None:
        """The texts of messages. Others may come back, as a response repeats its `instructions`, and calls of tools."""
        for body in bodies:
            for name, text in _texts(body):
                self.keep("a prompt", text, in_answers=name != "content")

    def keep_request(self, data: bytes) -> None:
        """What the head of a request has, if this is its first read. Answers may have it: a ticket comes from one.

        What a path has, too, is no secret: a test may try the id of a stream as its ticket.
        """
        if (target := _TARGET.match(data)) is None:
            return
        path, query = (part.decode("latin-1") for part in target.groups())
        secrets = [(_SENT[0], value) for name, value in parse_qsl(query) if name in _PRIVATE]
        fields = _CREDENTIALS.findall(data.partition(b"\r\n\r\n")[0])
        for what, text in [*secrets, *[(_SENT[1], found.decode("latin-1").strip()) for found in fields]]:
            self.keep(what, text, in_answers=True)
        if len(self._paths) < _MOST_SECRETS:
            self._paths.add(path)

    def leaks(self) -> list[str]:
        """The secrets that were found. A text may be escaped as in JSON, and may come in several pieces."""
        whole: dict[str, list[bytes]] = {}
        for where, data in self.said:
            whole.setdefault(where, []).append(data)
        places = {where: b"".join(parts) for where, parts in whole.items()}
        for match in set(_TICKET.findall(places.get("answers", b""))):
            self.keep("a ticket", match.decode(), in_answers=True)
        found = []
        paths = "\n".join(self._paths)
        for (what, text), in_answers in sorted(self._secrets.items()):
            if what in _SENT and text in paths:
                continue
            forms = {form.encode(errors="surrogateescape") for form in _forms(text)}
            for where, heard in places.items():
                if not (in_answers and where == "answers") and any(form in heard for form in forms):
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


@contextmanager
def access_lines(hear: Callable[[logging.LogRecord], None]) -> Iterator[None]:
    """Every line of the access log is heard, whatever level the test has chosen. Its handlers get no more than before.

    The class of the logger is replaced and not its level, on which the tests' own handlers depend.
    """
    logger = logging.getLogger("gateway.access")

    class Heard(logging.Logger):
        def isEnabledFor(self, level: int) -> bool:
            return True

        def handle(self, record: logging.LogRecord) -> None:
            hear(record)
            if super().isEnabledFor(record.levelno):
                super().handle(record)

    before = logger.__class__
    logger.__class__ = Heard
    try:
        yield
    finally:
        logger.__class__ = before


def _forms(text: str) -> set[str]:
    """As it is, as in JSON, and as in an address."""
    return {text, json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1], quote(text, errors="replace")}


def _texts(body: bytes) -> Iterator[tuple[str, str]]:
    """Each text that is asked, with the name of the field that has it."""
    try:
        value: Any = json.loads(body)
    except (ValueError, RecursionError):
        return
    if isinstance(value, dict):
        for name in _ASKED:
            for text in _texts_in(value.get(name)):
                yield name, text
        messages = value.get("messages")
        for message in messages if isinstance(messages, list) else ():
            for text in _texts_in(message.get("content") if isinstance(message, dict) else None):
                yield "content", text


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts_in(item)
    elif isinstance(value, dict):
        for name, item in value.items():
            if name not in _WORDS:
                yield from _texts_in(item)
