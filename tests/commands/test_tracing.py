"""`gateway serve` with a collector that only the environment names: its spans, its log and its end."""

import asyncio
import json
import time
from pathlib import Path

import aiohttp
import pytest

from tests.commands.conftest import Mode
from tests.rig.clients import EVENTS, Answer
from tests.rig.collector import Collector
from tests.rig.processes import ends_cleanly, running, shell
from tests.rig.scripted_upstream import DONE, ScriptedUpstream, delta, finish, stream


@pytest.mark.parametrize("answers", [True, False], ids=["a collector", "a collector that stands still"])
async def test_a_process_sends_its_spans_and_ends_in_time(upstream: ScriptedUpstream, answers: bool) -> None:
    upstream.script(stream(delta("Hello"), finish(), DONE))
    collector = Collector()
    if not answers:
        collector.answers.clear()
    environ = {
        "OPENAI_BASE_URL": f"{upstream.url}/v1",
        "OPENAI_MODEL": "m",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "10",
    }
    async with running("serve", **environ) as (process, address), aiohttp.ClientSession() as session:
        async with session.get(f"{address}/chat?q=hi", headers=EVENTS) as response:
            assert Answer(await response.read()).end["reason"] == "complete"
        if answers:
            assert {span.name for span in await collector.until(2)} == {"GET /chat", "chat m"}
        stopped_at = time.monotonic()
        process.terminate()
        lines = [json.loads(line) for line in await ends_cleanly(process) if line.startswith("{")]
    assert time.monotonic() - stopped_at < 4
    told = [line["message"] for line in lines if line["level"] == "warning"]
    assert told == ([] if answers else ["the last traces were not taken in time, and are lost"])
    (access,) = [line for line in lines if line["logger"] == "gateway.access"]
    assert len(access["trace_id"]) == 32
    collector.close()


async def test_each_of_several_workers_sends_its_spans(upstream: ScriptedUpstream) -> None:
    """Its thread begins in the worker: one that the parent had begun would not be there after the fork."""
    upstream.script(stream(delta("Hello"), finish(), DONE))
    collector = Collector()
    environ = {
        "OPENAI_BASE_URL": f"{upstream.url}/v1",
        "OPENAI_MODEL": "m",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "10",
    }
    streams: list[str] = []
    async with running("serve", "--workers", "2", **environ) as (process, address):
        while len({one[:4] for one in streams}) < 2:  # the beginning of an id names the worker
            assert len(streams) < 100
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"{address}/chat?q=hi", headers=EVENTS) as answer,
            ):
                streams.append(Answer(await answer.read()).end["stream"])
        assert len(await collector.until(2 * len(streams))) == 2 * len(streams)
        process.terminate()
        await ends_cleanly(process)
    collector.close()


async def test_missing_packages_are_told_once(upstream: ScriptedUpstream, tmp_path: Path, mode: Mode) -> None:
    """And the gateway serves without traces."""
    (tmp_path / "opentelemetry.py").write_text("raise ImportError")
    upstream.script(stream(delta("Hello"), finish(), DONE))
    environ = {
        "OPENAI_BASE_URL": f"{upstream.url}/v1",
        "OPENAI_MODEL": "m",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
        "PYTHONPATH": str(tmp_path),
    }
    pipe = asyncio.subprocess.PIPE
    async with (
        shell('exec "$@"', "serve", *mode, stderr=pipe, **environ) as (process, address),
        aiohttp.ClientSession() as session,
    ):
        async with session.get(f"{address}/chat?q=hi", headers=EVENTS) as response:
            assert Answer(await response.read()).text == "Hello"
        process.terminate()
        lines = await ends_cleanly(process)
    assert ["pip install 'gateway[otel]'" in line for line in lines if "traces" in line] == [True]
