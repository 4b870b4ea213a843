"""Decides what happens to a stream without viewers. Pure: it has no clock.

running ──last viewer leaves──> its policy: `cancel` ends it, `drain` finishes it, `detach` waits for a viewer
   │                            if its owner has not come yet: waits for the owner, then decides again
   └──it ends──> kept for clients that come back, or forgotten
"""

from enum import Enum

from gateway.config import OnDisconnect


class Next(Enum):
    AWAIT_OWNER = "await the owner"
    AWAIT_VIEWER = "await a viewer"
    FINISH = "finish for the record"
    CANCEL = "cancel"
    NOTHING = "nothing: it has ended, and its upstream connection is being closed"
    KEEP = "keep"
    FORGET = "forget"


def when_unwatched(
    *, is_done: bool, has_ended: bool, is_attended: bool, policy: OnDisconnect, can_be_resumed: bool
) -> Next:
    """`is_done`: its task has finished. `has_ended`: its log has an end. `is_attended`: its owner has come to watch."""
    if is_done:
        return Next.KEEP if can_be_resumed else Next.FORGET
    if has_ended:
        return Next.NOTHING
    if not is_attended:
        return Next.AWAIT_OWNER
    return _BY_POLICY[policy]


_BY_POLICY = {
    OnDisconnect.CANCEL: Next.CANCEL,
    OnDisconnect.DRAIN: Next.FINISH,
    OnDisconnect.DETACH: Next.AWAIT_VIEWER,
}
