"""README and the example configuration are true: commands run, TOML loads, options exist.

The pages in `.github/docs` are in `test_documents.py`.
"""

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

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
DOCUMENTS = ROOT / ".github" / "docs"
EXAMPLE = (ROOT / "config.example.toml").read_text()
ENVIRON = {
    "MOONSHOT_API_KEY": "a",
    "OPENAI_API_KEY": "b",
    "ANTHROPIC_API_KEY": "c",
    "TEAM_B_KEY": "a-key-of-sixteen-characters",
}


def blocks(language: str, page: str = README) -> list[str]:
    """The code blocks of a page that are in this language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)


def document(name: str) -> str:
    """The text of a page in `.github/docs`."""
    return (DOCUMENTS / name).read_text()


def test_it_is_short_enough_to_be_read() -> None:
    assert len(README.splitlines()) <= 200


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
    lines = [re.sub(r'"receipt":\{.*?\}', '"receipt":{...}', line) for line in lines]
    return [re.sub(r'"usage":\{.*\},"stream"', '"usage":{...},"stream"', line) for line in lines]


@pytest.mark.parametrize("toml", [*blocks("toml", document("operating.md")), EXAMPLE], ids=lambda toml: toml[:20])
def test_toml_loads(toml: str) -> None:
    config = load(toml, ENVIRON)
    assert all(assistant.system for assistant in config.assistants.values())
    targets = {model.name: model.targets[0].upstream for model in config.models}
    assert targets["kimi"] == "moonshot" if "[[models]]" in toml else not targets  # or it is about other tables


def test_the_example_holds_every_option_with_its_default() -> None:
    """Commented out or not: what is shown for the tables that are there by default is the default."""
    for kind in (Upstream, Model, TargetName, Assistant, Timeouts, Key, Prices):
        for field in msgspec.structs.fields(kind):
            assert re.search(rf"\b{field.encode_name} = ", EXAMPLE), field.encode_name
    tables = re.split(r"^\[", EXAMPLE, flags=re.MULTILINE)
    default = Config()
    for name in ("server", "stream", "store", "retry", "breaker"):
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


def test_ci_runs_readmes_test_command() -> None:
    (command,) = (line for line in README.splitlines() if line.endswith("-m pytest"))
    assert "grep -m 1 -- '-m pytest$' README.md" in (ROOT / ".ci" / "run").read_text()
    assert command.startswith("python3 -m venv")
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
