"""How every store of streams behaves: functions of what makes a store, to be run over each kind of it.

@pytest.mark.parametrize("behaviour", SUITE, ids=name_of)
def test_the_store(behaviour: Behaviour) -> None:
    behaviour(TheStore)
"""

from collections.abc import Callable
from typing import Protocol

import pytest

from gateway.entries import Entry, Kind
from gateway.errors import Busy
from gateway.streamlog.base import StreamStore


class MakeStore(Protocol):
    def __call__(self, *, max_streams: int, max_bytes: int) -> StreamStore: ...


Behaviour = Callable[[MakeStore], None]

SUITE: list[Behaviour] = []


def always(behaviour: Behaviour) -> Behaviour:
    SUITE.append(behaviour)
    return behaviour


A: Entry = (Kind.TEXT, b"a")
B: Entry = (Kind.REASONING, "é".encode())
C: Entry = (Kind.TOOL, b"{}")
END: Entry = (Kind.END, b"{}")


def name_of(behaviour: Behaviour) -> str:
    return behaviour.__name__


def roomy(make: MakeStore) -> StreamStore:
    return make(max_streams=10, max_bytes=1_000)


# A log


@always
def a_new_log_is_empty_and_goes_on(make: MakeStore) -> None:
    log = roomy(make).create("s")
    assert (list(log.entries), log.size, log.ended) == ([], 0, False)


@always
def entries_stay_in_the_order_in_which_they_came(make: MakeStore) -> None:
    """Also over batches; entry `n` is `entries[n - 1]`."""
    log = roomy(make).create("s")
    log.append([A, B])
    log.append([])
    log.append([C])
    assert list(log.entries) == [A, B, C]
    assert log.entries[1 - 1] == A
    assert list(log.entries[2:]) == [C]


@always
def the_size_is_that_of_the_payloads(make: MakeStore) -> None:
    log = roomy(make).create("s")
    log.append([A, B])
    log.append([C])
    assert log.size == 1 + 2 + 2


@always
def a_log_ends_with_its_end_entry(make: MakeStore) -> None:
    log = roomy(make).create("s")
    log.append([A])
    assert not log.ended
    log.append([B, END])
    assert log.ended


@always
def nothing_is_appended_behind_the_end(make: MakeStore) -> None:
    log = roomy(make).create("s")
    log.append([A, END])
    for batch in ([], [A], [END]):
        with pytest.raises(ValueError, match="ended"):
            log.append(batch)
    assert list(log.entries) == [A, END]


@always
def streams_are_apart(make: MakeStore) -> None:
    store = roomy(make)
    one, other = store.create("one"), store.create("other")
    told: list[str] = []
    other.follow(lambda: told.append("other"))
    one.append([A, END])
    assert (list(other.entries), other.ended, told) == ([], False, [])


# Followers


@always
def followers_are_told_once_per_batch(make: MakeStore) -> None:
    """When the whole batch is in, its end included."""
    log = roomy(make).create("s")
    seen: list[tuple[int, bool]] = []
    log.follow(lambda: seen.append((len(log.entries), log.ended)))
    log.append([A, B])
    log.append([C, END])
    assert seen == [(2, False), (4, True)]


@always
def a_follower_hears_nothing_of_what_was_before(make: MakeStore) -> None:
    log = roomy(make).create("s")
    log.append([A])
    told: list[int] = []
    log.follow(lambda: told.append(len(log.entries)))
    assert told == []
    log.append([B])
    assert told == [2]


@always
def who_left_is_told_nothing_more(make: MakeStore) -> None:
    log = roomy(make).create("s")
    told: list[str] = []
    leave = log.follow(lambda: told.append("one"))
    log.follow(lambda: told.append("other"))
    log.append([A])
    leave()
    log.append([B])
    assert told == ["one", "other", "other"]


@always
def followers_may_leave_and_come_while_they_are_told(make: MakeStore) -> None:
    """Nobody is left out because another one left; who comes just then hears of the next batch."""
    log = roomy(make).create("s")
    told: list[str] = []

    def leave_at_once() -> None:
        told.append("first")
        leave()
        log.follow(lambda: told.append("late"))

    leave = log.follow(leave_at_once)
    log.follow(lambda: told.append("second"))
    log.append([A])
    assert told == ["first", "second"]
    log.append([B])
    assert told[2:] == ["second", "late"]


# Room


@always
def there_is_room_for_so_many_streams(make: MakeStore) -> None:
    store = make(max_streams=2, max_bytes=1_000)
    store.create("a")
    store.create("b")
    with pytest.raises(Busy) as refused:
        store.create("c")
    assert refused.value.status == 503
    assert int(refused.value.headers["Retry-After"]) > 0
    store.discard("a")
    store.create("c")


@always
def there_is_room_for_so_many_bytes(make: MakeStore) -> None:
    """Of all streams together. One that runs is never cut for it: only a new one is refused."""
    store = make(max_streams=10, max_bytes=10_000)
    log = store.create("a")
    log.append([(Kind.TEXT, b"x" * 9_000)])
    store.create("b").append([(Kind.TEXT, b"x" * 1_000)])
    with pytest.raises(Busy):
        store.create("c")
    log.append([(Kind.TEXT, b"x" * 10_000), END])
    store.discard("b")
    with pytest.raises(Busy):
        store.create("c")
    store.discard("a")
    store.create("c")


@always
def discarding_what_is_not_there_is_nothing(make: MakeStore) -> None:
    """Nor does it make room: neither for a stream nor for bytes."""
    store = make(max_streams=2, max_bytes=10_000)
    store.discard("never")
    store.create("a").append([(Kind.TEXT, b"x" * 8_000)])
    store.discard("a")
    store.discard("a")
    store.create("b").append([(Kind.TEXT, b"x" * 8_000)])
    store.create("c").append([(Kind.TEXT, b"x" * 8_000)])
    store.discard("c")
    store.create("d").append([(Kind.TEXT, b"x" * 8_000)])
    with pytest.raises(Busy):
        store.create("e")


@always
def who_holds_a_discarded_log_can_read_it_to_its_end(make: MakeStore) -> None:
    store = roomy(make)
    log = store.create("s")
    log.append([A, END])
    store.discard("s")
    assert (list(log.entries), log.ended) == ([A, END], True)
