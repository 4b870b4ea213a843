"""What becomes of a stream that nobody watches, as a table of all that may be known of it."""

from itertools import product

import pytest

from gateway.config import OnDisconnect
from gateway.streams.life import Next, when_unwatched

CANCEL, DRAIN, DETACH = OnDisconnect.CANCEL, OnDisconnect.DRAIN, OnDisconnect.DETACH

TABLE = {
    # is_done, has_ended, is_attended, policy, can_be_resumed: what is next
    "its owner is still to come": ((False, False, False, CANCEL, True), Next.AWAIT_OWNER),
    "its owner is still to come, whatever the policy": ((False, False, False, DETACH, False), Next.AWAIT_OWNER),
    "cancel": ((False, False, True, CANCEL, True), Next.CANCEL),
    "drain": ((False, False, True, DRAIN, True), Next.FINISH),
    "detach": ((False, False, True, DETACH, True), Next.AWAIT_VIEWER),
    "its connection is being closed": ((False, True, True, DETACH, True), Next.NOTHING),
    "it is done, and may be resumed": ((True, True, True, CANCEL, True), Next.KEEP),
    "it is done, and nobody can come back": ((True, True, True, DETACH, False), Next.FORGET),
    "it is done before anybody came": ((True, True, False, DETACH, True), Next.KEEP),
}


def decided(facts: tuple[bool, bool, bool, OnDisconnect, bool]) -> Next:
    is_done, has_ended, is_attended, policy, can_be_resumed = facts
    return when_unwatched(
        is_done=is_done,
        has_ended=has_ended,
        is_attended=is_attended,
        policy=policy,
        can_be_resumed=can_be_resumed,
    )


@pytest.mark.parametrize("case", TABLE)
def test_what_is_next(case: str) -> None:
    facts, expected = TABLE[case]
    assert decided(facts) is expected


def test_nothing_runs_for_ever_and_nothing_done_is_cancelled() -> None:
    """Over all combinations: what has ended is never waited for, and what runs is never kept or forgotten."""
    for facts in product((True, False), (True, False), (True, False), OnDisconnect, (True, False)):
        step = decided(facts)
        if facts[0]:
            assert step in (Next.KEEP, Next.FORGET)
        elif facts[1]:
            assert step is Next.NOTHING
        else:
            assert step in (Next.AWAIT_OWNER, Next.AWAIT_VIEWER, Next.FINISH, Next.CANCEL)
