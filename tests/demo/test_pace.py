"""Waits, as numbers: nothing sleeps here."""

import math
from random import Random

import pytest

from gateway.demo.answers import answer_to
from gateway.demo.completion import Delta
from gateway.demo.models import SECOND, Act, Pause
from gateway.demo.pace import Lifelike, Steady


def lifelike(question: str, *, seed: int = 0) -> list[float]:
    pace = Lifelike(Random(seed))
    return [pace.before(Delta(content=token)) for token in answer_to(question, None)]


@pytest.mark.parametrize("question", ["What is the sea?", "你是谁？", "Some code, please"])
def test_a_realistic_pace_is_25_to_60_tokens_a_second_with_short_breaths(question):
    waits = lifelike(question)
    assert min(waits) >= 1 / 60
    assert max(waits) <= 1 / 25 + 0.3
    assert 20 < len(waits) / sum(waits) < 60


def test_it_breathes_after_a_sentence():
    pace = Lifelike(Random(0))
    waits = {token: pace.before(Delta(content=token)) for token in ("Yes", ".", " No", "。", "好")}
    assert waits["."] <= 1 / 25
    assert waits[" No"] > 0.1
    assert waits["好"] > 0.1


def test_the_same_seed_gives_the_same_pace_and_it_varies():
    assert lifelike("Hello") == lifelike("Hello")
    assert lifelike("Hello") != lifelike("Hello", seed=1)
    assert len(set(lifelike("Hello"))) > 10


def test_a_second_is_a_second_at_a_realistic_pace():
    assert Lifelike(Random(0)).before(SECOND) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("step", "wait"),
    [(Delta(content="a"), 0.5), (Pause(3), 1.5), (Act.KEEP_ALIVE, 0), (Act.CUT, 0), (Act.STALL, math.inf)],
)
def test_an_interval_is_kept_before_every_token(step, wait):
    assert Steady(0.5).before(step) == wait


def test_without_an_interval_to_keep_only_a_stall_waits():
    pace = Steady(0)
    assert pace.before(Pause(1_000)) == 0
    assert pace.before(Act.STALL) == math.inf
