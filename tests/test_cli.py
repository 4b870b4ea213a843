"""The command: what it prints, what it answers to mistakes, and how it starts and stops as a process."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from gateway import __version__
from gateway.cli import main
from tests.clients import EVENTS, Answer


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No .env and no variables of the person who runs the tests."""
    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL"):
        monkeypatch.delenv(name, raising=False)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"gateway {__version__}\n"


@pytest.mark.parametrize("command", ["serve", "check"])
def test_with_nothing_configured_three_ways_are_shown(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert main([command]) == 2
    told = capsys.readouterr().err
    assert "gateway serve --demo" in told
    assert "OPENAI_API_KEY=" in told
    assert "--config config.toml" in told


def test_check_prints_the_configuration_with_secrets_masked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(".env").write_text("MY_KEY='sk-very-secret'\n")
    Path("c.toml").write_text('[[upstreams]]\nname = "kimi"\nbase_url = "http://h/v1"\napi_key = "${MY_KEY}"\n')
    assert main(["check", "--config", "c.toml"]) == 0
    told = capsys.readouterr().out
    assert 'upstreams[0].base_url = "http://h/v1"' in told
    assert "upstreams[0].api_key = ***" in told
    assert "secret" not in told


def test_check_lists_every_fault_with_its_path(capsys: pytest.CaptureFixture[str]) -> None:
    Path("c.toml").write_text('[server]\nport = "x"\nprot = 1\n[[upstreams]]\nname = "a"\napi_key = "${NOT_SET}"\n')
    assert main(["check", "--config", "c.toml"]) == 2
    told = capsys.readouterr().err
    for path in ("server.port:", "server.prot:", "upstreams[0].base_url:", "NOT_SET"):
        assert path in told


def test_zero_config_from_a_dotenv_file(capsys: pytest.CaptureFixture[str]) -> None:
    Path(".env").write_text("OPENAI_API_KEY=k\nOPENAI_BASE_URL=https://api.moonshot.cn/v1\nOPENAI_MODEL=kimi-latest\n")
    assert main(["check"]) == 0
    told = capsys.readouterr().out
    assert 'upstreams[0].base_url = "https://api.moonshot.cn/v1"' in told
    assert 'default_model = "kimi-latest"' in told


MISTAKES = {
    "a file that is not there": (["check", "--config", "none.toml"], "none.toml"),
    "a file that is no TOML": (["check", "--config", "bad.toml"], "not valid TOML"),
    "a file that is no text": (["check", "--config", "binary.toml"], "not UTF-8"),
    "demo and a file": (["serve", "--demo", "--config", "c.toml"], "choose one"),
    "an address that others reach": (["serve", "--demo", "--host", "0.0.0.0"], "server.host"),
    "a certificate that is not there": (["serve", "--config", "ca.toml", "--port", "0"], "ca_file"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_end_with_status_2_and_say_what_is_wrong(capsys: pytest.CaptureFixture[str], case: str) -> None:
    Path("bad.toml").write_text("= 1")
    Path("binary.toml").write_bytes(b"\xff\xfe")
    Path("ca.toml").write_text('[[upstreams]]\nname = "a"\nbase_url = "https://h/v1"\nca_file = "none.pem"\n')
    arguments, words = MISTAKES[case]
    assert main(arguments) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["serve", "--port", "70000"], ["demo-upstream", "--tokens", "0"], ["nothing"], []]
)
def test_a_wrong_command_line_is_status_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)


def test_a_port_that_is_taken_is_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert main(["serve", "--demo", "--port", str(taken.getsockname()[1])]) == 1
    assert "address already in use" in capsys.readouterr().err


# As a process


@contextlib.asynccontextmanager
async def running(*arguments: str, **environ: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """`python -m gateway ARGUMENTS` on a free port; yields the process and the address that it announced."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", *arguments, "--port", "0"),
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environ},
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(20):
            line = (await process.stderr.readline()).decode()
        yield process, next(word for word in line.split() if word.startswith("http://"))
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_serve_demo_answers_and_stops_cleanly() -> None:
    async with running("serve", "--demo") as (process, address):
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{address}/chat?q=Hello", headers=EVENTS) as response,
        ):
            answer = Answer(await response.read())
        assert answer.end["reason"] == "complete"
        assert len(answer.data("message")) > 10
        await stops_cleanly(process)


async def test_serve_with_the_environment_alone_asks_that_upstream() -> None:
    async with running("demo-upstream", "--tokens", "3", "--interval-ms", "1") as (_, upstream):
        base_url = upstream.removesuffix("/v1") + "/v1"
        environ = {"OPENAI_BASE_URL": base_url, "OPENAI_MODEL": "demo"}
        async with running("serve", **environ) as (process, address):
            async with aiohttp.ClientSession() as session, session.get(f"{address}/chat?q=Hello") as response:
                value = await response.json()
            assert value["usage"]["completion_tokens"] == 3
            lines = await stops_cleanly(process)
    logged = [line for line in lines if line.startswith("{")]
    access = [line for line in map(json.loads, logged) if line["logger"] == "gateway.access"]
    assert [line["status"] for line in access] == [200]
    assert "Hello" not in "".join(logged)


async def test_sigterm_in_the_middle_ends_streams_with_a_failure_and_exit_status_0() -> None:
    async with running("serve", "--demo") as (process, address), aiohttp.ClientSession() as session:
        async with session.get(f"{address}/chat?q=x&model=demo-clock", headers=EVENTS) as response:
            await response.content.readuntil(b"data: ")
            process.terminate()
            answer = Answer(await response.read())
        assert answer.failure["error"]["code"] == "shutting_down"
        assert answer.end["reason"] == "shutting_down"
        await stops_cleanly(process)


async def stops_cleanly(process: asyncio.subprocess.Process) -> list[str]:
    """Sends SIGINT; the process ends with status 0 and no traceback. Returns the lines it wrote."""
    assert process.stderr is not None
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGINT)
    async with asyncio.timeout(10):
        written = (await process.stderr.read()).decode()
        assert await process.wait() == 0
    assert "Traceback" not in written
    return written.splitlines()
