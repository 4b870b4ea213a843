"""Where responses are that upstreams made: their owners find them, within bounds of time and number."""

import pytest

from gateway.responses.places import Places


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_an_owner_finds_its_own(clock: Clock) -> None:
    places = Places(clock)
    places.add("resp_1", "a", "up")
    places.add("resp_2", None, "other")
    assert places.find("resp_1", "a") == "up"
    assert places.find("resp_2", None) == "other"
    assert places.find("resp_1", "b") is places.find("resp_1", None) is places.find("resp_2", "a") is None
    places.remove("resp_1")
    places.remove("resp_1")
    assert places.find("resp_1", "a") is None


def test_an_id_stays_with_its_first_owner(clock: Clock) -> None:
    places = Places(clock)
    places.add("resp_1", "a", "up")
    places.add("resp_1", "b", "other")
    assert places.find("resp_1", "a") == "up"
    assert places.find("resp_1", "b") is None


def test_they_are_forgotten_in_time(clock: Clock) -> None:
    places = Places(clock, seconds=10)
    places.add("resp_1", "a", "up")
    clock.now = 9.9
    places.add("resp_2", "a", "up")
    assert places.find("resp_1", "a") == "up"
    clock.now = 10
    assert places.find("resp_1", "a") is None
    places.add("resp_1", "b", "up")  # its first owner has no claim any more
    assert places.find("resp_1", "b") == "up"
    assert len(places) == 2


def test_the_oldest_make_room(clock: Clock) -> None:
    """Whoever shares them is told of that, and not of those whose time is over."""
    places = Places(clock, most=3, seconds=10)
    dropped = [places.add(f"resp_{number}", "a", "up") for number in range(5)]
    assert dropped == [[], [], [], ["resp_0"], ["resp_1"]]
    assert places.add("resp_4", "b", "up") is None
    assert [places.find(f"resp_{number}", "a") for number in range(5)] == [None, None, "up", "up", "up"]
    clock.now = 10
    assert places.add("resp_5", "a", "up") == []
    assert len(places) == 1


@pytest.mark.parametrize("name", ["", "..", "a/b", "a?b", "a b", "é", "x" * 201, "a\n"])
def test_an_id_that_could_not_stand_in_a_path_is_not_taken(clock: Clock, name: str) -> None:
    places = Places(clock)
    assert places.add(name, "a", "up") is None
    assert len(places) == 0
