"""One worker: it serves as a process alone does, and tells its parent that it lives, serves, or has reloaded."""

import asyncio
import errno
import logging
import os
import shutil
import signal
import sys
from contextlib import suppress

from gunicorn.arbiter import Arbiter
from gunicorn.workers.base import Worker

from gateway.config import Config
from gateway.observe.metrics import share
from gateway.serve import Place, run, serve
from gateway.shared_port import SharedPort
from gateway.workers.plan import MESSAGE, Plan

logger = logging.getLogger(__name__)

_SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})  # of descriptors or memory: no traceback
_BEAT_SECONDS = 1.0  # between two signs of life, and two looks whether the parent lives


class GatewayWorker(Worker):  # type: ignore[misc]  # gunicorn has no types
    """A process that serves. Its loop, limits and drain are those of a process alone."""

    slot: int
    reports: int  # the end of a pipe to write to

    def init_signals(self) -> None:
        """Until the loop handles them: SIGTERM ends the process, and the parent sends SIGHUP again."""
        for number in self.SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH):
            signal.signal(number, signal.SIG_IGN)

    def init_process(self) -> None:
        """Calls `run`. If it fails before all have served, the parent ends, too."""
        try:
            super().init_process()
        except Exception as error:
            is_shortage = isinstance(error, OSError) and error.errno in _SHORTAGES
            logger.error("a worker failed: %s", error, exc_info=not is_shortage)
            sys.exit(1 if self.app.plan.announced else Arbiter.WORKER_BOOT_ERROR)

    def run(self) -> None:
        plan: Plan = self.app.plan
        share(plan.folder, self.slot)
        parents = logging.getLogger().handlers.copy()
        with plan.log():
            for handler in parents:
                logging.getLogger().removeHandler(handler)
            try:
                run(self._serve(plan))
            finally:
                for handler in parents:  # for a line about a failure
                    logging.getLogger().addHandler(handler)
                if os.getppid() != self.ppid:  # the parent, which would remove it, was killed
                    shutil.rmtree(plan.folder, ignore_errors=True)

    async def _serve(self, plan: Plan) -> None:
        link = _Link(self, plan)
        place = Place(
            port=lambda app, stop: SharedPort(app, lambda: plan.sockets),  # its own since the fork, so it closes them
            supervisor=link,
            stop_signals=_stop_signals,
            workers_folder=plan.folder,
            is_alone=False,
        )
        await serve(plan.config, lambda _: None, place, reread=link.reread)


class _Link:
    """From a worker to its parent: signs of life, and the number of the configuration in use."""

    def __init__(self, worker: GatewayWorker, plan: Plan) -> None:
        self._worker = worker
        self._plan = plan
        self._timer: asyncio.TimerHandle | None = None

    def ready(self, status: str) -> None:
        if self._timer is None:
            self._beat()
        self._report()

    def reloading(self) -> None: ...

    def stopping(self, status: str, seconds: float | None = None) -> None: ...

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def reread(self) -> Config:
        """The parent has read it without faults a moment ago."""
        self._plan.number += 1
        return self._plan.reread()

    def _report(self) -> None:
        with suppress(BlockingIOError):  # the parent has not read 2,000 messages, so it is stuck itself
            os.write(self._worker.reports, f"{os.getpid()} {self._plan.number}".ljust(MESSAGE).encode())
        if os.getppid() == self._worker.ppid:
            os.kill(self._worker.ppid, signal.SIGUSR1)

    def _beat(self) -> None:
        self._worker.notify()
        if os.getppid() != self._worker.ppid:  # the parent was killed, so nobody would replace this process
            os.kill(os.getpid(), signal.SIGTERM)
        self._timer = asyncio.get_running_loop().call_later(_BEAT_SECONDS, self._beat)


def _stop_signals() -> tuple[asyncio.Event, asyncio.Event]:
    """Two events: to drain, and to end."""
    stopped, hurry = asyncio.Event(), asyncio.Event()

    def end() -> None:
        stopped.set()
        hurry.set()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    loop.add_signal_handler(signal.SIGQUIT, end)
    return stopped, hurry
