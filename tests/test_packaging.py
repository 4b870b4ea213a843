"""The container image, built and run step by step without Docker."""

import asyncio
import json
import os
import signal
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path
from zipfile import ZipFile

import aiohttp
import pytest

from tests.rig.dockerfile import Image, instructions
from tests.rig.ports import free_port, refusing
from tests.rig.processes import answers
from tests.test_readme import ROOT

DOCKERFILE = (ROOT / ".github" / "Dockerfile").read_text()
CONFIG = """
[server]
allow_anonymous = true
port = 1 # the command line overrides it, because the health check has to know the port
[[upstreams]]
name = "up"
base_url = "http://127.0.0.1:9/v1"
"""


def test_the_image_needs_no_shell_and_no_privileges() -> None:
    said = list(instructions(DOCKERFILE))
    names = [name for name, _ in said]
    assert names.count("FROM") == 2  # what builds does not run
    final = dict(said[names.index("FROM", 1) :])
    assert "RUN" not in final
    assert final["USER"].split(":")[0].isdecimal()  # Kubernetes can check that it is not root
    assert json.loads(final["ENTRYPOINT"]) == ["/opt/gateway/bin/gateway"]
    port = final["EXPOSE"]
    assert json.loads(final["CMD"])[-2:] == ["--port", port]
    assert f"http://127.0.0.1:{port}/healthz" in final["HEALTHCHECK"]
    for name, arguments in said:
        assert name != "RUN" or json.loads(arguments)


@pytest.fixture
def root() -> Iterator[Path]:
    """A folder that other users can reach, unlike those of pytest."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.mark.long
async def test_the_image_builds_serves_tells_its_health_and_stops(root: Path) -> None:
    """From a folder that holds nothing, by a user who may write nowhere, with an empty environment."""
    image = await asyncio.to_thread(Image, DOCKERFILE, ROOT, root)
    check_wheel(next((root / "wheels").glob("gateway-*.whl")))
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["name"]
    assert (await said(image, image.command("--version"))).startswith(f"{version} ")

    (root / "etc" / "gateway").mkdir(parents=True)
    (root / "etc" / "gateway" / "config.toml").write_text(CONFIG)
    for words in (["serve", "--demo", "--port", "8080"], []):
        await serves(image, image.command(*words))
    assert list(image.folder.iterdir()) == []


def check_wheel(wheel: Path) -> None:
    """It has everything that `uvx` and `pipx run` need, and what the pages need, and nothing else."""
    with ZipFile(wheel) as files:
        names = files.namelist()
        entry = files.read(next(name for name in names if name.endswith("entry_points.txt"))).decode()
        fields = message_from_bytes(files.read(next(name for name in names if name.endswith("METADATA"))))
    assert "gateway = gateway.cli:main" in entry
    assert fields["Requires-Python"] == ">=3.11"
    assert {"gateway/py.typed", "gateway/playground/client.js"} <= set(names)
    assert {name.split("/")[0].split("-")[0] for name in names} == {"gateway"}


async def serves(image: Image, command: list[str]) -> None:
    port = str(free_port())
    process = started(image, [port if word == "8080" else word for word in command])
    try:
        await answers(int(port))
        await has_its_files(f"http://127.0.0.1:{port}", demo="--demo" in command)
        check = [word.replace(":8080/", f":{port}/") for word in image.health_check]
        with refusing() as nobody:
            assert await said(image, check, http_proxy=f"http://127.0.0.1:{nobody}") == ""
            broken = started(image, [word.replace(f":{port}/", f":{nobody}/") for word in check])
            assert (await ended(broken))[0] == 1
        process.send_signal(signal.Signals[image.stop_signal])
        status, written = await ended(process)
        assert (status, "Traceback" in written) == (0, False)
    finally:
        process.kill()
        process.wait()


async def has_its_files(address: str, *, demo: bool) -> None:
    async with aiohttp.ClientSession(address) as session:
        async with session.get("/") as page:
            assert (page.status, page.content_type) == (200, "text/html")
        if demo:
            async with session.get("/v1/models") as models:
                assert "demo" in [model["id"] for model in (await models.json())["data"]]


def started(image: Image, command: list[str], **environ: str) -> subprocess.Popen[str]:
    groups: list[int] | None = None if image.user is None else []
    return subprocess.Popen(
        command,
        cwd=image.folder,
        env=environ,
        user=image.user,
        group=image.user,
        extra_groups=groups,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


async def said(image: Image, command: list[str], **environ: str) -> str:
    status, written = await ended(started(image, command, **environ))
    assert status == 0, written
    return written


async def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """The exit status, and all that it wrote."""
    output, errors = await asyncio.to_thread(process.communicate, timeout=20)
    return process.returncode, output + errors
