"""Which representation `Accept` asks for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.handlers.negotiation import Representation, negotiate

EVENTS, TEXT, JSON = Representation.EVENTS, Representation.TEXT, Representation.JSON


@pytest.mark.parametrize(
    ("accept", "representation"),
    [
        ("text/event-stream", EVENTS),
        ("text/plain", TEXT),
        ("application/json", JSON),
        # Nothing that is meant
        ("", JSON),
        ("*/*", JSON),
        ("text/*", JSON),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", JSON),
        ("image/png", JSON),
        ("text", JSON),
        ("text/event-streams", JSON),
        # One among others
        ("text/html, text/event-stream", EVENTS),
        ("*/*, text/plain", TEXT),
        ("text/html;q=1, text/plain;q=0.1", TEXT),
        # The highest weight, and of equal ones the first
        ("text/plain;q=0.5, text/event-stream;q=0.9", EVENTS),
        ("application/json;q=0.9, text/event-stream", EVENTS),
        ("application/json, text/event-stream;q=0.9", JSON),
        ("text/plain, text/event-stream", TEXT),
        ("text/event-stream, text/plain", EVENTS),
        ("application/json, text/event-stream", JSON),
        ("text/plain;q=0.001, application/json;q=0", TEXT),
        # Not this one
        ("text/event-stream;q=0", JSON),
        ("text/event-stream;q=0.0, text/plain", TEXT),
        # However it is written
        ("TEXT/Event-Stream", EVENTS),
        ("  text/event-stream  ", EVENTS),
        ("text/event-stream;charset=utf-8", EVENTS),
        ("text/event-stream ; charset=utf-8 ; q=0.8 , text/plain ; q=0.7", EVENTS),
        ("text/plain;Q=0.1,text/event-stream;q=0.2", EVENTS),
        (",,text/plain,", TEXT),
        # A weight that is none
        ("text/event-stream;q=x", JSON),
        ("text/event-stream;q=", JSON),
        ("text/event-stream;q=-1", JSON),
        ("text/event-stream;q=nan", JSON),
        ("text/event-stream;q=x, text/plain;q=0.1", TEXT),
    ],
)
def test_what_is_asked_for(accept: str, representation: Representation) -> None:
    """Whoever names nothing of ours gets the whole answer as JSON."""
    assert negotiate(accept) is representation


@given(st.text(st.characters(max_codepoint=255), max_size=60) | st.text("text/plain;q=01., ", max_size=60))
def test_anything_is_an_answer(accept: str) -> None:
    assert negotiate(accept) in Representation
