"""README's lines for an SDK, run as they stand."""

import asyncio
import contextlib
import io

import pytest

from tests.conftest import MakeGateway
from tests.rig.scripted_upstream import DONE, ScriptedUpstream, delta, finish, stream
from tests.test_readme import blocks


async def test_the_lines_print_an_answer(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    pytest.importorskip("openai", reason="the openai package is not installed: it is in the extra `sdk`")
    upstream.script(stream(delta("Hel"), delta("lo"), finish(), DONE))
    client = await gateway()
    (lines,) = blocks("python")
    assert "http://127.0.0.1:8080/v1" in lines
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        await asyncio.to_thread(exec, lines.replace("http://127.0.0.1:8080", str(client.make_url("/")).rstrip("/")), {})
    assert printed.getvalue() == "Hello"
