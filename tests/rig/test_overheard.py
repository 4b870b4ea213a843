"""The search at the end of every test finds secrets."""

import json
import logging

import pytest

from gateway.config import Config, Key, Secret, Upstream
from gateway.observe.formatters import JsonFormatter
from gateway.observe.records import AccessRecord, log_access
from tests.conftest import MakeGateway
from tests.rig.clients import ask
from tests.rig.overheard import Overheard, access_lines
from tests.rig.scripted_upstream import DONE, ScriptedUpstream, delta, finish, stream

PROMPT = 'my "secret" é question'


@pytest.mark.parametrize(
    "said",
    ["x the-key-of-a-team x", "an-upstream-key", PROMPT, r"my \"secret\" é question", r"my \"secret\" \u00e9 question"],
)
def test_what_is_found(said: str) -> None:
    heard = Overheard()
    heard.keep_keys(
        Config(
            keys=[Key("team", key=Secret("the-key-of-a-team"))],
            upstreams=[Upstream("up", "http://up/v1", Secret("an-upstream-key"))],
        )
    )
    heard.keep_prompts([b'{"messages":[{"role":"user","content":"my \\"secret\\" \xc3\xa9 question"}]}', b"no JSON"])
    assert heard.leaks() == []
    heard.hear("log", said[:9].encode())
    heard.hear("log", said[9:].encode())
    assert len(heard.leaks()) == 1


TICKETS = {
    "in a start block": 'event: start\ndata: {"stream":"s","ticket":"%s"}\n\n',
    "beside an address": '{"id":"s","ticket":"%s","expires_in":900}',
    "in an address": '{"viewer_url":"https://chat.example/streams/s?ticket=%s"}',
    "in an address, behind another field": '{"url":"/streams/s?format=json&ticket=%s"}',
}


@pytest.mark.parametrize("case", TICKETS)
def test_a_ticket_belongs_into_an_answer_and_not_into_the_log(case: str) -> None:
    ticket = "7XbqJ0k2QnUe8d3Lw5v-_A"
    heard = Overheard()
    answer = (TICKETS[case] % ticket).encode()
    heard.hear("answers", answer[:-30])
    heard.hear("answers", answer[-30:])
    heard.hear("log", b"GET /streams/s 200")
    assert heard.leaks() == []
    heard.hear("log", f"GET /streams/s?ticket={ticket} 200".encode())
    assert len(heard.leaks()) == 1


HEAD = (
    b"GET /chat?q=a+question+that+is+long&model=a-model-with-a-name HTTP/1.1\r\nHost: localhost\r\n"
    b"authorization: Bearer a-secret-of-a-client\r\nX-API-Key: another-secret-of-it\r\nCookie: a=a-cookie-of-it\r\n"
    b"Idempotency-Key: a-key-of-idempotency\r\n\r\nAuthorization: not-a-field-but-a-body"
)
SENT = {
    "a question that is long": True,
    "a%20question%20that%20is%20long": True,
    "a-secret-of-a-client": True,
    "another-secret-of-it": True,
    "a=a-cookie-of-it": True,
    "a-key-of-idempotency": True,
    "a-model-with-a-name": False,
    "not-a-field-but-a-body": False,
}


@pytest.mark.parametrize("said", SENT)
def test_what_clients_send_in_secret_is_not_in_the_log(said: str) -> None:
    """Answers may have it: a ticket comes from one."""
    heard = Overheard()
    heard.keep_request(HEAD)
    heard.keep_request(b"a part of a body\r\nAuthorization: Bearer a-part-of-a-body\r\n")
    heard.hear("answers", said.encode())
    assert heard.leaks() == []
    heard.hear("log", f"GET /chat {said}".encode())
    assert len(heard.leaks()) == SENT[said]


BODIES = {
    "a message in parts": {"messages": [{"role": "user", "content": [{"type": "text", "text": PROMPT}]}]},
    "a response's input": {"input": PROMPT},
    "a response's items": {"input": [{"role": "user", "content": [{"type": "input_text", "text": PROMPT}]}]},
    "what to embed": {"input": ["a", PROMPT]},
    "what to continue": {"prompt": [PROMPT]},
    "what to rank by": {"query": PROMPT, "documents": ["a"]},
    "what to rank": {"query": "a", "documents": [{"text": PROMPT}]},
    "Anthropic's system prompt": {"system": [{"type": "text", "text": PROMPT}]},
}


@pytest.mark.parametrize("case", BODIES)
def test_prompts_of_all_surfaces_are_found(case: str) -> None:
    """Only those of messages must not be in an answer either: a response repeats its instructions."""
    heard = Overheard()
    heard.keep_prompts([json.dumps(BODIES[case]).encode()])
    heard.hear("answers", PROMPT.encode())
    assert len(heard.leaks()) == ("message" in case)
    heard.hear("log", PROMPT.encode())
    assert len(heard.leaks()) == 1 + ("message" in case)


async def test_the_access_log_is_heard_at_any_level(gateway: MakeGateway, overheard: Overheard) -> None:
    """Also if the test has chosen none. A secret in it fails the test."""
    client = await gateway()
    with access_lines(lambda record: overheard.hear("log", JsonFormatter().format(record).encode())):
        async with client.get(
            "/chat", headers={"X-API-Key": "a-secret-for-the-log", "X-Request-ID": "a-secret-for-the-log"}
        ):
            pass
    assert overheard.leaks() == ["a credential in log: 'a-secret-for-the-log'"]
    overheard.said.clear()
    overheard._secrets.clear()


def test_the_access_log_gets_no_more_than_before(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[logging.LogRecord] = []
    with access_lines(heard.append):
        log_access(AccessRecord(request_id="r", client="c", method="GET", path="/", status=200, seconds=0.0))
    assert (len(heard), caplog.records) == (1, [])


def test_the_log_is_heard_however_much_was_answered() -> None:
    heard = Overheard()
    heard.keep("a key", "the-key-of-a-team")
    for _ in range(50):
        heard.hear("answers", b"x" * 100_000)
    heard.hear("log", b"the-key-of-a-team")
    assert len(heard.leaks()) == 1


async def test_what_is_heard(gateway: MakeGateway, upstream: ScriptedUpstream, overheard: Overheard) -> None:
    """The search covers all bytes on the gateway's sockets and all log lines. Prompts and upstream keys are secrets."""
    upstream.script(stream(delta("all the way"), finish(), DONE))
    await ask(await gateway(), "where does it go?")
    logging.getLogger("gateway").warning("a line of the log")
    answers = b"".join(data for where, data in overheard.said if where == "answers")
    assert answers.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"all the way" in answers
    overheard.keep_prompts([request.body for request in upstream.requests])
    overheard.hear("elsewhere", b"key-of-the-upstream where does it go?")
    assert len(overheard.leaks()) == 3  # the prompt was in a query, too
    overheard.said.clear()
