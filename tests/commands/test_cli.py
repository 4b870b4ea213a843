"""The command: what it prints, what it answers to mistakes, and how it starts and stops as a process."""

import asyncio
import contextlib
import gzip
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import aiohttp
import pytest

from gateway import __version__
from gateway.admission.auth import KeyRing
from gateway.cli import build_parser, main
from gateway.commands.announcement import announced, announced_demo, unread
from gateway.commands.usage import with_progress
from gateway.config import load
from tests.rig.clients import EVENTS, Answer
from tests.rig.processes import ends_cleanly, running

pytestmark = pytest.mark.usefixtures("empty_folder")


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


@pytest.mark.parametrize("command", [["check"], ["serve"]])
def test_a_config_that_is_not_read_is_pointed_at(capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    """A person may well think that it is."""
    Path("config.toml").write_text("")
    assert main(command) == 2
    assert "--config config.toml to use it" in capsys.readouterr().err
    assert main([*command, "--config", "config.toml"]) == 2
    assert "to use it" not in capsys.readouterr().err


MISTAKES = {
    "YAML": (["check", "--config", "c.yaml"], "this looks like YAML, but the configuration is TOML"),
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
    Path("c.yaml").write_text("upstreams:\n  - name: a\n")
    Path("binary.toml").write_bytes(b"\xff\xfe")
    Path("ca.toml").write_text('[[upstreams]]\nname = "a"\nbase_url = "https://h/v1"\nca_file = "none.pem"\n')
    arguments, words = MISTAKES[case]
    assert main(arguments) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["serve", "--port", "70000"], ["demo-upstream", "--tokens", "0"], ["nothing"]])
def test_a_wrong_command_line_is_status_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)


def test_the_examples_in_the_help_are_taken() -> None:
    examples = build_parser().format_help().partition("examples:\n")[2].partition("\n\n")[0].splitlines()
    assert len(examples) == 6
    for line in examples:
        command, what = re.split(" {2,}", line.strip())
        build_parser().parse_args(command.partition("gateway ")[2].split())
        assert what


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    told = capsys.readouterr()
    assert told.err.startswith("usage: gateway")
    assert "run only the demo upstream" in told.err
    assert not told.out


@pytest.mark.parametrize("command", ["serve", "check"])
def test_an_empty_name_of_a_file_is_status_2(capsys: pytest.CaptureFixture[str], command: str) -> None:
    """As a shell makes of a variable that is not set."""
    with pytest.raises(SystemExit, match="2"):
        main([command, "--config", ""])
    assert "argument --config: expected the name of a file" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["c.toml", ".env"])
def test_a_mark_at_the_beginning_of_a_file_is_passed_over(capsys: pytest.CaptureFixture[str], name: str) -> None:
    """Editors on Windows write one."""
    Path("c.toml").write_text('[[upstreams]]\nname = "a"\nbase_url = "${A}"\n')
    Path(".env").write_text("A=http://h/v1\n")
    Path(name).write_bytes(b"\xef\xbb\xbf" + Path(name).read_bytes())
    assert main(["check", "--config", "c.toml"]) == 0
    assert 'upstreams[0].base_url = "http://h/v1"' in capsys.readouterr().out


def test_a_port_that_is_taken_is_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert main(["serve", "--demo", "--port", str(taken.getsockname()[1])]) == 1
    assert "Address already in use" in capsys.readouterr().err


# Keys


def made(capsys: pytest.CaptureFixture[str], name: str) -> tuple[str, str]:
    """The key, and its entry for the configuration."""
    assert main(["key", name]) == 0
    out = capsys.readouterr().out
    first, _, rest = out.strip().partition("\n")
    return first.strip(), rest


@pytest.mark.parametrize("name", ["team", 'a"b\\c', "team é", "密钥", " ", "#[x]", "'", "x" * 200])
def test_a_key_is_let_in_by_the_lines_that_come_with_it(capsys: pytest.CaptureFixture[str], name: str) -> None:
    """They stand in a configuration as they are, whatever the name."""
    key, lines = made(capsys, name)
    config = load(f'{lines}\n[[upstreams]]\nname = "up"\nbase_url = "http://h/v1"\n', {"NAME": "other"})
    (entry,) = config.keys
    assert entry.name == name
    assert entry.hash == f"sha256:{sha256(key.encode()).hexdigest()}"
    assert entry.key is None
    assert key not in lines
    caller = KeyRing(config.keys).identify("", f"Bearer {key}", datetime.now(UTC).date())
    assert caller.key is entry


def test_every_key_is_another(capsys: pytest.CaptureFixture[str]) -> None:
    (first, _), (second, _) = made(capsys, "team"), made(capsys, "team")
    assert first != second
    assert min(len(first), len(second)) >= 43  # 256 bits


@pytest.mark.parametrize("name", ["", "a\nb", "a\x1b[2J", "a\0", "\x7f", "\u2028", "\udcff", "x" * 201])
def test_a_name_that_cannot_be_printed_is_status_2(capsys: pytest.CaptureFixture[str], name: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["key", name])
    told = capsys.readouterr()
    assert "expected 1 to 200 printable characters" in told.err
    assert not told.out


# Usage

UPSTREAM = '[[upstreams]]\nname = "up"\nbase_url = "http://h/v1"\n'


def line(stream: str, **fields: object) -> str:
    of_stream = {"stream": stream, "model": "m", "end": "complete", "input_tokens": 10, "output_tokens": 5, **fields}
    return json.dumps({"time": "2026-03-01T10:00:00", "logger": "gateway.access", "key": "team", "stream": of_stream})


LOG = f"{line('a')}\n{line('b', cost=0.5)}\n"
HEAD = "day,key,model,streams,failed,input_tokens,cached_tokens,output_tokens,reasoning_tokens,estimated,cost\n"


def test_usage_of_plain_and_compressed_logs_is_one_sum(capsys: pytest.CaptureFixture[str]) -> None:
    """A stream that stands in both is one."""
    Path("access.log").write_text(LOG)
    Path("access.log.1.gz").write_bytes(gzip.compress((LOG + line("c")).encode()))
    assert main(["usage", "access.log", "access.log.1.gz", "--csv"]) == 0
    assert capsys.readouterr() == (f"{HEAD}2026-03-01,team,m,3,0,30,0,15,0,0,0.500000000\n", "")


@pytest.mark.parametrize(
    ("by", "row"),
    [("key", "team,2,"), ("model,day", "m,2026-03-01,2,"), ("day,key,model", "2026-03-01,team,m,2,")],
)
def test_usage_is_summed_by_what_is_asked_for(capsys: pytest.CaptureFixture[str], by: str, row: str) -> None:
    Path("access.log").write_text(LOG)
    assert main(["usage", "access.log", "--csv", "--by", by]) == 0
    head, only = capsys.readouterr().out.splitlines()
    assert head.startswith(f"{by},streams,")
    assert only.startswith(row)


def test_usage_as_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    Path("access.log").write_text(LOG)
    assert main(["usage", "access.log"]) == 0
    head, rule, row = capsys.readouterr().out.splitlines()
    assert head.split()[:4] == ["day", "key", "model", "streams"]
    assert set(rule) == {"-", " "}
    assert row.split() == ["2026-03-01", "team", "m", "2", "0", "20", "0", "10", "0", "0", "0.500000"]


def test_usage_of_an_empty_log(capsys: pytest.CaptureFixture[str]) -> None:
    Path("access.log").write_bytes(b"")
    assert main(["usage", "access.log"]) == 0
    assert capsys.readouterr() == ("No streams in these logs.\n", "")
    assert main(["usage", "access.log", "--csv"]) == 0
    assert capsys.readouterr() == (HEAD, "No streams in these logs.\n")


@pytest.mark.parametrize(
    ("bad", "words"), [("nonsense\n", "1 line was not JSON and was skipped."), ("x\n" * 1200, "1,200 lines were")]
)
def test_usage_tells_what_it_skipped(capsys: pytest.CaptureFixture[str], bad: str, words: str) -> None:
    Path("access.log").write_text(LOG + bad)
    assert main(["usage", "access.log", "--csv"]) == 0
    told = capsys.readouterr()
    assert words in told.err
    assert told.out.splitlines()[1].startswith("2026-03-01,team,m,2,")


STARTS = [
    "",
    UPSTREAM,
    UPSTREAM + '[server]\nallow_anonymous = true\n[[keys]]\nname = "k"\nkey = "0123456789abcdef"\n',
    UPSTREAM + '[[models]]\nname = "m"\ntargets = [{upstream = "up"}]\n',
]


@pytest.mark.parametrize("toml", STARTS)
def test_usage_passes_over_what_the_gateway_says_at_its_start(capsys: pytest.CaptureFixture[str], toml: str) -> None:
    """A log that standard error was sent to holds those lines, too."""
    Path("config.toml").write_text("")
    said = [*announced("http://127.0.0.1:8080", load(toml, {})), *unread(None), announced_demo("http://127.0.0.1:9090")]
    Path("access.log").write_text("\n".join([*said, LOG]))
    assert main(["usage", "access.log", "--csv"]) == 0
    assert capsys.readouterr().err == ""


def test_usage_passes_over_what_a_failed_start_says(capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.toml").write_text("[server]\nport = 'x'\nprot = 1\n[[upstreams]]\nheaders = {x = 1}\n")
    assert main(["serve", "--config", "bad.toml"]) == 2
    Path("access.log").write_text(capsys.readouterr().err + LOG)
    assert main(["usage", "access.log", "--csv"]) == 0
    assert capsys.readouterr().err == ""


COMPRESSED = gzip.compress(LOG.encode() * 1000)
UNREADABLE = {
    "not there": ("none.log", None),
    "a folder": (".", None),
    "not there, compressed": ("none.gz", None),
    "cut": ("cut.gz", COMPRESSED[:-20]),
    "damaged": ("damaged.gz", COMPRESSED[:40] + bytes(100) + COMPRESSED[140:]),
    "with a wrong sum": ("sum.gz", COMPRESSED[:-8] + bytes(8)),
    "not compressed at all": ("plain.gz", LOG.encode()),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_log_that_cannot_be_read_is_status_2_and_named(capsys: pytest.CaptureFixture[str], case: str) -> None:
    """No sums are printed: half of them would be taken for the whole."""
    name, data = UNREADABLE[case]
    if data is not None:
        Path(name).write_bytes(data)
    Path("access.log").write_text(LOG)
    assert main(["usage", "access.log", name]) == 2
    told = capsys.readouterr()
    assert told.err.startswith("The log cannot be read: ")
    assert told.err.endswith(f": {name}\n")
    assert not told.out


@pytest.mark.parametrize(
    ("by", "words"),
    [
        ("", "'' is not a group; choose from day, key, model, with commas between them"),
        ("day,", "'' is not a group"),
        ("week", "'week' is not a group"),
        ("key,week", "'week' is not a group"),
        ("key,key", "'key' appears more than once; name each group once"),
    ],
)
def test_usage_by_wrong_groups_is_status_2(capsys: pytest.CaptureFixture[str], by: str, words: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["usage", "access.log", "--by", by])
    assert words in capsys.readouterr().err


def usage_process(*arguments: str, **environ: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "gateway", "usage", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **environ},
    )


def test_usage_of_standard_input_on_a_terminal_that_knows_only_ascii() -> None:
    """Names are written with escapes there, and break nothing."""
    with usage_process("-", "--by", "model", PYTHONIOENCODING="ascii") as process:
        out, err = process.communicate(line("a", model="é好").encode(), timeout=20)
    assert (process.returncode, err) == (0, b"")
    assert rb"\xe9\u597d" in out


def test_usage_whose_reader_left_is_no_failure() -> None:
    """As `gateway usage ... | head` does."""
    lines = "\n".join([line(f"s{n}", model=f"{n:05}") for n in range(3000)])
    Path("access.log").write_text(lines)
    with usage_process("access.log") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=20) == 0


LOOK = 65_536  # lines between two looks at the clock


@pytest.mark.parametrize(
    ("terminal", "lines", "seconds", "told"),
    [
        (False, 3 * LOOK, 100.0, ""),
        (True, 10, 100.0, ""),
        (True, LOOK - 1, 100.0, ""),
        (True, 3 * LOOK, 0.1, ""),
        (True, LOOK, 2.0, "\r65,536 lines\r\x1b[K"),
        (True, 2 * LOOK + 5, 2.0, "\r65,536 lines\r131,072 lines\r\x1b[K"),
    ],
    ids=["no terminal", "few lines", "nearly enough", "fast", "one look", "two looks"],
)
def test_a_terminal_is_told_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, lines: int, seconds: float, told: str
) -> None:
    """Once it takes more than a second; and nothing of that stays on the screen."""
    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: terminal)
    monkeypatch.setattr(sys, "stderr", screen)
    clock = iter([0.0])
    assert sum(1 for _ in with_progress([b""] * lines, now=lambda: next(clock, seconds))) == lines
    assert screen.getvalue() == told


def test_a_line_that_cannot_be_read_leaves_nothing_on_the_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaking() -> Iterator[bytes]:
        yield from [b""] * LOOK
        raise OSError

    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", screen)
    clock = iter([0.0])
    with pytest.raises(OSError):  # noqa: PT011 (any: it is passed on as it is)
        list(with_progress(breaking(), now=lambda: next(clock, 5.0)))
    assert screen.getvalue().endswith("\r\x1b[K")


# As a process


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


async def test_serve_demo_rescues_answers() -> None:
    """The second target answers in place of demo-flaky, and finishes what demo-rescued has begun."""
    async with running("serve", "--demo") as (_, address), aiohttp.ClientSession() as session:
        for model, attempts in {"demo-flaky": 3, "demo-rescued": 2}.items():
            url = f"{address}/chat?q=Hello&max_tokens=20&model={model}"
            async with session.get(url, headers=EVENTS) as response:
                answer = Answer(await response.read())
            end = answer.end
            assert (end["reason"], end["model"], end["attempts"]) == ("complete", "demo-backup", attempts)


async def test_serve_says_that_there_is_a_config_which_it_does_not_read(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("")
    async with running("serve", "--demo") as (process, _):
        assert any("There is a config.toml in this folder" in line for line in await stops_cleanly(process))


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


async def test_a_second_sigterm_ends_streams_with_a_failure_and_exit_status_0() -> None:
    async with running("serve", "--demo") as (process, address), aiohttp.ClientSession() as session:
        async with session.get(f"{address}/chat?q=x&model=demo-clock", headers=EVENTS) as response:
            await response.content.readuntil(b"data: ")
            process.terminate()
            process.send_signal(signal.SIGINT)  # another one: two of a kind may arrive as one
            answer = Answer(await response.read())
        assert answer.failure["error"]["code"] == "shutting_down"
        assert answer.end["reason"] == "shutting_down"
        await ends_cleanly(process)


async def stops_cleanly(process: asyncio.subprocess.Process) -> list[str]:
    """Sends SIGINT; the process ends with status 0 and no traceback. Returns the lines it wrote."""
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGINT)
    return await ends_cleanly(process)
