"""Ends tasks that use Redis."""

import asyncio
from collections.abc import Collection
from typing import Any

_TRIES = 40
_SECONDS = 0.05  # between two tries; two seconds in all, after which the event loop ends them


async def end(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancels them until they have ended.

    Once is not enough: redis-py 8.1 loses a cancellation that comes while it connects. In a test, that was one of ten
    within the first 4 ms of a task.
    """
    for _ in range(_TRIES):
        running = [task for task in tasks if not task.done()]
        if not running:
            return
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=_SECONDS)
