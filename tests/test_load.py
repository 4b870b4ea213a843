"""The load test of `.github/docs/performance.md`, with its own commands, for two seconds instead of ten."""

import asyncio
import re
import shutil
import subprocess

import pytest

from tests.rig.processes import running
from tests.test_readme import ROOT, blocks, document


async def test_the_wrk_recipe_runs_without_an_error() -> None:
    if shutil.which("wrk") is None:
        pytest.skip("wrk is not installed")
    (recipe,) = (block.splitlines() for block in blocks("bash", document("performance.md")) if "wrk " in block)
    (upstream_line,) = (line for line in recipe if "demo-upstream" in line)
    (wrk_line,) = (line for line in recipe if line.startswith("wrk "))
    upstream_arguments = re.sub(r" --port \d+", "", upstream_line.split("gateway ")[1].rstrip(" &")).split()
    async with running(*upstream_arguments) as (_, upstream):
        environ = {"OPENAI_BASE_URL": upstream.removesuffix("/v1") + "/v1", "OPENAI_MODEL": "demo"}
        async with running("serve", **environ) as (process, address):
            assert process.stderr is not None
            reading = asyncio.create_task(process.stderr.read())
            wrk = wrk_line.replace("-d10s", "-d2s").replace("http://127.0.0.1:8080", address).split()
            done = await asyncio.to_thread(subprocess.run, wrk, cwd=ROOT, capture_output=True, text=True, timeout=30)
            process.terminate()
            logged = (await reading).decode()
    (answers,) = re.findall(r"Answers: (\d+) complete, (\d+) not, (\d+) socket errors", done.stdout)
    assert int(answers[0]) > 50, done.stdout
    assert answers[1:] == ("0", "0"), done.stdout
    assert "Traceback" not in logged
