"""Runs the command as a process, with its standard streams in any state in which a shell can start it."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator

from tests.rig.ports import free_port

COMMAND = (sys.executable, "-m", "gateway")


@contextlib.asynccontextmanager
async def running(
    *arguments: str, port: str = "0", **environ: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """Runs `python -m gateway ARGUMENTS`, by default on a free port. Yields the process and its announced address."""
    process = await asyncio.create_subprocess_exec(
        *(*COMMAND, *arguments, "--port", port),
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environ},
        start_new_session=True,  # to end its workers, too
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(20):
            line = (await process.stderr.readline()).decode()
        yield process, next(word for word in line.split() if word.startswith("http://"))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


@contextlib.asynccontextmanager
async def shell(
    words: str, *arguments: str, stderr: int | None = None, **environ: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """Runs the shell script `words`, in which `"$@"` is the command, with a port that is free.

    It reads no output of the process. It yields once the gateway answers.
    """
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", words, "sh", *COMMAND, *arguments, "--port", str(port)),
        stderr=stderr,
        env={**os.environ, **environ},
    )
    try:
        await answers(port)
        yield process, f"http://127.0.0.1:{port}"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def answers(port: int) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return


async def ends_cleanly(process: asyncio.subprocess.Process) -> list[str]:
    """Waits for the end of a process that was told to stop. Returns the lines that it wrote."""
    assert process.stderr is not None
    async with asyncio.timeout(10):
        written = (await process.stderr.read()).decode()
        assert await process.wait() == 0
    assert "Traceback" not in written, written[-6000:]
    return written.splitlines()
