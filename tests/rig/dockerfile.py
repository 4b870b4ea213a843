"""Builds a Dockerfile without Docker, in a folder that stands for the root of the image.

Only those instructions are known that the project's file uses. Each command has to be a list of words, because lists
need no shell. A path that begins with `/` is one below the folder.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

_INERT = ("EXPOSE", "STOPSIGNAL", "USER", "HEALTHCHECK", "ENTRYPOINT", "CMD")  # they say how a container runs
_OPTIONS = re.compile(r"^(--[\w-]+=\S+\s+)+")
_BUILD_SECONDS = 120  # for pip, on a slow machine with an empty cache


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """Each with its arguments. Comments are left out, and continued lines are joined."""
    lines = "\n".join(line for line in text.splitlines() if line and not line.startswith("#"))
    for line in re.sub(r"\\\n\s*", "", lines).splitlines():
        name, arguments = line.split(maxsplit=1)
        yield name, arguments


class Image:
    """What the file says about containers, and where its files are: all stages share the folder `root`."""

    def __init__(self, text: str, context: Path, root: Path) -> None:
        self._context, self._root, self._folder = context, root, root
        self._sayings: dict[str, str] = {}
        self._python = interpreter(int(dict(instructions(text))["USER"].split(":")[0]))
        for name, arguments in instructions(text):
            if name in _INERT:
                self._sayings[name] = arguments
            else:
                getattr(self, f"_{name.lower()}")(arguments)

    @property
    def folder(self) -> Path:
        """The working directory."""
        return self._folder

    @property
    def user(self) -> int | None:
        """The user that a process gets, if the tests may choose it and the user reaches the interpreter."""
        wanted = int(self._sayings["USER"].split(":")[0])
        return wanted if runs_as(wanted, self._python) else None

    @property
    def stop_signal(self) -> str:
        return self._sayings["STOPSIGNAL"]

    @property
    def health_check(self) -> list[str]:
        name, _, command = _OPTIONS.sub("", self._sayings["HEALTHCHECK"]).partition(" ")
        assert name == "CMD"
        return self._inside(json.loads(command))

    def command(self, *words: str) -> list[str]:
        """What a container runs that is started with these words, or with none."""
        return self._inside([*json.loads(self._sayings["ENTRYPOINT"]), *(words or json.loads(self._sayings["CMD"]))])

    def _inside(self, words: list[str]) -> list[str]:
        return [f"{self._root}{word}" if word.startswith("/") else word for word in words]

    def _from(self, arguments: str) -> None:
        image = arguments.split()[0]
        assert re.fullmatch(r"python:3\.\d+-slim-\w+", image), f"{image} is not pinned, or names a host"
        self._folder = self._root

    def _workdir(self, arguments: str) -> None:
        self._folder = Path(f"{self._root}{arguments}")
        self._folder.mkdir(parents=True, exist_ok=True)

    def _copy(self, arguments: str) -> None:
        if arguments.startswith("--from="):
            _, source, target = arguments.split()
            assert source == target, "stages share a folder here"
            return
        *sources, target = arguments.split()
        for source in sources:
            destination = self._folder / target / Path(source).name if target.endswith("/") else self._folder / target
            destination.parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if (self._context / source).is_dir() else shutil.copy
            copy(self._context / source, destination)

    def _run(self, arguments: str) -> None:
        words = self._inside(json.loads(arguments))
        if words[0] == "python":
            words[0] = self._python if "venv" in words else sys.executable  # which has pip, and the same version
        subprocess.run(words, cwd=self._folder, check=True, timeout=_BUILD_SECONDS)


def interpreter(user: int) -> str:
    """One outside of all environments, of the version of this one. If possible, the user can run it."""
    own = os.path.realpath(sys.executable)
    system = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    return system if not runs_as(user, own) and runs_as(user, system) else own


def runs_as(user: int, program: str) -> bool:
    try:
        return (
            subprocess.run(
                [program, "-V"], user=user, group=user, extra_groups=[], capture_output=True, timeout=20
            ).returncode
            == 0
        )
    except OSError:  # includes that these tests may not choose the user
        return False
