"""The parent of several workers: it starts, replaces, reloads and ends them, and speaks for them to systemd."""

import logging
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer
from gunicorn.glogging import Logger

from gateway.app import effective_config, warn_without_traces
from gateway.config import Config
from gateway.notify import Messenger
from gateway.observe.metrics import forget_gauges
from gateway.port import bind, url_of
from gateway.serve import READY, log_refused, log_reloaded
from gateway.workers.plan import MESSAGE, Plan
from gateway.workers.worker import GatewayWorker

logger = logging.getLogger(__name__)

_STUCK_SECONDS = 30  # without a sign of life; then a worker is replaced. As long as the watchdog of the unit
_END_SECONDS = 13.0  # after the drain, as `operating.md` counts them; the unit gives 15
_AGAIN_SECONDS = 1.0  # between two replacements of workers, so that one that cannot start does not load the machine
_MEMORY = Path("/dev/shm")  # metrics and signs of life there never wait for a disk

_MEANING = (
    "%d workers: %sserver.max_running, upstreams.max_streams, [store] and the breakers of targets hold in each worker"
)
_LIMITS = "limits of keys and addresses, "  # with a store in Redis, all workers count together


def serve_workers(
    config: Config,
    announce: Callable[[str], None],
    *,
    reread: Callable[[], Config],
    log: Callable[[], AbstractContextManager[Any]],
) -> int:
    """Serves with `server.workers` processes until SIGTERM or SIGINT, and returns the exit status. Raises OSError.

    In a worker, it does not return: it raises SystemExit.
    """
    systemd = Messenger(dict(os.environ), os.getpid())
    os.environ.pop("NOTIFY_SOCKET", None)  # else gunicorn would say READY before a worker serves
    warn_without_traces(config)
    with _folder() as folder:
        plan = Plan(
            config=config,
            announce=announce,
            reread=reread,
            log=log,
            sockets=bind(config.server.host, config.server.port),
            folder=folder,
            systemd=systemd,
        )
        parent = os.getpid()
        try:
            Parent(_Application(plan)).run()
        except SystemExit as end:
            if os.getpid() != parent:
                raise
            return 1 if end.code else 0
    return 0


@contextmanager
def _folder() -> Iterator[Path]:
    """A new folder, which its own process removes. A worker, which leaves by the same way, does not."""
    memory = _MEMORY if os.access(_MEMORY, os.W_OK) else None
    folder, owner = Path(tempfile.mkdtemp(prefix="gateway-", dir=memory)), os.getpid()
    try:
        yield folder
    finally:
        if os.getpid() == owner:
            shutil.rmtree(folder, ignore_errors=True)


class _Application(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's settings. It loads no WSGI application: the worker class serves."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        super().__init__()

    def load_config(self) -> None:
        settings = {
            "workers": self.plan.config.server.workers,
            "worker_class": GatewayWorker,
            "worker_tmp_dir": str(self.plan.folder),
            "timeout": _STUCK_SECONDS,
            "logger_class": _Log,
            "control_socket_disable": True,  # it would be a thread in the parent, which forks
            "pre_fork": _number_worker,
            "child_exit": lambda _, worker: forget_gauges(self.plan.folder, worker.slot),
        }
        for name, value in settings.items():
            self.cfg.set(name, value)

    def load(self) -> None: ...


class _Log(Logger):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's warnings go the way of all others. What it tells of normal work is left out."""

    def setup(self, cfg: Any) -> None:
        self.cfg = cfg
        self.error_log.propagate = True
        self.error_log.setLevel(logging.WARNING)


def _number_worker(parent: "Parent", worker: "GatewayWorker") -> None:
    """The smallest number that no living worker has, so that the files of metrics are as many as the workers."""
    taken = {other.slot for other in parent.WORKERS.values()}
    worker.slot = next(slot for slot in range(len(taken) + 1) if slot not in taken)
    worker.reports = parent.reports[1]


class Parent(Arbiter):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's arbiter, with signals as a process alone has them."""

    def __init__(self, app: _Application) -> None:
        super().__init__(app)
        self.plan = app.plan
        self.LISTENERS = list(app.plan.sockets)
        self.reports = os.pipe()
        for end in self.reports:
            os.set_blocking(end, False)
        self._served: dict[int, int] = {}  # by process: the number of the configuration that it uses
        self._is_stopping = False
        self._pinged = 0.0
        self._spawned = time.monotonic() - _AGAIN_SECONDS

    def wait_for_signals(self, timeout: float = 1.0) -> list[int]:
        """Called in each round of the main loop."""
        seconds = self.plan.systemd.ping_seconds
        if seconds is not None and time.monotonic() - self._pinged >= seconds * 0.9 and self.plan.announced:
            self._pinged = time.monotonic()
            self.plan.systemd.ping()
        signals: list[int] = super().wait_for_signals(timeout if seconds is None else min(timeout, seconds))
        return signals

    def spawn_workers(self) -> None:
        """Called in each round of the main loop if a worker is missing."""
        if time.monotonic() - self._spawned >= _AGAIN_SECONDS:
            self._spawned = time.monotonic()
            super().spawn_workers()

    # Reports of workers

    def handle_usr1(self) -> None:
        with suppress(BlockingIOError):
            while message := os.read(self.reports[0], MESSAGE):
                pid, number = message.split()
                self._hear(int(pid), int(number))

    def _hear(self, pid: int, number: int) -> None:
        """A worker serves with the configuration of this number."""
        if self._is_stopping:  # it may not have heard of it, because it was just started
            self.kill_worker(pid, signal.SIGTERM)
        elif number < self.plan.number:
            self.kill_worker(pid, signal.SIGHUP)
        self._served = {other: known for other, known in self._served.items() if other in self.WORKERS} | {pid: number}
        self._tell()

    def _tell(self) -> None:
        """Tells systemd, and at the start the operator, as soon as all workers serve with the newest configuration."""
        served = [self._served.get(pid, -1) for pid in self.WORKERS]
        if self._is_stopping or len(served) < self.num_workers or min(served) < self.plan.number:
            return
        if not self.plan.announced:
            self.plan.announced = True
            self.plan.announce(url_of(self.plan.sockets, self.plan.config.server.host))
            logger.warning(_MEANING, self.num_workers, "" if self.plan.config.store.is_shared else _LIMITS)
        elif self._ignored is not None:
            log_reloaded(self._ignored)
            self._ignored = None
        else:
            return  # a worker was replaced
        self.plan.systemd.ready(READY)

    # Reloading

    _ignored: Sequence[str] | None = None  # during a reload: the options that a new start changes

    def handle_hup(self) -> None:
        if not self.plan.announced:
            return
        self.plan.systemd.reloading()
        try:
            self.plan.config, self._ignored = effective_config(self.plan.reread(), self.plan.config)
        except Exception as error:  # the workers go on with what they have
            log_refused(error)
            self.plan.systemd.ready(READY)
        else:
            self.plan.number += 1
            self.kill_workers(signal.SIGHUP)

    def handle_usr2(self) -> None:
        logger.warning("SIGUSR2 is not used; for a new version, start the gateway again")

    # The end

    def handle_int(self) -> None:
        self.handle_term()

    def handle_quit(self) -> None:
        self.handle_term()

    def stop(self, graceful: bool = True) -> None:
        """Ends all workers: when their answers have ended, at the deadline, or at a second signal."""
        self._is_stopping = True
        self.plan.systemd.stopping("waiting for running answers")
        for one in self.LISTENERS:  # the workers have theirs
            one.close()
        self.LISTENERS = []
        self.kill_workers(signal.SIGTERM)
        deadline = time.monotonic() + self.plan.config.server.drain_seconds + _END_SECONDS
        while self._is_anyone_left() and time.monotonic() < deadline:
            for number in self.wait_for_signals(min(1.0, max(0.0, deadline - time.monotonic()))):
                if number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
                    self.kill_workers(signal.SIGQUIT)
                    deadline = min(deadline, time.monotonic() + _END_SECONDS)
                elif number == signal.SIGUSR1:
                    self.handle_usr1()
        self.kill_workers(signal.SIGKILL)

    def _is_anyone_left(self) -> bool:
        with suppress(HaltServer):  # one that had just been started failed; it is ended anyway
            self.reap_workers()
        return bool(self.WORKERS)
