"""Two attempts at one answer: if the first is silent for long, a second one runs beside it. The first content decides.

An error cannot win: as long as the other attempt runs, its content is waited for.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from gateway.errors import GatewayError
from gateway.streams.attempt import Attempt

Lose = Callable[[Attempt, GatewayError | str], None]
Tasks = dict[Attempt, "asyncio.Task[None]"]

OUTRUN = "outrun"  # the code of an attempt that was slower
INTERRUPTED = "interrupted"  # of one that ended because the answer did


async def race(
    first: Attempt,
    second: Callable[[], Awaitable[Attempt | None]],
    *,
    begun: "asyncio.Future[Attempt]",
    seconds: float,
    lose: Lose,
) -> None:
    """Returns when an answer is complete. Raises the GatewayError of the last attempt that fails.

    `second` starts another attempt, if there can be one; it is called after `seconds` without content. `begun` gets the
    attempt with the first content. `lose` is called for each attempt that fails, with its error, and for each other one
    that does not become the answer, with a code. It is not called for `first` if all of it is interrupted.
    """
    tasks = {first: asyncio.create_task(first.run())}
    slower: list[asyncio.Task[None]] = []
    try:
        await _wait(tasks, begun, seconds)
        if not begun.done() and not tasks[first].done() and (other := await second()) is not None:
            tasks[other] = asyncio.create_task(other.run())
        while not begun.done():
            await _wait(tasks, begun, None)
            for attempt in [attempt for attempt, task in tasks.items() if task.done() and not begun.done()]:
                _drop_failed(tasks, attempt, lose)
        winner = begun.result()
        for attempt in [attempt for attempt in tasks if attempt is not winner]:
            slower.append(tasks.pop(attempt))
            slower[-1].cancel()
            lose(attempt, OUTRUN)
        await _answered(tasks, winner, lose)
    finally:
        for task in tasks.values():
            task.cancel()
        if ended := [*tasks.values(), *slower]:
            await asyncio.wait(ended)
        for attempt in tasks:
            if attempt is not (begun.result() if begun.done() else first):
                lose(attempt, INTERRUPTED)


async def _wait(tasks: Tasks, begun: "asyncio.Future[Attempt]", seconds: float | None) -> None:
    waiting: list[asyncio.Future[Any]] = [*tasks.values(), begun]
    await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)


def _drop_failed(tasks: Tasks, attempt: Attempt, lose: Lose) -> None:
    """Drops an attempt that failed. Raises its error if no other attempt is left, or if the error is a bug."""
    error = tasks[attempt].exception()
    if isinstance(error, GatewayError):
        del tasks[attempt]
        lose(attempt, error)
    if error is not None and not (tasks and isinstance(error, GatewayError)):
        raise error


async def _answered(tasks: Tasks, winner: Attempt, lose: Lose) -> None:
    """Waits for the end of the answer."""
    try:
        await asyncio.wait([tasks[winner]])
        tasks[winner].result()
    except GatewayError as error:
        del tasks[winner]
        lose(winner, error)
        raise
