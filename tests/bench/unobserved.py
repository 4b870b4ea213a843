"""The command `gateway` without its access log and its metrics, whose cost cannot be measured otherwise: no option ends
them.

    python -m tests.bench.unobserved serve ...

Records are still filled; they are not formatted, written or counted.
"""

import logging
import sys
from typing import Any

from gateway.cli import main
from gateway.observe.metrics import Metrics
from gateway.observe.metrics.answers import Answers


def ignore(*_: Any) -> None: ...


if __name__ == "__main__":
    logging.getLogger("gateway.access").disabled = True
    counting = ((Answers, "ended"), (Metrics, "sent_heartbeat"), (Metrics, "asked_after"), (Metrics, "lagged"))
    for kind, method in counting:
        assert hasattr(kind, method)
        setattr(kind, method, ignore)
    sys.exit(main())
