"""The periods of budgets: hours, days and months of the calendar, in UTC. Pure: the time is passed in."""

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from gateway.config import Per

_LONGEST = {Per.HOUR: timedelta(hours=1), Per.DAY: timedelta(days=1), Per.MONTH: timedelta(days=31)}


class Ends(NamedTuple):
    """The ends of the period before, of the one that runs, and of the next one: in milliseconds since the epoch.

    A period is named by its end. Redis chooses by its own clock among the three, so that the clock of a gateway may
    differ from it.
    """

    before: int
    running: int
    after: int


def period_ends(per: Per, now: float) -> Ends:
    """`now` is in seconds since the epoch."""
    start = _start(per, datetime.fromtimestamp(now, UTC))
    end = _start(per, start + _LONGEST[per])
    after = _start(per, end + _LONGEST[per])
    return Ends(*[round(moment.timestamp() * 1000) for moment in (start, end, after)])


def _start(per: Per, moment: datetime) -> datetime:
    """The start of the period of this moment."""
    hour = moment.replace(minute=0, second=0, microsecond=0)
    if per is Per.HOUR:
        return hour
    return hour.replace(hour=0) if per is Per.DAY else hour.replace(day=1, hour=0)
