"""What the limiter in memory keeps of callers, and how long. See test_limiters for what it counts."""

import asyncio
import gc

from gateway.admission.limits import Allowance
from gateway.admission.memory_limiter import MemoryLimiter
from tests.admission.clock import Clock


async def test_fault_89_memory_does_not_grow_with_the_number_of_addresses(clock: Clock) -> None:
    """Ten thousand of them, one a second: those of the last minute are known, the others forgotten."""
    limiter = MemoryLimiter()

    async def ask(first: int, last: int) -> None:
        for n in range(first, last):
            clock.now += 1
            charge = await limiter.reserve(Allowance(f"assistant:a:{n}", 10, 100, 2), 10)
            await charge.settle(10)
            charge.release()
            await asyncio.sleep(0)  # the library cleans up in tasks of its own

    await ask(0, 100)
    gc.collect()
    before = len(gc.get_objects())
    await ask(100, 10_100)
    gc.collect()
    assert len(gc.get_objects()) - before < 5_000
