"""Installs a package from PyPI into an environment of its own, which is kept in a cache outside the tree.

Only built packages are taken: most servers are compiled, and what builds them would have to be installed first.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.bench.processes import BenchError

_VENV_SECONDS = 120
_INSTALL_SECONDS = 900  # a hundred megabytes, on a slow line
_ASK_SECONDS = 30


class Environment(NamedTuple):
    programs: Path  # the directory that holds them
    version: str


def cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gateway-bench"


def environment(requirement: str, directory: Path, tell: Callable[[str], None]) -> Environment:
    """That of `NAME` or `NAME==VERSION`, installed unless it is there. Raises BenchError with the reason in a line."""
    name, home = requirement.partition("==")[0], directory.resolve() / requirement
    programs = home / "bin"
    if not (found := _version(programs, name)):
        tell(f"installing {requirement} into {home}, which takes about half a minute")
        _do(requirement, [sys.executable, "-m", "venv", "--clear", str(home)], _VENV_SECONDS)
        install = [str(programs / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _do(requirement, [*install, "--only-binary=:all:", requirement], _INSTALL_SECONDS)
        found = _version(programs, name)
    return Environment(programs, found)


def _version(programs: Path, name: str) -> str:
    """What is installed there, or nothing."""
    asking = [str(programs / "python"), "-c", f"from importlib.metadata import version; print(version({name!r}))"]
    try:
        done = subprocess.run(asking, capture_output=True, text=True, timeout=_ASK_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _do(requirement: str, command: Sequence[str], seconds: float) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        raise BenchError(f"{requirement} is not installed: {error}") from error
    if done.returncode != 0:
        raise BenchError(f"{requirement} is not installed: {last_line(done.stderr or done.stdout)}")


def last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "it said nothing")
