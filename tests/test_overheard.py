"""That the search which every test ends with would find something."""

import logging

import pytest

from gateway.config import Config, Key, Secret, Upstream
from tests.clients import ask
from tests.conftest import MakeGateway
from tests.overheard import Overheard
from tests.scripted_upstream import DONE, ScriptedUpstream, delta, finish, stream

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


async def test_what_is_heard(gateway: MakeGateway, upstream: ScriptedUpstream, overheard: Overheard) -> None:
    """Everything on the gateway's sockets, and every log line; an upstream's key and the prompts are kept from it."""
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
