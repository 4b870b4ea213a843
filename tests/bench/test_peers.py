"""Other routers: how they are installed, started and asked, with a stand-in where PyPI would be."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench import choice, installing, measure, peers, wire
from tests.bench.installing import Environment
from tests.bench.options import parse
from tests.bench.processes import ROOT, BenchError, Cores, choose_cores

needs_proc = pytest.mark.skipif(not measure.supported(), reason="needs Linux's /proc")

# As the routers do, it says that it is ready, and answers a question whole; its name and its arguments are theirs.
ROUTER = f"""#!{sys.executable}
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(b"ready" if self.path == "/readiness" else b"")

    def do_POST(self):
        self.answer(ANSWER)

    def answer(self, body):
        self.send_response(200 if body else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

ANSWER = b"data: [DONE]"
port = int(sys.argv[sys.argv.index("--port") + 1])
ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


def cores() -> Cores:
    return choose_cores([0], pin=False)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands for an environment that has every router: what is installed is the script `ROUTER`."""
    monkeypatch.setattr(peers, "environment", lambda *_: Environment(tmp_path, "1.2.3"))
    return tmp_path


def put(directory: Path, name: str, text: str) -> None:
    (directory / name).write_text(text)
    (directory / name).chmod(0o755)


def test_peers_are_asked_for_by_name():
    assert parse(["--peers", "vllm-router,smg==1.13.0"]).peers == ["vllm-router", "smg==1.13.0"]


def test_a_peer_that_nobody_knows_is_refused(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        parse(["--peers", "nobody"])
    assert "no such peer is known: nobody (there are vllm-router, smg)" in capsys.readouterr().err


def test_peers_are_installed_outside_the_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert parse([]).peers_cache == tmp_path / "gateway-bench"
    assert parse(["--peers-cache", "elsewhere"]).peers_cache == Path("elsewhere")


@needs_proc
def test_a_peer_stands_beside_both_surfaces(installed: Path):
    put(installed, "smg", ROUTER)
    chosen = choice.choose(parse(["--peers", "smg", "--no-pin"]), tell=print)
    assert {"direct", "gateway", "relay", "smg"} <= set(chosen.contenders)
    assert (chosen.versions, chosen.reasons) == ({"smg": "1.2.3"}, [])
    only = choice.choose(parse(["--peers", "smg", "--only", "relay", "--no-pin"]), tell=print)
    assert list(only.contenders) == ["relay", "smg"]


@needs_proc
@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("#!/bin/sh\necho its license has ended >&2; exit 3\n", "did not start: its license has ended"),
        (ROUTER.replace("[DONE]", "never"), "answered with status 200: data: never"),
    ],
    ids=["start", "answer"],
)
def test_a_peer_that_does_not_work_is_left_out_with_the_reason_in_a_line(installed: Path, program: str, reason: str):
    put(installed, "smg", program)
    put(installed, "vllm-router", ROUTER)
    found = peers.ready(["smg", "vllm-router"], installed, cores(), tell=print)
    assert list(found.contenders) == ["vllm-router"]
    [told] = found.reasons
    assert told.startswith("smg is left out: ")
    assert reason in told
    assert "\n" not in told


def test_a_peer_that_is_not_installed_is_left_out_with_the_reason_in_a_line(tmp_path: Path):
    (tmp_path / "smg").write_text("a file where the environment would be")
    found = peers.ready(["smg"], tmp_path, cores(), tell=print)
    assert found.contenders == {}
    [told] = found.reasons
    assert told.startswith("smg is left out: smg is not installed: ")
    assert "\n" not in told


def test_what_is_installed_is_not_installed_again(tmp_path: Path):
    """The version is asked of the environment; a missing one is no version."""
    programs = tmp_path / "pytest" / "bin"
    programs.mkdir(parents=True)
    (programs / "python").symlink_to(sys.executable)
    (tmp_path / "pytest" / "pyvenv.cfg").write_text(Path(sys.prefix, "pyvenv.cfg").read_text())
    (tmp_path / "pytest" / "lib").symlink_to(Path(sys.prefix, "lib"))
    told: list[str] = []
    found = installing.environment("pytest", tmp_path, told.append)
    assert (found.version, told) == (pytest.__version__, [])


@pytest.mark.long
@needs_proc
def test_a_run_goes_on_without_a_peer_that_cannot_be_installed(tmp_path: Path):
    (tmp_path / "smg").write_text("a file where the environment would be")
    command = [sys.executable, "-m", "tests.bench", "--quick", "--streams", "2", "--seconds", "0.3"]
    asked = ["--only", "relay", "--peers", "smg", "--peers-cache", str(tmp_path)]
    done = subprocess.run([*command, *asked], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "smg is left out: smg is not installed" in done.stderr
    assert "CPU per event" in done.stdout


def test_only_a_missing_peer_ends_the_run_with_its_reason(tmp_path: Path):
    (tmp_path / "smg").write_text("a file where the environment would be")
    with pytest.raises(BenchError, match=r"no such contender here: smg [^\n]*\nsmg is left out: smg is not installed"):
        choice.choose(parse(["--peers", "smg", "--only", "smg", "--peers-cache", str(tmp_path)]), tell=print)


# What the upstream answers them.


@pytest.mark.parametrize("path", [b"/health", b"/healthz", b"/v1/models"])
def test_the_upstream_is_found_healthy_and_lists_a_model(path: bytes):
    answer = wire.Answer()
    body = answer.feed(wire.page(b"GET " + path + b" HTTP/1.1"))
    assert answer.head is not None
    assert (answer.head.status, answer.ended) == (200, True)
    assert body.startswith(b"{")


def test_the_upstream_knows_no_other_page():
    assert wire.page(b"GET /server_info HTTP/1.1").startswith(b"HTTP/1.1 404 ")


def test_a_question_may_be_in_a_message():
    body = peers.BODY.replace(wire.MODEL_PLACEHOLDER, wire.model_name(3.5, 40)).encode()
    assert wire.asked(body) == wire.Asked(rate=3.5, events=40)
