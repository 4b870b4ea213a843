"""What must not be in a log is found there."""

import pytest

from tests.chaos.answers import answer_of, question
from tests.chaos.logs import UPSTREAM_KEY, log_faults

TICKET = "abcdefghijklmnopqrst-_"


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("Traceback (most recent call last):", "an exception"),
        ('{"level":"ERROR","message":"It broke."}', "an error"),
        (f"asked {question('1-2')}", "a text"),
        (f"answered {answer_of('1-2').pieces[0]}", "a text"),
        (f"Authorization: Bearer {UPSTREAM_KEY}", "a key"),
        (f"GET /streams/x?ticket={TICKET} 200", "a ticket"),
    ],
)
def test_it_is_found_in_its_line(words: str, kind: str) -> None:
    log = f"serving\n{words}\nserving\n"
    assert log_faults(log, {TICKET}) == [f"{kind} is in the log: {words}"]


def test_ids_of_streams_may_be_in_a_log() -> None:
    assert log_faults('{"level":"INFO","stream":"ABCDEFGHIJKLMNOPQRST-_"}', {TICKET}) == []
