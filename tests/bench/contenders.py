"""What can be measured: each contender is a block in which it runs, and that yields where to ask it.

All stand in front of the same upstream. nginx parses nothing and is what merely passing on costs, which is why ratios
are to it; it is set up as its documentation asks for server-sent events: no buffering, HTTP/1.1 and kept
connections to the upstream, one worker, no access log.

A *peer* is started by whoever runs the benchmark, best on the contender's core (`taskset`), and pointed at the upstream
with `--upstream-port`. It keeps running, so its memory per stream is right in the first round only: later streams live
in what the first ones left. `peers` has some that the bench installs and starts itself, anew for each pass.

Some run only where they are named, best two at a time (`--pair`): `relay` is the OpenAI surface of the same gateway;
`guarded` has keys and limits that never refuse, `plain` has neither them nor the access log and the metrics that all
others have; `targets` has a model with three targets; `shared` writes its streams to a Redis, whose own CPU time is not
counted; `viewers` is one stream that all connections watch, so that an event is one that a viewer got, and nginx beside
it has as many streams.
"""

import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec

from tests.bench.client import Target
from tests.bench.processes import ROOT, BenchError, Cores, child, server
from tests.bench.wire import DEFAULT_BODY
from tests.rig.ports import HOST, free_port

CHAT_COMPLETIONS = "/v1/chat/completions"


class Site(NamedTuple):
    """What a contender needs to start."""

    upstream_port: int
    directory: Path  # for its files, this pass only
    cores: Cores


Contender = Callable[[Site], AbstractContextManager[Target]]


def nginx_program() -> str | None:
    return shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/sbin") or shutil.which("nginx")


class Setup(NamedTuple):
    """How a gateway is started and asked."""

    module: str = "gateway"
    path: str = "/chat"
    keys: int = 0
    targets: int = 0
    shared: bool = False
    store: str = ""  # the table of a store that runs already
    watched: bool = False


_USUAL = Setup()
_VARIANTS = {
    "relay": Setup(path=CHAT_COMPLETIONS),
    "plain": Setup(module="tests.bench.unobserved"),
    "guarded": Setup(keys=100),
    "targets": Setup(targets=3),
    "shared": Setup(shared=True),
    "viewers": Setup(path="/streams", watched=True),
}


def checkout(directory: Path) -> Contender:
    return partial(gateway, checkout=directory.resolve())


def variants(checkout: Path = ROOT, *, prefix: str = "") -> dict[str, Contender]:
    """The gateway in other setups than the usual one."""
    found = {name: partial(gateway, checkout=checkout.resolve(), setup=setup) for name, setup in _VARIANTS.items()}
    return {prefix + name: contender for name, contender in found.items()}


def own_contenders() -> dict[str, Contender]:
    """Those that this benchmark starts, nginx only where it is installed."""
    found: dict[str, Contender] = {"direct": direct, "nginx": nginx, "gateway": gateway}
    return found if nginx_program() else {name: found[name] for name in found if name != "nginx"}


@contextmanager
def direct(site: Site) -> Iterator[Target]:
    yield _target(site.upstream_port, CHAT_COMPLETIONS, pids=[])


@contextmanager
def nginx(site: Site) -> Iterator[Target]:
    program, port, config = nginx_program(), free_port(), site.directory / "nginx.conf"
    if program is None:
        raise BenchError("nginx is not installed")
    config.write_text(_NGINX_CONFIG.format(directory=site.directory, upstream=site.upstream_port, port=port, host=HOST))
    command = [program, "-p", str(site.directory), "-c", str(config), "-e", str(site.directory / "error.log")]
    with server(command, port, log=site.directory / "nginx.log", cores=site.cores.contender) as process:
        yield _target(port, CHAT_COMPLETIONS, pids=[process.pid])


@contextmanager
def gateway(site: Site, *, checkout: Path = ROOT, setup: Setup = _USUAL) -> Iterator[Target]:
    """The gateway of this checkout or of another one, for instance of the commit before."""
    port, config = free_port(), site.directory / "gateway.toml"
    keys = [f"gw-bench-{number}" for number in range(setup.keys)]
    upstream = _GATEWAY_CONFIG.format(upstream=site.upstream_port, host=HOST)
    with store(site) if setup.shared else nullcontext(setup.store) as table:
        config.write_text(upstream + "".join(map(_key_config, keys)) + _model_config(setup.targets) + table)
        with _started(site, port, checkout, setup, keys) as target:
            yield target


@contextmanager
def store(site: Site) -> Iterator[str]:
    """A Redis on the core of the load, and the table that names it."""
    program, port = shutil.which("redis-server"), free_port()
    if program is None:
        raise BenchError("redis-server is not installed")
    command = [program, "--port", str(port), "--bind", HOST, "--save", "", "--dir", str(site.directory)]
    with child(command, log=site.directory / "redis.log", cores=site.cores.load):
        yield f'[store]\nurl = "redis://{HOST}:{port}/0"\n'


@contextmanager
def _started(site: Site, port: int, checkout: Path, setup: Setup, keys: Sequence[str]) -> Iterator[Target]:
    config = site.directory / "gateway.toml"
    command = [sys.executable, "-m", setup.module, "serve", "--config", str(config), "--port", str(port)]
    log = site.directory / "gateway.log"
    with server(command, port, log=log, cores=site.cores.contender, cwd=checkout) as process:
        headers = {"Authorization": f"Bearer {keys[-1]}"} if keys else {}
        target = _target(port, setup.path, pids=[process.pid], headers=headers)
        if setup.targets:
            target = msgspec.structs.replace(target, body=_NAMED_BODY)
        yield msgspec.structs.replace(target, watched=setup.watched)


def _key_config(key: str) -> str:
    return _KEY_CONFIG.format(name=key, hash=sha256(key.encode()).hexdigest())


def _model_config(targets: int) -> str:
    """One model with several targets, which are different names of the same upstream's model."""
    listed = ", ".join([f'{{upstream = "bench", model = "m{number}"}}' for number in range(targets)])
    return f'[[models]]\nname = "m"\ntargets = [{listed}]\n' if targets else ""


def peer(url: str, *, headers: Mapping[str, str], body: str | None, pid: int | None) -> Contender:
    """A contender that runs already."""
    parts = urlsplit(url)
    if parts.scheme != "http" or parts.hostname is None:
        raise BenchError(f"a peer is asked over plain HTTP: {url!r} is not http://HOST:PORT/PATH")
    path = (parts.path or CHAT_COMPLETIONS) + (f"?{parts.query}" if parts.query else "")
    target = Target(
        host=parts.hostname,
        port=parts.port or 80,
        path=path,
        headers=dict(headers),
        body=body or DEFAULT_BODY,
        pids=None if pid is None else [pid],
    )

    @contextmanager
    def running(_: Site) -> Iterator[Target]:
        yield target

    return running


def _target(port: int, path: str, *, pids: list[int], headers: Mapping[str, str] | None = None) -> Target:
    return Target(host=HOST, port=port, path=path, headers=dict(headers or {}), body=DEFAULT_BODY, pids=pids)


# 16,384 connections are 8,000 streams; nginx sets their memory aside at the start, so it is not counted as theirs.
_NGINX_CONFIG = """
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    keepalive_requests 10000000;
    upstream bench {{
        server {host}:{upstream};
        keepalive 64;
        keepalive_requests 10000000;
    }}
    server {{
        listen {host}:{port} backlog=4096;
        location = /healthz {{ return 200; }}
        location / {{
            proxy_pass http://bench;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
            proxy_read_timeout 600s;
        }}
    }}
}}
"""

_GATEWAY_CONFIG = """
[[upstreams]]
name = "bench"
base_url = "http://{host}:{upstream}/v1"
api_key = "x"
"""

# The upstream finds the length and the rate of its answer in any field.
_NAMED_BODY = DEFAULT_BODY.replace('"model":"$MODEL"', '"model":"m","user":"$MODEL"')

# Limits that are counted and never reached.
_KEY_CONFIG = """
[[keys]]
name = "{name}"
hash = "sha256:{hash}"
requests_per_minute = 1_000_000_000
tokens_per_minute = 1_000_000_000_000
max_streams = 1_000_000
"""
