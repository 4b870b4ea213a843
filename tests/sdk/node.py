"""Scripts for Node with the official JavaScript packages, unmodified.

The packages are installed into `.node`. A script is piped to a Node that runs there: it then finds the packages by
their bare names, as anybody's own script would.
"""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

SECONDS = 20  # for a Node to start and answer: it takes a third of one
_HERE = Path(__file__).parent
_PACKAGES = _HERE.parent.parent / ".node"
_NODE = shutil.which("node")
_LONGEST_LINE = 1_048_576  # bytes: what came of a thousand answers is told in far less


def needs(*packages: str) -> list[pytest.MarkDecorator]:
    """Marks for tests that run a Node with these packages."""
    return [
        pytest.mark.skipif(_NODE is None, reason="node is not installed"),
        pytest.mark.skipif(
            not all((_PACKAGES / "node_modules" / name).is_dir() for name in packages),
            reason="the npm packages are not in .node: `.ci/run` says how to install them",
        ),
    ]


def script(name: str) -> str:
    """The source of a script of this folder."""
    return (_HERE / name).read_text()


@asynccontextmanager
async def running(source: str, *arguments: str, within: float = SECONDS) -> AsyncIterator[Any]:
    """The line of JSON that the source prints; its process lives until the block is left."""
    process = await asyncio.create_subprocess_exec(
        *[_NODE or "", "--input-type=module", "-", *arguments],
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=_PACKAGES,
        limit=_LONGEST_LINE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(source.encode())
    process.stdin.close()
    try:
        line = await asyncio.wait_for(process.stdout.readline(), within)
        assert line, (await process.communicate())[1].decode()
        yield json.loads(line)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
