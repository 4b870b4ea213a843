"""Runs nginx: with a configuration that a test has written, or with README's block, as it stands there or spoiled."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.rig.ports import free_port
from tests.rig.processes import answers
from tests.test_readme import blocks

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/bin")


@asynccontextmanager
async def nginx_with(configuration: str, folder: Path, port: int) -> AsyncIterator[None]:
    """Yields once something listens on the port. Skips the test where nginx is not installed."""
    if NGINX is None:
        pytest.skip("nginx is not installed")
    (folder / "nginx.conf").write_text(configuration)
    command = [NGINX, "-p", str(folder), "-c", "nginx.conf", "-e", f"{folder}/error.log", "-g", "daemon off;"]
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
    try:
        await answers(port)
        yield
    finally:
        process.terminate()
        await process.wait()


@asynccontextmanager
async def before(gateway: int, folder: Path, changes: Mapping[str, str]) -> AsyncIterator[str]:
    """The address of an nginx before the gateway at this port. `changes` has texts of the block with their new ones."""
    port = free_port()
    (block,) = blocks("nginx")
    places = {"127.0.0.1:8080": f"127.0.0.1:{gateway}", "listen 80;": f"listen 127.0.0.1:{port};"}
    for old, new in {**places, "/var/log/nginx/": f"{folder}/", **changes}.items():
        assert old in block
        block = block.replace(old, new)
    configuration = (
        f"pid {folder}/pid; error_log {folder}/error.log warn; worker_processes 1;\nevents {{}}\nhttp {{\n{block}\n}}\n"
    )
    async with nginx_with(configuration, folder, port):
        yield f"http://127.0.0.1:{port}"
