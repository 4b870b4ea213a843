"""All scenarios, in the order of the table of faults."""

from tests.faults.connections import CONNECTIONS
from tests.faults.forms import FORMS
from tests.faults.statuses import STATUSES
from tests.faults.streams import STREAMS

SCENARIOS = [*STATUSES, *STREAMS, *FORMS, *CONNECTIONS]
