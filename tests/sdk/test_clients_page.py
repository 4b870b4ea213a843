"""The examples for SDKs in `.github/docs/clients.md`, run as they stand but for the address.

Those for event clients are in `test_event_clients.py`.
"""

import asyncio
import contextlib
import io

import pytest

from tests.conftest import MakeGateway
from tests.rig.scripted_upstream import DONE, ScriptedUpstream, delta, finish, stream
from tests.sdk.clients_page import example
from tests.sdk.node import needs, running
from tests.test_readme import blocks

HELLO = stream(delta('"Hel'), delta('lo"\n'), finish(), DONE)  # the line of JSON that `running` reads


async def serve(gateway: MakeGateway, lines: str) -> str:
    """The lines, with the address of a running gateway in them."""
    assert "http://127.0.0.1:8080" in lines
    return lines.replace("http://127.0.0.1:8080", str((await gateway()).make_url("")).rstrip("/"))


PYTHON = [("openai", "import OpenAI"), ("langchain_openai", "ChatOpenAI("), ("anthropic", "import Anthropic")]


@pytest.mark.parametrize(("package", "marker"), PYTHON)
async def test_python(gateway: MakeGateway, upstream: ScriptedUpstream, package: str, marker: str) -> None:
    pytest.importorskip(package, reason=f"the {package} package is not installed: it is in the extra `sdk`")
    upstream.script(HELLO)
    lines = await serve(gateway, example("python", marker))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        await asyncio.to_thread(exec, lines, {})
    assert printed.getvalue() == '"Hello"\n'


NODE = [
    pytest.param("from 'openai'", marks=needs("openai")),
    pytest.param("from '@ai-sdk/openai-compatible'", marks=needs("ai", "@ai-sdk/openai-compatible")),
    pytest.param("from '@ai-sdk/anthropic'", marks=needs("ai", "@ai-sdk/anthropic")),
]


@pytest.mark.parametrize("marker", NODE)
async def test_node(gateway: MakeGateway, upstream: ScriptedUpstream, marker: str) -> None:
    upstream.script(HELLO)
    async with running(await serve(gateway, example("js", marker))) as printed:
        assert printed == "Hello"


def test_the_lines_for_openais_sdk_are_those_of_readme() -> None:
    assert example("python", "import OpenAI") in blocks("python")
