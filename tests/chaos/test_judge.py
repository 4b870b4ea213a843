"""The judge sees each kind of wrong end, and explains nothing by what did not happen."""

from itertools import count

import pytest

from tests.chaos.answers import answer_of
from tests.chaos.judge import Judge
from tests.chaos.leftovers import differences
from tests.chaos.told import Asked, Told
from tests.chaos.world import Disturbance
from tests.rig.accounts import Account


def name_of(fate: str) -> str:
    return next(name for number in count() if answer_of(name := f"1-{number}").fate_name == fate)


def asked(fate: str, *clients: Told, **fields: object) -> Asked:
    one = Asked("chat", name_of(fate), began=100.0, ended=101.0, clients=list(clients))
    for name, value in fields.items():
        setattr(one, name, value)
    return one


def whole(fate: str = "whole", **fields: object) -> Told:
    told = Told(end="complete", attempts=1, text=answer_of(name_of(fate)).text)
    for name, value in fields.items():
        setattr(told, name, value)
    return told


def faults(one: Asked, calls: int = 1, *disturbances: Disturbance) -> list[str]:
    return list(Judge(disturbances).faults(one, calls))


def test_what_is_right_has_no_fault() -> None:
    part = answer_of(name_of("resets")).deliverable[:5]
    failed = Told(end="upstream_error", code="upstream_error", attempts=1, text=part)
    stopped = Told(end="stopped", text="")
    assert faults(asked("whole", whole())) == []
    assert faults(asked("refuses once", whole("refuses once", attempts=2)), 2) == []
    assert faults(asked("resets", failed)) == []
    assert faults(asked("resets once", whole("resets once", attempts=1)), 2) == []
    assert faults(asked("resets once", whole("resets once", attempts=1)), 1) != []
    only = Told(end="upstream_error", code="upstream_unreachable", attempts=1)
    assert faults(asked("resets once", only), 1) == []
    refused = Told(end="upstream_error", code="upstream_error", attempts=1)
    assert faults(asked("refuses once", refused, whole("refuses once"), asks=2), 2) == []
    assert faults(asked("refuses once", refused, whole("refuses once")), 2) != []
    assert faults(asked("whole", stopped, was_stopped=True)) == []
    assert faults(asked("whole", Told(end="left"))) == []


TEXT = answer_of(name_of("whole")).text


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (Told(), "no end"),
        (whole(text=TEXT[:-1]), "complete with"),
        (whole(text=TEXT + "x"), "complete with"),
        (whole(text=TEXT.replace("1", "7")), "complete with"),
        (whole(attempts=2), "tells of 2 attempts"),
        (whole(code="idle_timeout"), "behind the failure"),
        (Told(end="left", text="another"), "not sent"),
        (Told(end="stopped"), "stopped by nobody"),
        (Told(end="client_gone"), "as if its client had gone"),
        (Told(end="lost", status=404), "lost without a cause"),
        (Told(end="broken"), "broken off without a cause"),
        (Told(end="incomplete", code="producer_lost"), "producer_lost without a cause"),
        (Told(end="refused", status=503, code="shutting_down"), "shutting_down without a cause"),
        (Told(end="refused", status=500, code="internal_error"), "internal_error without a cause"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_wrong_end_of_a_whole_answer(told: Told, words: str) -> None:
    (fault,) = [fault for fault in faults(asked("whole", told)) if words in fault]
    assert fault


@pytest.mark.parametrize("fate", ["resets", "stalls", "fails, then [DONE]", "ends without a finish", "rejects"])
def test_a_broken_answer_must_not_look_complete(fate: str) -> None:
    told = Told(end="complete", text=answer_of(name_of(fate)).deliverable)
    assert any("although the upstream broke off" in fault for fault in faults(asked(fate, told)))


def test_an_answer_is_asked_for_once() -> None:
    assert faults(asked("whole", whole()), 2) != []
    assert faults(asked("whole", whole(), asks=2), 2) != []
    assert faults(asked("whole", whole(), asks=2), 2, Disturbance("redis killed", 100.5, 100.7)) == []


def test_clients_of_one_stream_get_one_end() -> None:
    other = Told(end="upstream_error", code="upstream_error")
    assert any("different ends" in fault for fault in faults(asked("whole", whole(), other)))


def test_a_disturbance_explains_only_what_it_can_cause() -> None:
    lost = asked("whole", Told(end="incomplete", code="producer_lost"))
    away = asked("whole", whole(), waits=[(100.5, 503, "store_unavailable")])
    killed, frozen = Disturbance("gateway killed", 100.2, 100.4), Disturbance("redis frozen", 100.2, 100.4)
    before = Disturbance("gateway killed", 50.0, 60.0)
    assert faults(lost, 1, killed) == []
    assert faults(lost, 1, before) != []
    assert faults(away, 1, frozen) == []
    assert faults(asked("whole", whole(), waits=[(100.5, 503, "busy")]), 1, frozen, killed) != []
    assert faults(asked("whole", whole(), cut_by_gateway=[(100.4, 100.5)]), 1, frozen) != []
    differing = asked("whole", whole(), differences=["the stored response has less"])
    assert faults(differing, 1, killed) == []
    drained = Disturbance("gateway drained", 100.2, 100.4)
    assert faults(differing, 1, drained, frozen) == []
    for one in (drained, frozen):
        assert faults(differing, 1, one) == ["the stored response has less"]


def test_what_is_left_is_told() -> None:
    before = Account(
        {"serve": 1}, {"listening socket": 1}, {"gateway.streams.held.HeldStream": 0, "builtins.dict": 9}, 1
    )
    after = Account(
        {"serve": 1, "Generation.run": 2},
        {"listening socket": 1, "client": 3},
        {"gateway.streams.held.HeldStream": 500, "builtins.dict": 90_000},
        1,
    )
    assert differences(before, before) == []
    tasks, descriptors, own, _ = differences(before, after)
    assert (tasks, descriptors) == ("2 tasks Generation.run are left", "3 descriptors are left: client")
    assert own == "500 objects gateway.streams.held.HeldStream are left"
