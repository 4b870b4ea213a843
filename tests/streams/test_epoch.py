"""Ids of streams, with and without the process that holds them."""

import re

import pytest

from gateway.log.views import EventId, read_event_id
from gateway.streams.epoch import epoch_of, new_epoch, new_id


@pytest.mark.parametrize(("epoch", "length"), [("", 22), ("a_-9", 26)])
def test_an_id_has_128_random_bits_behind_its_epoch(epoch: str, length: int) -> None:
    """And it needs no escaping in a URL or an event id."""
    made = {new_id(epoch) for _ in range(100)}
    assert len({one.removeprefix(epoch)[:10] for one in made}) == 100
    for one in made:
        assert re.fullmatch(r"[A-Za-z0-9_-]+", one)
        assert (len(one), epoch_of(one)) == (length, epoch or None)
        assert read_event_id(str(EventId(one, 7))) == (one, 7, False)


def test_an_epoch_has_four_characters() -> None:
    assert {len(new_epoch()) for _ in range(100)} == {4}


@pytest.mark.parametrize(
    "text", ["", "abcd", "a" * 25, "a" * 27, "../a" + "b" * 22, "abcd" + "é" * 22, "a" * 26 + "\n"]
)
def test_what_is_no_id_has_no_epoch(text: str) -> None:
    """The epoch becomes the name of a file, so nothing else may pass."""
    assert epoch_of(text) is None
