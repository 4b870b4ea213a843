"""The store in memory: the behaviour of every store, and the count that only this one has."""

import pytest

from gateway.entries import Kind
from gateway.streamlog.memory import MemoryStore
from tests.streamlog.suite import SUITE, Behaviour, name_of


@pytest.mark.parametrize("behaviour", SUITE, ids=name_of)
def test_it_behaves_as_every_store(behaviour: Behaviour) -> None:
    behaviour(MemoryStore)


def test_it_counts_what_it_holds() -> None:
    """In streams and in bytes of payloads; both are nothing again when all is discarded."""
    store = MemoryStore(max_streams=10, max_bytes=1_000)
    for name, size in (("a", 5), ("b", 7)):
        store.create(name).append([(Kind.TEXT, b"x" * size)] * 2)
    assert (len(store), store.size) == (2, 24)
    store.discard("a")
    assert (len(store), store.size) == (1, 14)
    store.discard("b")
    assert (len(store), store.size) == (0, 0)
