"""What a ticket opens, for whom and for how long."""

import pytest

from gateway.streams.tickets import Tickets


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def lasting(seconds: float = 60.0) -> tuple[Tickets, Clock]:
    clock = Clock()
    return Tickets(seconds, clock), clock


def opens(tickets: Tickets, ticket: str) -> tuple[bool, bool]:
    """May it read, may it stop?"""
    return tickets.admit(ticket, to_stop=False), tickets.admit(ticket, to_stop=True)


# Which ticket opens what


def test_a_ticket_for_reading_does_not_stop() -> None:
    tickets, _ = lasting()
    assert opens(tickets, tickets.issue(may_stop=False)) == (True, False)


def test_a_ticket_for_stopping_reads_too() -> None:
    tickets, _ = lasting()
    assert opens(tickets, tickets.issue(may_stop=True)) == (True, True)


@pytest.mark.parametrize("first", [False, True])
def test_each_ticket_keeps_its_own_right(first: bool) -> None:
    """Whichever was issued first, and however often they are shown."""
    tickets, _ = lasting()
    one, other = tickets.issue(may_stop=first), tickets.issue(may_stop=not first)
    for _ in range(2):
        assert opens(tickets, one) == (True, first)
        assert opens(tickets, other) == (True, not first)


def test_a_ticket_opens_its_own_stream_only() -> None:
    one, _ = lasting()
    other, _ = lasting()
    assert opens(other, one.issue(may_stop=True)) == (False, False)


def test_where_no_ticket_was_issued_none_is_valid() -> None:
    tickets, _ = lasting()
    assert opens(tickets, "") == opens(tickets, "A" * 22) == (False, False)


def test_tickets_cannot_be_guessed() -> None:
    """22 characters that need no escaping in a URL, 128 bits, and no two alike."""
    tickets, _ = lasting()
    issued = [tickets.issue(may_stop=True) for _ in range(1000)]
    assert len(set(issued)) == 1000
    assert {len(ticket) for ticket in issued} == {22}
    assert all(ticket.replace("-", "").replace("_", "").isalnum() and ticket.isascii() for ticket in issued)


def test_the_ticket_itself_is_not_kept() -> None:
    """Who reads the memory of a stream, or a dump of it, finds hashes."""
    tickets, _ = lasting()
    ticket = tickets.issue(may_stop=True)
    assert ticket not in repr([getattr(tickets, name) for name in Tickets.__slots__])


# What is none


NEARLY = {
    "one character more": lambda ticket: ticket + "A",
    "one character less": lambda ticket: ticket[:-1],
    "another first character": lambda ticket: ("B" if ticket[0] == "A" else "A") + ticket[1:],
    "another last character": lambda ticket: ticket[:-1] + ("B" if ticket[-1] == "A" else "A"),
    "in other letters": str.swapcase,
    "with a space": lambda ticket: f" {ticket}",
    "with a line end": lambda ticket: f"{ticket}\n",
    "with a NUL": lambda ticket: f"{ticket}\0",
    "twice": lambda ticket: ticket * 2,
    "a great many times": lambda ticket: ticket * 50_000,
    "empty": lambda ticket: "",
    "64 characters": lambda ticket: (ticket * 3)[:64],
    "65 characters": lambda ticket: (ticket * 3)[:65],
    "a megabyte": lambda ticket: "A" * 1_000_000,
    "not ASCII": lambda ticket: "é" * 22,
    "full-width letters": lambda ticket: "".join([chr(ord(c) + 0xFEE0) for c in ticket]),
    "bytes that are not UTF-8, as a header field is decoded": lambda ticket: b"\xff\x80\xc0".decode(
        "utf-8", "surrogateescape"
    ),
    "a ticket and such a byte": lambda ticket: f"{ticket}\udcff",
}


@pytest.mark.parametrize("case", NEARLY)
def test_what_is_not_the_ticket_opens_nothing(case: str) -> None:
    tickets, _ = lasting()
    ticket = tickets.issue(may_stop=True)
    assert opens(tickets, NEARLY[case](ticket)) == (False, False)
    assert opens(tickets, ticket) == (True, True)


# How long


def test_a_ticket_expires() -> None:
    """By the clock that was passed in, to read as to stop, and for good."""
    tickets, clock = lasting(60.0)
    ticket = tickets.issue(may_stop=True)
    clock.now += 59.999
    assert opens(tickets, ticket) == (True, True)
    clock.now += 0.001
    assert opens(tickets, ticket) == (False, False)
    clock.now += 1_000_000
    assert opens(tickets, ticket) == (False, False)


def test_all_tickets_of_a_stream_expire_together() -> None:
    """When they were issued does not matter, nor that one is used."""
    tickets, clock = lasting(60.0)
    early = tickets.issue(may_stop=True)
    clock.now += 50
    late = tickets.issue(may_stop=True)
    assert opens(tickets, early) == opens(tickets, late) == (True, True)
    clock.now += 10
    assert opens(tickets, early) == opens(tickets, late) == (False, False)


def test_one_that_is_issued_after_that_opens_nothing() -> None:
    tickets, clock = lasting(60.0)
    clock.now += 61
    assert opens(tickets, tickets.issue(may_stop=True)) == (False, False)


def test_how_long_they_last_is_told_in_whole_seconds() -> None:
    """Never more than there is, never less than nothing."""
    tickets, clock = lasting(60.0)
    told = [tickets.expires_in]
    for seconds in (0.5, 0.5, 58.5, 0.5, 100.0):
        clock.now += seconds
        told.append(tickets.expires_in)
    assert told == [60, 59, 59, 0, 0, 0]
    assert all(type(seconds) is int for seconds in told)


# How many


def test_of_too_many_tickets_the_oldest_but_the_first_ends() -> None:
    """A client that asks for new ones without end takes no memory without end; the first and the newest always work."""
    tickets, _ = lasting()
    issued = [tickets.issue(may_stop=True) for _ in range(32)]
    assert all(opens(tickets, ticket) == (True, True) for ticket in issued)
    issued.append(tickets.issue(may_stop=False))
    assert opens(tickets, issued[2]) == (False, False)
    assert all(opens(tickets, ticket) == (True, True) for ticket in (*issued[:2], *issued[3:32]))
    assert opens(tickets, issued[32]) == (True, False)
    for _ in range(1000):
        newest = tickets.issue(may_stop=True)
        assert opens(tickets, newest) == (True, True)
    assert [opens(tickets, ticket) for ticket in issued[:2]] == [(True, True)] * 2
    assert not any(tickets.admit(ticket, to_stop=False) for ticket in issued[2:])


# Of other processes


def test_tickets_of_another_process_open_the_same() -> None:
    """Beside those of this process, and whatever else stands among them."""
    elsewhere, here = lasting()[0], lasting()[0]
    reading, stopping = elsewhere.issue(may_stop=False), elsewhere.issue(may_stop=True)
    own = here.issue(may_stop=False)
    here.restore({b"short": True, **elsewhere.hashes, b"x" * 33: True})
    assert [opens(here, ticket) for ticket in (own, reading, stopping)] == [(True, False), (True, False), (True, True)]
    assert len(here.hashes) == 3


def test_of_too_many_tickets_of_other_processes_the_last_ones_open() -> None:
    """Beside all that are known, and however often more are learned."""
    elsewhere, here = lasting()[0], lasting()[0]
    own = [here.issue(may_stop=True) for _ in range(30)]
    for _ in range(50):
        learned = [elsewhere.issue(may_stop=True) for _ in range(32)]
        here.restore(elsewhere.hashes)
        assert len(here.hashes) <= 64
    assert all(opens(here, ticket) == (True, True) for ticket in own)
    other = lasting()[0]
    other.restore({**dict.fromkeys([bytes([number]) * 32 for number in range(200)], True), **elsewhere.hashes})
    assert all(opens(other, ticket) == (True, True) for ticket in learned[2:])
    assert len(other.hashes) == 64
    newest = here.issue(may_stop=True)
    assert opens(here, newest) == (True, True)
    assert len(here.hashes) == 64
