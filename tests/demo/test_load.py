"""The demo under wrk: 64 connections, as a load test of the gateway would have it."""

import asyncio
import re
import shutil

import pytest
from aiohttp.test_utils import TestServer

from gateway.demo import create_demo

from .conversation import PATH

SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"model": "demo", "stream": true, "messages": [{"role": "user", "content": "Hello"}]}'
"""


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
async def test_it_stands_up_to_wrk(aiohttp_server, tmp_path, caplog):
    caplog.set_level("WARNING")
    server: TestServer = await aiohttp_server(create_demo(tokens=2, interval=0))
    script = tmp_path / "post.lua"
    script.write_text(SCRIPT)
    arguments = ["-t1", "-c64", "-d2s", "-s", str(script), str(server.make_url(PATH))]
    wrk = await asyncio.create_subprocess_exec("wrk", *arguments, stdout=asyncio.subprocess.PIPE)
    output = (await wrk.communicate())[0].decode()
    assert wrk.returncode == 0
    assert "Socket errors" not in output
    assert "Non-2xx" not in output
    completed = re.search(r"(\d+) requests in", output)
    assert completed
    assert int(completed[1]) > 500, output  # thousands a second on an idle machine; a busy one must not fail this
    assert not caplog.records  # wrk drops 64 connections at its end, which is ordinary
