"""The servers that `--peers` installs, starts and measures: other routers that people run before their own models.

Each has one worker, the bench's upstream, and the setting that costs it least: the simplest policy, as there is nothing
to choose. Log and metrics stay as they come. They know only the models that the upstream lists, so the question is in a
message. They speak the OpenAI surface: compare them with `relay`.
"""

import http.client
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.bench.client import Target
from tests.bench.contenders import CHAT_COMPLETIONS, Contender, Site
from tests.bench.installing import Environment, environment, last_line
from tests.bench.processes import BenchError, Cores, paced_upstream, server
from tests.bench.wire import MODEL_PLACEHOLDER, model_name
from tests.rig.ports import HOST, free_port

_SHARED = (
    "--host {host} --port {port} --prometheus-port {metrics}"
    " --worker-urls http://{host}:{upstream} --policy round_robin"
)
PEERS = {"vllm-router": f"vllm-router {_SHARED}", "smg": f"smg launch {_SHARED}"}

_HEALTH = "/readiness"  # both have one: it waits for the worker, which `/health` of smg does not
_STOP_SECONDS = 0.5  # smg would wait five for a balancer in front of it
_PROBE_SECONDS = 5.0
BODY = '{"model":"bench","messages":[{"role":"user","content":"$MODEL"}],"stream":true}'


class Peers(NamedTuple):
    """Those that can be measured here, and why others cannot."""

    contenders: dict[str, Contender]
    versions: dict[str, str]
    reasons: list[str]


def ready(requirements: Sequence[str], cache: Path, cores: Cores, tell: Callable[[str], None]) -> Peers:
    """Installs each, and starts it once to see that it answers."""
    found = Peers({}, {}, [])
    for requirement in requirements:
        name = requirement.partition("==")[0]
        try:
            installed = environment(requirement, cache, tell)
            tell(f"{name} {installed.version}: does it answer?")
            contender = partial(running, name=name, installed=installed)
            _probe(name, contender, cores)
        except (BenchError, OSError) as error:
            found.reasons.append(f"{name} is left out: {' '.join(str(error).split())}")
        else:
            found.contenders[name], found.versions[name] = contender, installed.version
    return found


@contextmanager
def running(site: Site, *, name: str, installed: Environment) -> Iterator[Target]:
    port, log = free_port(), site.directory / f"{name}.log"
    filled = PEERS[name].format(host=HOST, port=port, upstream=site.upstream_port, metrics=free_port())
    program, *arguments = filled.split()
    command = [str(installed.programs / program), *arguments]
    try:
        with server(
            command, port, log=log, cores=site.cores.contender, health=_HEALTH, stop_seconds=_STOP_SECONDS
        ) as process:
            yield Target(HOST, port, CHAT_COMPLETIONS, {}, BODY, pids=[process.pid])
    except BenchError as error:
        raise BenchError(f"{name} did not start: {last_line(str(error))}") from error


def _probe(name: str, contender: Contender, cores: Cores) -> None:
    """Raises BenchError unless it passes on one whole answer."""
    with tempfile.TemporaryDirectory(prefix="gateway-bench-") as temporary:
        site = Site(free_port(), Path(temporary), cores)
        with paced_upstream(site.upstream_port, site.directory, cores), contender(site) as target:
            status, body = _asked(target)
    if status != 200 or b"[DONE]" not in body:
        raise BenchError(f"{name} answered with status {status}: {body[:200].decode(errors='replace')}")


def _asked(target: Target) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(target.host, target.port, timeout=_PROBE_SECONDS)
    body = target.body.replace(MODEL_PLACEHOLDER, model_name(0, 2))
    try:
        connection.request("POST", target.path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    except http.client.HTTPException as error:
        raise BenchError(f"no HTTP answer: {error!r}") from error
    finally:
        connection.close()
