"""The load test of `.github/docs/performance.md`, with its own commands, for two seconds instead of ten."""

import asyncio
import re
import shutil
import subprocess

import pytest

from tests.conftest import MakeGateway
from tests.rig.processes import running
from tests.rig.scripted_upstream import DONE, Close, ScriptedUpstream, Step, delta, finish, stream, usage
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


QUOTED = delta('"reason":"complete"')
DETAILED = usage(**{f"tokens_of_kind_{number}": number for number in range(100)})


@pytest.mark.parametrize(
    ("steps", "is_whole"),
    [(stream(delta("a"), finish(), DETAILED, DONE), True), (stream(QUOTED, Close()), False)],
    ids=["a whole answer with a long end", "a broken one that quotes an end"],
)
async def test_wrk_knows_a_whole_answer(
    gateway: MakeGateway, upstream: ScriptedUpstream, steps: list[Step], is_whole: bool
) -> None:
    if shutil.which("wrk") is None:
        pytest.skip("wrk is not installed")
    upstream.script(steps)
    client = await gateway()
    wrk = ["wrk", "-t1", "-c1", "-d1s", "-s", str(ROOT / "tests/load/chat.lua"), str(client.make_url("/"))]
    done = await asyncio.to_thread(subprocess.run, wrk, capture_output=True, text=True, timeout=30)
    (answers,) = re.findall(r"Answers: (\d+) complete, (\d+) not, 0 socket errors", done.stdout)
    assert [int(number) > 0 for number in answers] == [is_whole, not is_whole], done.stdout
