"""Which limits hold for whom: a table of callers."""

import pytest

from gateway.admission.auth import Caller
from gateway.admission.limits import Allowance, allowance
from gateway.config import Assistant, Key

FREE = Key("free")
LIMITED = Key("limited", requests_per_minute=3, tokens_per_minute=1000, max_streams=2)
PUBLIC = Assistant(public=True)
GENEROUS = Assistant(public=True, requests_per_minute=99, max_streams=7, max_tokens=5)
PRIVATE = Assistant(requests_per_minute=1, max_streams=1)  # says nothing: it is not public

ALLOWANCES = {
    # who asks, the assistant's name, the assistant: what holds
    "a key without limits": (Caller("192.0.2.7", FREE), None, PRIVATE, Allowance("key:free")),
    "a key with limits": (Caller("192.0.2.7", LIMITED), None, PRIVATE, Allowance("key:limited", 3, 1000, 2)),
    "a key at another address": (Caller("192.0.2.8", LIMITED), None, PRIVATE, Allowance("key:limited", 3, 1000, 2)),
    "a key at a public assistant": (Caller("192.0.2.7", FREE), "maths", PUBLIC, Allowance("key:free")),
    "a stranger at a public assistant": (
        Caller("192.0.2.7"),
        "maths",
        PUBLIC,
        Allowance("assistant:maths:192.0.2.7", 10, None, 2),
    ),
    "a stranger at another public assistant": (
        Caller("192.0.2.7"),
        "chat",
        GENEROUS,
        Allowance("assistant:chat:192.0.2.7", 99, None, 7),
    ),
    "a stranger with many addresses": (
        Caller("2001:db8::dead:beef"),
        "maths",
        PUBLIC,
        Allowance("assistant:maths:2001:db8::/64", 10, None, 2),
    ),
    "anybody, where everybody is served": (
        Caller("192.0.2.7"),
        None,
        Assistant(),
        Allowance("address:192.0.2.7"),
    ),
}


@pytest.mark.parametrize("case", ALLOWANCES)
def test_what_holds_for_whom(case: str) -> None:
    """A key's own limits, wherever it asks from; for strangers the public assistant's, by address."""
    caller, name, assistant, expected = ALLOWANCES[case]
    assert allowance(caller, name, assistant) == expected


def test_a_name_of_a_key_is_no_name_of_an_assistant() -> None:
    """Nobody counts on another's account, whatever they are called."""
    key, assistant = Key("maths:192.0.2.7"), Assistant(public=True)
    scopes = {
        allowance(Caller("192.0.2.7", key), None, Assistant()).scope,
        allowance(Caller("192.0.2.7"), "maths", assistant).scope,
    }
    assert len(scopes) == 2
