"""README and the example configuration are true: commands run, TOML loads, numbers are the defaults."""

import asyncio
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from gateway.config import Config, load
from gateway.config.schema import Assistant, Key, Model, Prices, TargetName, Timeouts, Upstream
from tests.conftest import MakeGateway
from tests.rig.clients import ask
from tests.rig.scripted_upstream import DONE, ScriptedUpstream, delta, finish, stream

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
EXAMPLE = (ROOT / "config.example.toml").read_text()
ENVIRON = {"MOONSHOT_API_KEY": "a", "OPENAI_API_KEY": "b", "TEAM_B_KEY": "a-key-of-sixteen-characters"}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def test_the_first_two_commands_are_one_line_each() -> None:
    first, tests = (block for block in blocks("bash") if "venv" in block)
    assert first.endswith("&& .venv/bin/gateway serve --demo\n")
    assert tests.endswith("&& .venv/bin/python -m pytest\n")
    assert first.count("\n") == tests.count("\n") == 1
    assert first.startswith("python3 -m venv .venv && ")
    assert tests.startswith("python3 -m venv .venv && ")


async def test_the_curl_example_shows_what_readme_shows() -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    (command,) = (block for block in blocks("bash") if block.startswith("curl"))
    (shown,) = (block for block in blocks("") if block.startswith("retry: "))
    gateway = [sys.executable, "-m", "gateway", "serve", "--demo", "--port", "0"]
    process = await asyncio.create_subprocess_exec(*gateway, stderr=asyncio.subprocess.PIPE)
    assert process.stderr is not None
    try:
        address = (await process.stderr.readline()).decode().split()[-1]
        curl = command.replace("http://127.0.0.1:8080", address)
        done = await asyncio.to_thread(subprocess.run, ["bash", "-c", curl], capture_output=True, timeout=30)
    finally:
        process.terminate()
        await process.communicate()
    first, last = shape(done.stdout.decode()), shape(shown)
    assert first[:7] == last[:7]
    assert first[-3:] == last[-3:]


def shape(events: str) -> list[str]:
    """The lines with their ids, token counts and texts left out."""
    lines = [re.sub(r"[\w-]{22}", "ID", line) for line in events.strip().splitlines()]
    return [re.sub(r'"usage":\{.*\},"stream"', '"usage":{...},"stream"', line) for line in lines]


@pytest.mark.parametrize("toml", [*blocks("toml"), EXAMPLE], ids=lambda toml: toml[:20])
def test_toml_loads(toml: str) -> None:
    config = load(toml, ENVIRON)
    assert config.assistants["maths"].system
    assert {model.name: model.targets[0].upstream for model in config.models}["kimi"] == "moonshot"


def test_the_example_holds_every_option_with_its_default() -> None:
    """Commented out or not: what is shown for the tables that are there by default is the default."""
    for kind in (Upstream, Model, TargetName, Assistant, Timeouts, Key, Prices):
        for field in msgspec.structs.fields(kind):
            assert re.search(rf"\b{field.encode_name} = ", EXAMPLE), field.encode_name
    tables = re.split(r"^\[", EXAMPLE, flags=re.MULTILINE)
    default = Config()
    for name in ("server", "stream", "store"):
        (text,) = (table for table in tables if table.startswith(f"{name}]"))
        for field in msgspec.structs.fields(type(getattr(default, name))):
            assert re.search(rf"^(# )?{field.encode_name} = ", text, re.MULTILINE), field.encode_name
        loaded = getattr(load(f"[{text}", {}), name)
        assert loaded == getattr(default, name)


def test_the_providers_base_urls_are_taken() -> None:
    urls = re.findall(r"\| `(https?://[^`]+)` \|", README)
    assert len(urls) >= 6
    for url in urls:
        (upstream,) = load("", {"OPENAI_BASE_URL": url}).upstreams
        assert upstream.base_url == url


def test_the_page_talks_to_the_gateway_as_readme_shows() -> None:
    assert (ROOT / "gateway" / "playground" / "client.js").read_text() in blocks("js")


def test_limits_are_the_defaults() -> None:
    config = load("", {})
    assert "8 KiB" in README
    assert config.server.max_body_bytes == 1 << 20
    assert config.stream.max_event_bytes == 1 << 20
    assert config.stream.max_bytes == 8 << 20
    assert (config.store.max_streams, config.store.max_bytes) == (20_000, 256 << 20)
    assert (config.stream.keep_seconds, config.stream.grace_seconds, config.stream.max_orphans) == (300, 30, 1000)
    for option in re.findall(r"`((?:server|stream|store)\.\w+)`", README):
        table, name = option.split(".")
        assert hasattr(getattr(config, table), name)


def test_links_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / ".github" / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!http|#)([^)]+)\)", page.read_text()):
            assert (page.parent / target.partition("#")[0]).exists(), (page.name, target)


async def test_the_events_table_names_what_is_sent(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    table = README.split("| Event | `data` |")[1].split("\n\n")[0]
    named = set(re.findall(r"`(\w+)`", " ".join(re.findall(r"^\|([^|]*)\|", table, re.MULTILINE))))
    upstream.script(stream(delta("a"), finish(), DONE))
    answer = await ask(await gateway())
    assert {event.type for event in answer.events} <= named


def test_ci_runs_readmes_test_command() -> None:
    (command,) = (line for line in README.splitlines() if line.endswith("-m pytest"))
    assert "grep -m 1 -- '-m pytest$' README.md" in (ROOT / ".ci" / "run").read_text()
    assert command.startswith("python3 -m venv")
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
