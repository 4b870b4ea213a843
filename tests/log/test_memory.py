"""The store in memory: the behaviour of every store, and the count that only this one has."""

import pytest

from gateway.entries import Entry, Kind
from gateway.errors import Busy
from gateway.log.memory import MemoryStore
from tests.log.suite import SUITE, Behaviour, name_of


@pytest.mark.parametrize("behaviour", SUITE, ids=name_of)
def test_it_behaves_as_every_store(behaviour: Behaviour) -> None:
    behaviour(MemoryStore)


def test_it_counts_what_it_holds() -> None:
    """In streams and in bytes; both are nothing again when all is discarded."""
    store = MemoryStore(max_streams=10, max_bytes=100_000)
    for name, size in (("a", 5_000), ("b", 7_000)):
        store.create(name).append([Entry(Kind.TEXT, b"x" * size)] * 2)
    assert len(store) == 2
    assert 24_000 <= store.size < 40_000
    store.discard("a")
    assert len(store) == 1
    assert 14_000 <= store.size < 22_000
    store.discard("b")
    assert (len(store), store.size) == (0, 0)


def test_many_small_entries_take_more_than_their_text() -> None:
    """An upstream that sends single letters fills the store all the same."""
    store = MemoryStore(max_streams=10, max_bytes=100_000)
    store.create("a").append([Entry(Kind.TEXT, b"x")] * 2_000)
    with pytest.raises(Busy):
        store.create("b")


def test_nothing_is_left_of_what_was_discarded_in_relief() -> None:
    """The count is that of what is held, though a log was discarded in the middle of another one's growing."""
    store = MemoryStore(max_streams=10, max_bytes=50_000)
    logs = {name: store.create(name) for name in ("a", "b")}
    store.relieve = lambda: store.discard("a")
    logs["a"].append([Entry(Kind.TEXT, b"x" * 30_000), Entry(Kind.END, b"{}")])
    logs["b"].append([Entry(Kind.TEXT, b"x" * 30_000)])
    assert len(store) == 1
    assert 30_000 <= store.size < 40_000
    store.discard("b")
    assert (len(store), store.size) == (0, 0)
