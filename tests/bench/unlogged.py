"""The command `gateway` without its access log: what that costs cannot be measured otherwise, as no option ends it.

    python -m tests.bench.unlogged serve ...

Records are still filled; they are not formatted and not written.
"""

import logging
import sys

from gateway.cli import main

if __name__ == "__main__":
    logging.getLogger("gateway.access").disabled = True
    sys.exit(main())
