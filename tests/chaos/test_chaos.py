"""A short run of the chaos. `.ci/long` has ten minutes of it, with more clients."""

import os
import random

from tests.chaos.__main__ import report
from tests.chaos.run import Plan, run

SECONDS = float(os.environ.get("CHAOS", "12"))  # until no client begins; their answers and what they leave take as long
CLIENTS = 30  # the other process of the suite runs on the same two cores


async def test_every_answer_of_a_disturbed_gateway_ends_honestly_and_leaves_nothing() -> None:
    """With two gateways on one Redis, all of which are stopped and killed, and an upstream that lies."""
    plan = Plan(random.randrange(1_000_000), SECONDS, CLIENTS)
    result = await run(plan, print)
    assert not result.faults, "\n".join(report(result))
    assert result.ends["complete"] > CLIENTS
    assert sum(result.disturbed.values()) >= 2
