"""`gateway check --connect`: each upstream is asked once, and what it met is told so that one knows what to mend."""

import asyncio
import time
from pathlib import Path

import pytest

from gateway.bounds import Bounds
from gateway.cli import main
from gateway.commands import probe
from gateway.config import Config, load
from tests.rig.ports import refusing
from tests.rig.scripted_upstream import DONE, Close, ScriptedUpstream, Send, Stall, Step, answer, delta, finish, stream

MODELS = {"object": "list", "data": [{"id": "m"}, {"id": "n"}, {"id": "o"}]}
NOT_FOUND = answer(404, {"detail": "Not Found"})
MOVED = answer(301, b"", Location="https://elsewhere.example/?key=secret")
GREETING: list[Step] = [Send(b"SSH-2.0-OpenSSH_9.2p1\r\n"), Close()]
ANSWER = stream(delta("H"), finish("length"), DONE)


def error(message: str, code: str | None = None) -> dict[str, object]:
    return {"error": {"message": message, "code": code}}


def configured(url: str, toml: str = "", **environ: str) -> Config:
    text = f'{toml}\n[[upstreams]]\nname = "up"\nbase_url = "{url}/v1"\napi_key = "sk-secret-of-ours"\n'
    return load(text, environ)


# What the server does -> whether it is a fault, and what is said. The second script is for the question of one token.
MET: dict[str, tuple[list[list[Step]], bool, str]] = {
    "a list": ([answer(200, MODELS)], False, "reachable, 3 models"),
    "a list of one": ([answer(200, {"data": [{"id": "m"}]})], False, "reachable, 1 model"),
    "a list without ours": ([answer(200, {"data": [{"id": "x"}]})], False, "1 model; missing: m"),
    "a bad key": ([answer(401, error("bad key sk-secret-of-ours"))], True, "refused the gateway's credentials"),
    "a path that is not there": ([NOT_FOUND, NOT_FOUND], True, "does `base_url` lack `/v1`?"),
    "no list": ([NOT_FOUND, ANSWER], False, "reachable, without a list of models; m answers"),
    "a list that cannot be read": ([answer(200, b"no"), ANSWER], False, "without a list of models; m answers"),
    "no such model": ([NOT_FOUND, answer(404, error("no model m", "model_not_found"))], True, "no model m"),
    "no one token": ([NOT_FOUND, answer(400, error("max_tokens is old"))], False, "it answered: max_tokens is old"),
    "too much to do": ([answer(429, error("slow")), answer(429, error("slow"))], True, "refused with 429: slow"),
    "a redirect": ([MOVED, MOVED], True, "redirects with status 301. The operator has to look at `base_url`"),
    "something else than HTTP": ([GREETING, GREETING], True, "did not answer in HTTP"),
    "a broken server": ([answer(500, b"")], True, "failed with status 500"),
    "TLS": ([answer(400, b"Client sent an HTTP request to an HTTPS server.")], True, "`base_url` needs https"),
}


@pytest.mark.parametrize("endpoint", ["completions", "embeddings", "moderations", "rerank"])
async def test_a_model_without_chats_is_asked_where_it_can_be(upstream: ScriptedUpstream, endpoint: str) -> None:
    upstream.script(NOT_FOUND, answer(200, {"data": []}))
    rows = f'[[models]]\nname = "m"\ntargets = [{{upstream = "up"}}]\nendpoints = ["{endpoint}"]\n'
    (finding,) = await asyncio.to_thread(probe.probe, configured(upstream.url, rows))
    assert finding.words == "reachable, without a list of models; m answers"
    assert [request.path for request in upstream.requests] == ["/v1/models", f"/v1/{endpoint}"]
    assert upstream.requests[1].json["model"] == "m"


async def test_a_model_with_responses_alone_is_asked_for_one(upstream: ScriptedUpstream) -> None:
    upstream.script(NOT_FOUND, answer(200, {"output": []}))
    rows = '[[models]]\nname = "m"\ntargets = [{upstream = "maker"}]\nendpoints = ["responses"]\n'
    rows += f'[[upstreams]]\nname = "maker"\napi = "responses"\nbase_url = "{upstream.url}/v1"\n'
    findings = await asyncio.to_thread(probe.probe, configured(upstream.url, rows))
    assert "without a list of models; m answers" in [finding.words.removeprefix("reachable, ") for finding in findings]
    assert "/v1/responses" in [request.path for request in upstream.requests]


@pytest.mark.parametrize("case", MET)
async def test_what_it_met(upstream: ScriptedUpstream, case: str) -> None:
    scripts, is_fault, words = MET[case]
    upstream.script(*scripts)
    config = configured(upstream.url, OPENAI_MODEL="m")
    (finding,) = await asyncio.to_thread(probe.probe, config)
    assert finding.upstream == "up"
    assert words in finding.words
    assert finding.is_fault == is_fault
    assert "secret" not in finding.words
    assert len(upstream.requests) <= 2
    assert upstream.requests[0].path == "/v1/models"
    if len(scripts) == 2:
        assert upstream.requests[1].json["max_tokens"] == 1


async def test_without_a_list_and_without_a_model_the_reason_is_told(upstream: ScriptedUpstream) -> None:
    upstream.script(NOT_FOUND)
    (finding,) = await asyncio.to_thread(probe.probe, configured(upstream.url))
    assert finding.is_fault
    assert "does `base_url` lack `/v1`?" in finding.words
    assert len(upstream.requests) == 1


async def test_a_refused_connection_is_told_with_its_address() -> None:
    with refusing() as port:
        (finding,) = await asyncio.to_thread(probe.probe, configured(f"http://127.0.0.1:{port}"))
    assert finding.is_fault
    assert "does not take connections" in finding.words
    assert f"at 127.0.0.1:{port}" in finding.words


async def test_all_are_asked_at_the_same_time_and_none_for_ever(upstream: ScriptedUpstream) -> None:
    upstream.script([Stall()])
    tables = [f'[[upstreams]]\nname = "up{n}"\nbase_url = "{upstream.url}/v1"\n' for n in range(20)]
    started = time.monotonic()
    findings = await asyncio.to_thread(probe.probe, load("".join(tables), {}), Bounds(probe_seconds=0.5))
    assert time.monotonic() - started < 5
    assert [finding.upstream for finding in findings] == [f"up{n}" for n in range(20)]
    assert all(finding.is_fault and "did not answer" in finding.words for finding in findings)


async def test_a_list_that_does_not_come_is_told_with_the_seconds(upstream: ScriptedUpstream) -> None:
    upstream.script([Stall()])
    (finding,) = await asyncio.to_thread(probe.probe, configured(upstream.url), Bounds(models_seconds=0.7))
    assert finding.is_fault
    assert "took too long" in finding.words
    assert finding.words.endswith("(after 1 s)")


async def test_a_model_is_asked_as_its_upstream_calls_it(upstream: ScriptedUpstream) -> None:
    upstream.script(NOT_FOUND, ANSWER)
    toml = '[[models]]\nname = "a"\ntargets = [{upstream = "up", model = "its-own"}]\n'
    await asyncio.to_thread(probe.probe, configured(upstream.url, toml))
    assert upstream.requests[1].json["model"] == "its-own"


async def test_the_command(
    upstream: ScriptedUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 1 on a fault; without --connect, nobody is asked."""
    monkeypatch.chdir(tmp_path)
    with refusing() as port:
        (tmp_path / "c.toml").write_text(
            f'[[upstreams]]\nname = "here"\nbase_url = "{upstream.url}/v1"\n'
            f'[[upstreams]]\nname = "gone"\nbase_url = "http://127.0.0.1:{port}/v1"\n'
        )
        assert await asyncio.to_thread(main, ["check", "--config", "c.toml"]) == 0
        assert upstream.requests == []
        upstream.script(answer(200, MODELS))
        capsys.readouterr()
        assert await asyncio.to_thread(main, ["check", "--config", "c.toml", "--connect"]) == 1
    told = capsys.readouterr()
    assert told.out.splitlines()[-2] == "here: reachable, 3 models"
    assert told.out.splitlines()[-1].startswith("gone: The model's server does not take connections.")
    assert told.err == ""
