"""How every store of streams behaves: functions of what makes a store, to be run over each kind of it.

@pytest.mark.parametrize("behaviour", SUITE, ids=name_of)
def test_the_store(behaviour: Behaviour) -> None:
    behaviour(TheStore)
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

import pytest

from gateway.entries import Entry, Kind
from gateway.errors import Busy
from gateway.log.base import StreamStore


class MakeStore(Protocol):
    def __call__(self, *, max_streams: int, max_bytes: int) -> StreamStore: ...


Behaviour = Callable[[MakeStore], None]

SUITE: list[Behaviour] = []


def always(behaviour: Behaviour) -> Behaviour:
    SUITE.append(behaviour)
    return behaviour


A: Entry = Entry(Kind.TEXT, b"a")
B: Entry = Entry(Kind.REASONING, "é".encode())
C: Entry = Entry(Kind.TOOL, b"{}")
END: Entry = Entry(Kind.END, b"{}")


def name_of(behaviour: Behaviour) -> str:
    return behaviour.__name__


def roomy(make: MakeStore) -> StreamStore:
    return make(max_streams=10, max_bytes=100_000)


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
def the_last_entry_has_a_number(make: MakeStore) -> None:
    """That of how many there are; before the first one it is 0."""
    log = roomy(make).create("s")
    numbers = [log.last]
    for batch in ([A], [], [B, C], [A, END]):
        log.append(batch)
        numbers.append(log.last)
    assert numbers == [0, 1, 1, 3, 5]
    assert log.entries[log.last - 1] == END


@always
def a_log_never_holds_up_who_writes_it(make: MakeStore) -> None:
    """However much is in it, and whoever reads: its size is bounded elsewhere."""
    log = roomy(make).create("s")
    log.append([Entry(Kind.TEXT, b"x" * 10_000_000)])
    assert not log.full
    asyncio.run(asyncio.wait_for(log.room(), 1))
    log.append([END])
    assert not log.full


@always
def a_log_that_is_abandoned_is_kept_all_the_same(make: MakeStore) -> None:
    """Somebody may come back to it: what was said before and what is said after is all there."""
    log = roomy(make).create("s")
    log.append([A])
    log.abandon()
    told: list[int] = []
    log.follow(lambda: told.append(log.last))
    log.append([B, END])
    log.abandon()
    assert (list(log.entries), log.size, log.last, log.ended, told) == ([A, B, END], 5, 3, True, [3])


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

    def one() -> None:
        told.append("one")

    log.follow(one)
    log.follow(lambda: told.append("other"))
    log.append([A])
    log.unfollow(one)
    log.append([B])
    assert told == ["one", "other", "other"]


@always
def followers_may_leave_and_come_while_they_are_told(make: MakeStore) -> None:
    """Nobody is left out because another one left; who comes just then hears of the next batch."""
    log = roomy(make).create("s")
    told: list[str] = []

    def leave_at_once() -> None:
        told.append("first")
        log.unfollow(leave_at_once)
        log.follow(lambda: told.append("late"))

    log.follow(leave_at_once)
    log.follow(lambda: told.append("second"))
    log.append([A])
    assert told == ["first", "second"]
    log.append([B])
    assert told[2:] == ["second", "late"]


# Room


@always
def there_is_room_for_so_many_streams(make: MakeStore) -> None:
    store = make(max_streams=2, max_bytes=100_000)
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
    store = make(max_streams=10, max_bytes=100_000)
    log = store.create("a")
    log.append([Entry(Kind.TEXT, b"x" * 90_000)])
    store.create("b").append([Entry(Kind.TEXT, b"x" * 10_000)])
    with pytest.raises(Busy):
        store.create("c")
    log.append([Entry(Kind.TEXT, b"x" * 100_000), END])
    store.discard("b")
    with pytest.raises(Busy):
        store.create("c")
    store.discard("a")
    store.create("c")


@always
def discarding_what_is_not_there_is_nothing(make: MakeStore) -> None:
    """Nor does it make room: neither for a stream nor for bytes."""
    store = make(max_streams=2, max_bytes=100_000)
    store.discard("never")
    store.create("a").append([Entry(Kind.TEXT, b"x" * 80_000)])
    store.discard("a")
    store.discard("a")
    store.create("b").append([Entry(Kind.TEXT, b"x" * 80_000)])
    store.create("c").append([Entry(Kind.TEXT, b"x" * 80_000)])
    store.discard("c")
    store.create("d").append([Entry(Kind.TEXT, b"x" * 80_000)])
    with pytest.raises(Busy):
        store.create("e")


@always
def who_holds_a_discarded_log_can_read_it_to_its_end(make: MakeStore) -> None:
    store = roomy(make)
    log = store.create("s")
    log.append([A, END])
    store.discard("s")
    assert (list(log.entries), log.ended) == ([A, END], True)


@always
def a_store_is_full_exactly_when_it_takes_no_more_streams(make: MakeStore) -> None:
    """By their number or by their bytes; discarding one ends that."""
    for max_streams, size in ((3, 0), (1_000, 30_000)):
        store = make(max_streams=max_streams, max_bytes=100_000)
        assert not store.full
        names: list[str] = []
        while not store.full:
            names.append(str(len(names)))
            store.create(names[-1]).append([Entry(Kind.TEXT, b"x" * size)])
        assert 3 <= len(names) <= 4
        with pytest.raises(Busy):
            store.create("one more")
        assert store.full
        store.discard(names[0])
        assert not store.full
        store.create("one more")


@always
def nothing_is_overfull_that_is_not_full(make: MakeStore) -> None:
    """Many streams fill a store; only bytes make it hold more than it should, and only those that are held."""
    store = make(max_streams=2, max_bytes=100_000)
    assert not store.overfull
    store.create("a").append([Entry(Kind.TEXT, b"x" * 10_000)])
    log = store.create("b")
    assert (store.full, store.overfull) == (True, False)
    log.append([Entry(Kind.TEXT, b"x" * 100_000)])
    assert (store.full, store.overfull) == (True, True)
    store.discard("a")
    assert (store.full, store.overfull) == (True, True)
    store.discard("b")
    assert (store.full, store.overfull) == (False, False)


@always
def relief_is_asked_for_with_each_batch_that_is_too_much(make: MakeStore) -> None:
    """When the batch is in, and not before there is too much. Without it, the store goes on all the same."""
    store = make(max_streams=10, max_bytes=100_000)
    log = store.create("a")
    store.create("b").append([Entry(Kind.TEXT, b"x" * 20_000)])
    told: list[tuple[int, bool]] = []
    store.relieve = lambda: told.append((log.last, store.overfull))
    log.append([Entry(Kind.TEXT, b"x" * 50_000)])
    assert told == []
    log.append([Entry(Kind.TEXT, b"x" * 50_000), A])
    assert told == [(3, True)]
    log.append([B])
    assert told == [(3, True), (4, True)]
    store.discard("b")
    log.append([END])
    assert told[2:] == [(5, True)]
    assert log.size == 100_000 + 1 + 2 + 2


@always
def relief_is_asked_for_when_streams_alone_are_too_much(make: MakeStore) -> None:
    """Whatever makes a store hold more than it should: where an empty stream takes room, one stream more may."""
    store = make(max_streams=100, max_bytes=10_000)
    told: list[bool] = []
    store.relieve = lambda: told.append(store.overfull)
    for number in range(100):
        if store.full:
            break
        store.create(str(number))
    assert bool(told) is store.overfull


@always
def what_is_discarded_in_relief_is_room_at_once(make: MakeStore) -> None:
    """The one that grows is whole, and told of once; relief that was enough is not asked for again."""
    store = make(max_streams=10, max_bytes=100_000)
    others = [store.create(name) for name in ("a", "b")]
    for other in others:
        other.append([Entry(Kind.TEXT, b"x" * 30_000), END])
    log = store.create("grows")
    seen: list[int] = []
    log.follow(lambda: seen.append(log.last))
    relieved: list[str] = []

    def relieve() -> None:
        while store.overfull:
            relieved.append("ab"[len(relieved)])
            store.discard(relieved[-1])

    store.relieve = relieve
    for _ in range(4):
        log.append([Entry(Kind.TEXT, b"x" * 20_000)])
    assert relieved == ["a", "b"]
    log.append([END])
    assert (log.last, log.size, seen) == (5, 80_002, [1, 2, 3, 4, 5])
    assert [list(other.entries)[-1] for other in others] == [END, END]
    assert not store.overfull
