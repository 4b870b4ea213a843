"""What the gateway tells systemd, on a real socket; and the unit file, read as systemd reads it."""

import asyncio
import contextlib
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from configparser import ConfigParser
from pathlib import Path

import pytest

from gateway.bounds import DEFAULT_BOUNDS
from gateway.cli import build_parser
from gateway.config import Config
from gateway.notify import Notifier
from gateway.shared_port import _LAST_LOOKS, _LOOK_SECONDS
from gateway.streams.registry import _CLOSE_SECONDS, _GOODBYE_SECONDS
from gateway.workers.parent import _END_SECONDS
from tests.commands.conftest import Mode
from tests.rig.processes import ends_cleanly, running
from tests.test_readme import ROOT, document

UNIT = ROOT / ".github" / "gateway.service"

# The names that the unit uses. All are in systemd's manual: systemd.unit, systemd.service, systemd.exec, systemd.kill.
DIRECTIVES = {
    "Unit": {"Description", "After", "Wants", "StartLimitIntervalSec", "StartLimitBurst"},
    "Service": {
        *(
            "Type",
            "NotifyAccess",
            "ExecStart",
            "ExecReload",
            "ExecStop",
            "Restart",
            "RestartPreventExitStatus",
            "RestartSec",
        ),
        *(
            "TimeoutStopSec",
            "WatchdogSec",
            "KillMode",
            "EnvironmentFile",
            "DynamicUser",
            "User",
            "LimitNOFILE",
            "UMask",
        ),
        *("RuntimeDirectory", "RuntimeDirectoryMode", "RuntimeDirectoryPreserve"),
        *("NoNewPrivileges", "CapabilityBoundingSet", "AmbientCapabilities", "RestrictSUIDSGID"),
        *("ProtectSystem", "ProtectHome", "PrivateTmp", "PrivateDevices", "PrivateUsers", "RemoveIPC"),
        *("ProtectClock", "ProtectControlGroups", "ProtectHostname", "ProtectKernelLogs", "ProtectKernelModules"),
        *("ProtectKernelTunables", "ProtectProc", "ProcSubset"),
        *("RestrictAddressFamilies", "RestrictNamespaces", "RestrictRealtime", "LockPersonality"),
        *("MemoryDenyWriteExecute", "SystemCallArchitectures", "SystemCallFilter", "SystemCallErrorNumber"),
    },
    "Install": {"WantedBy"},
}


class Systemd:
    """The socket to which a service sends its messages."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.setblocking(False)

    def close(self) -> None:
        self._socket.close()

    def waiting(self) -> Iterator[bytes]:
        """The messages that have arrived."""
        with contextlib.suppress(BlockingIOError):
            while True:
                yield self._socket.recv(4096)

    async def told(self) -> dict[str, str]:
        """The fields of the next message."""
        async with asyncio.timeout(10):
            message = await asyncio.get_running_loop().sock_recv(self._socket, 4096)
        return dict(line.split("=", 1) for line in message.decode().splitlines())

    async def until(self, name: str) -> dict[str, str]:
        """The next message that has this field. Pings before it are dropped."""
        while name not in (fields := await self.told()):
            assert fields == {"WATCHDOG": "1"}
        return fields


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    systemd = Systemd(str(tmp_path / "notify"))
    yield systemd
    systemd.close()


@pytest.fixture
async def service(systemd: Systemd, tmp_path: Path, mode: Mode) -> AsyncIterator[asyncio.subprocess.Process]:
    """A gateway that systemd started, with a watchdog that wants a sign of life every 300 ms."""
    file = tmp_path / "config.toml"
    file.write_text('[[upstreams]]\nname = "up"\nbase_url = "http://127.0.0.1:9/v1"\n')
    environ = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "300000"}
    async with running("serve", *mode, "--config", str(file), **environ) as (process, _):
        yield process
        if process.returncode is None:
            process.terminate()
            await process.wait()


async def test_systemd_is_told_of_each_state(service: asyncio.subprocess.Process, systemd: Systemd) -> None:
    assert (await systemd.told())["READY"] == "1"
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    service.send_signal(signal.SIGHUP)
    fields = await systemd.until("RELOADING")
    assert before <= int(fields["MONOTONIC_USEC"]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert (await systemd.until("READY"))["STATUS"] == "accepting requests"
    service.terminate()
    assert "running answers" in (await systemd.until("STOPPING"))["STATUS"]
    await ends_cleanly(service)


async def test_a_reload_that_is_refused_ends_too(
    service: asyncio.subprocess.Process, systemd: Systemd, tmp_path: Path
) -> None:
    """Otherwise `systemctl reload` would wait for a `READY=1` that never comes."""
    await systemd.until("READY")
    (tmp_path / "config.toml").write_text("[server]\nport = 'x'\n")
    service.send_signal(signal.SIGHUP)
    await systemd.until("RELOADING")
    await systemd.until("READY")


async def test_the_watchdog_hears_three_pings_in_its_time(
    service: asyncio.subprocess.Process, systemd: Systemd
) -> None:
    await systemd.until("READY")
    started = time.monotonic()
    for _ in range(7):
        await systemd.until("WATCHDOG")
    assert 0.5 < time.monotonic() - started < 2  # six times 100 ms


async def test_a_stuck_event_loop_sends_no_pings(systemd: Systemd, tmp_path: Path) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "30000"}, 7)
    notifier.ready("")
    time.sleep(0.1)  # noqa: ASYNC251  # ten pings long, the loop is stuck
    assert list(systemd.waiting()) == [b"READY=1\nSTATUS=", b"WATCHDOG=1"]
    await systemd.until("WATCHDOG")
    notifier.close()


async def test_a_name_in_the_abstract_namespace_is_understood() -> None:
    address = f"gateway-test-{os.getpid()}"
    systemd = Systemd(f"\0{address}")
    notifier = Notifier({"NOTIFY_SOCKET": f"@{address}"}, os.getpid())
    notifier.ready("here")
    assert await systemd.told() == {"READY": "1", "STATUS": "here"}
    systemd.close()


async def test_a_watchdog_of_another_process_gets_no_pings(systemd: Systemd, tmp_path: Path) -> None:
    environ = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "3000"}
    notifiers = [Notifier({**environ, "WATCHDOG_PID": pid}, 7) for pid in ("8", "7")]
    notifiers[0].ready("")
    await systemd.told()
    await asyncio.sleep(0.02)
    notifiers[1].ready("")
    assert "READY" in await systemd.told()
    assert await systemd.told() == {"WATCHDOG": "1"}
    notifiers[1].close()


async def test_without_systemd_nothing_is_sent(caplog: pytest.LogCaptureFixture) -> None:
    for address in ("", "vsock:2:1234"):
        Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "3000"}, 7).ready("")
    assert caplog.messages == []


async def test_a_socket_that_does_not_exist_is_told_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "none")}, 7).ready("")
    assert caplog.messages == ["systemd was not told READY=1: No such file or directory"]


# The unit


def unit() -> dict[str, dict[str, list[str]]]:
    """Its directives by section. A name may occur more than once. A backslash at an end continues a line."""
    sections: dict[str, dict[str, list[str]]] = {}
    for line in UNIT.read_text().replace("\\\n", " ").splitlines():
        if heading := re.fullmatch(r"\[(\w+)\]", line):
            directives = sections.setdefault(heading[1], {})
        elif line and not line.startswith("#"):
            name, value = line.split("=", 1)
            directives.setdefault(name, []).append(value)
    return sections


def test_its_names_are_systemds() -> None:
    assert {section: set(directives) for section, directives in unit().items()} == DIRECTIVES
    ConfigParser(strict=False, interpolation=None).read_string(UNIT.read_text())


def test_its_commands_are_taken() -> None:
    """A reload checks the file first, so that `systemctl reload` fails with the faults."""
    service = unit()["Service"]
    assert service["ExecReload"][1:] == ["kill -HUP $MAINPID"]
    serve = service["ExecStart"][0].partition("; ")[2].partition(" & ")[0]
    for command in (serve, service["ExecReload"][0]):
        program, *arguments = shlex.split(command)
        assert program == "/opt/gateway/bin/gateway"
        assert build_parser().parse_args(arguments).config == Path("/etc/gateway/config.toml")


def test_its_times_fit_those_of_the_gateway() -> None:
    """And those in the documents: a stop takes up to `drain_seconds`, and a while for each thing that then ends."""
    (sentence,) = re.findall(r"at most `drain_seconds`, plus (.*?)\.", document("operating.md"), re.DOTALL)
    after = sum(int(seconds) for seconds in re.findall(r"\d+", sentence))
    parts = (_CLOSE_SECONDS, _GOODBYE_SECONDS, DEFAULT_BOUNDS.traces_seconds, DEFAULT_BOUNDS.drain_seconds)
    assert after == sum(parts) + _LAST_LOOKS * _LOOK_SECONDS
    service, drain = unit()["Service"], Config().server.drain_seconds
    assert int(service["TimeoutStopSec"][0]) >= drain + after
    assert (
        f"sleep + `drain_seconds` + {after}. With a `preStop` of `sleep 5`, that is {5 + drain + after:g}."
        in document("operating.md")
    )
    assert after <= _END_SECONDS  # for which the parent of several workers waits
    assert service["Type"] == ["notify"]
    assert service["KillMode"] == ["mixed"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_has_no_objection_and_little_fear(tmp_path: Path) -> None:
    """`verify` reads the unit. `security` scores what the service may do: from 0 to 10, and 9.6 without hardening."""
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/opt/gateway/bin/gateway", sys.executable))
    verify = subprocess.run(["systemd-analyze", "verify", copy], capture_output=True, text=True, timeout=20)
    assert (verify.returncode, [line for line in verify.stderr.splitlines() if UNIT.name in line]) == (0, [])
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=20", str(copy)]  # of 100
    scored = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert scored.returncode == 0, scored.stdout[-2000:]
