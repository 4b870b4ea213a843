"""Standard streams that are closed, full, not read, or in an encoding without the characters of a name."""

import asyncio
import fcntl
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.commands.conftest import Mode
from tests.rig.clients import EVENTS
from tests.rig.processes import COMMAND, shell
from tests.rig.scripted_upstream import DONE, ScriptedUpstream, Until, answer, delta, finish, stream

pytestmark = pytest.mark.usefixtures("empty_folder")


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def ends(process: asyncio.subprocess.Process) -> int:
    """The exit status after SIGTERM."""
    process.terminate()
    async with asyncio.timeout(10):
        return await process.wait()


def full_pipe() -> tuple[int, int]:
    """A pipe with no room and no reader that reads."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(writer, False)
    os.write(writer, b"x" * 4096)
    os.set_blocking(writer, True)
    return reader, writer


async def test_a_log_that_nobody_reads_holds_up_nothing(
    upstream: ScriptedUpstream, session: aiohttp.ClientSession, mode: Mode
) -> None:
    """Not the start, not thousands of requests, not a stream that runs meanwhile, not the exit."""
    go_on = asyncio.Event()
    upstream.script(stream(delta("before"), Until(go_on), delta("after"), finish(), DONE))
    environ = {"OPENAI_BASE_URL": f"{upstream.url}/v1", "OPENAI_MODEL": "m"}
    reader, writer = full_pipe()
    async with shell('exec "$@"', "serve", *mode, stderr=writer, **environ) as (process, address):
        os.close(writer)
        async with asyncio.timeout(30), session.get(f"{address}/chat?q=x", headers=EVENTS) as running:
            await running.content.readuntil(b"before")
            await asyncio.gather(*[ask_health(session, address, 100) for _ in range(20)])
            go_on.set()
            assert b"after" in await running.content.readuntil(b'"reason":"complete"')
        assert await ends(process) == 0
    os.close(reader)


async def ask_health(session: aiohttp.ClientSession, address: str, times: int) -> None:
    for _ in range(times):
        async with session.get(f"{address}/healthz") as response:
            assert response.status == 200
            await response.read()


@pytest.mark.parametrize(
    ("redirection", "mode"),
    [
        *[(redirection, ()) for redirection in (">&-", "2>&-", "<&-", "<&- >&- 2>&-", "2>/dev/full")],
        *[(redirection, ("--workers", "2")) for redirection in ("<&- >&- 2>&-", "2>/dev/full")],
    ],
)
async def test_serve_takes_standard_streams_that_are_closed_or_full(
    upstream: ScriptedUpstream, session: aiohttp.ClientSession, redirection: str, mode: Mode
) -> None:
    upstream.script(answer(401, {"error": {"message": "no"}}))  # of which the log has a line
    environ = {"OPENAI_BASE_URL": f"{upstream.url}/v1", "OPENAI_MODEL": "m"}
    async with shell(f'exec "$@" {redirection}', "serve", *mode, stderr=None, **environ) as (process, address):
        async with session.get(f"{address}/chat?q=Hello", headers=EVENTS) as response:
            assert b"event: end" in await response.read()
        assert await ends(process) == 0


def done(words: str, *arguments: str, **environ: str) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of a command in a shell."""
    shell = ("sh", "-c", words, "sh", *COMMAND, *arguments)
    result = subprocess.run(shell, capture_output=True, timeout=20, env={**os.environ, **environ})
    return result.returncode, result.stdout.decode("latin-1"), result.stderr.decode("latin-1")


CONFIGURED = {"OPENAI_API_KEY": "k", "OPENAI_MODEL": "模型é"}


@pytest.mark.parametrize(
    ("words", "arguments", "status", "told"),
    [
        ('"$@" >/dev/full', ["check"], 1, "gateway: No space left on device.\n"),
        ('"$@" >&-', ["check"], 0, ""),
        ('"$@" 2>&-', ["check"], 0, ""),
        ('"$@" 2>/dev/full', ["check", "--config", "none.toml"], 2, ""),
        ('"$@" 2>&-', ["check", "--config", "none.toml"], 2, ""),
        ('"$@" 2>/dev/full', ["nonsense"], 2, ""),
        ('"$@" 2>/dev/full', ["key", "team"], 0, ""),
        ('"$@" <&-', ["usage", "-"], 0, ""),
    ],
)
def test_commands_take_them_too(words: str, arguments: list[str], status: int, told: str) -> None:
    """The status is as ever, and a failure is told where it can be."""
    found, _, err = done(words, *arguments, **CONFIGURED)
    assert (found, err) == (status, told)


@pytest.mark.parametrize("arguments", [["check"], ["key", "team"], ["usage", "-"], ["--help"], ["serve", "--help"]])
@pytest.mark.parametrize("redirection", ["", "2>&1"])
def test_a_reader_that_left_is_no_failure(arguments: list[str], redirection: str) -> None:
    """As `head` does. The pipe is closed before the command says its first word."""
    words = f'{{ sleep 0.2; "$@" </dev/null {redirection}; echo "status $?" >&3; }} 3>&2 | true'
    assert done(words, *arguments, **CONFIGURED)[2].splitlines()[-1:] == ["status 0"]


def test_a_reader_that_left_hides_no_fault() -> None:
    words = '{ sleep 0.2; "$@" 2>&1; echo "status $?" >&3; } 3>&2 | true'
    assert done(words, "check", "--config", "none.toml")[2] == "status 2\n"


@pytest.mark.parametrize(("encoding", "shown"), [("latin-1", "\\u6a21\\u578bé"), ("ascii", "\\u6a21\\u578b\\xe9")])
def test_characters_that_the_encoding_lacks_are_escaped(encoding: str, shown: str) -> None:
    status, out, err = done('"$@"', "check", **CONFIGURED, PYTHONIOENCODING=encoding)
    assert (status, err) == (0, "")
    assert f'default_model = "{shown}"' in out


def test_faults_are_escaped_too() -> None:
    Path("c.toml").write_text('[[upstreams]]\nname = "a"\nbase_url = "http://h/v1"\n"模" = 1\n')
    status, _, err = done('"$@"', "check", "--config", "c.toml", PYTHONIOENCODING="latin-1:strict")
    assert status == 2
    assert "\\u6a21" in err


def test_the_lines_of_a_key_are_toml_in_any_encoding() -> None:
    status, out, _ = done('"$@"', "key", "é模😀", PYTHONIOENCODING="ascii")
    assert status == 0
    assert 'name = "\\U000000e9\\U00006a21\\U0001f600"' in out
