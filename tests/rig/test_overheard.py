"""The search at the end of every test finds secrets."""

import logging

import pytest

from gateway.config import Config, Key, Secret, Upstream
from tests.conftest import MakeGateway
from tests.rig.clients import ask
from tests.rig.overheard import Overheard
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
    assert len(overheard.leaks()) == 2
    overheard.said.clear()
