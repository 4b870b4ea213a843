"""Judges what clients were told of one answer, by its name alone and by what was disturbed meanwhile."""

from collections.abc import Collection, Iterator

from tests.chaos.answers import Answer, answer_of
from tests.chaos.told import Asked, Told
from tests.chaos.world import Disturbance

KILLED, DRAINED, FROZEN, EMPTIED, SLOW = (
    "gateway killed",
    "gateway drained",
    "redis frozen",
    "redis killed",
    "slow machine",
)
_AWAY = (KILLED, DRAINED)
_REDIS = (FROZEN, EMPTIED)
_ANY = (*_AWAY, *_REDIS, SLOW)
_NOTICED = 11.0  # seconds until a killed producer is known to be dead: `operating.md` says ten
# Seconds after its end in which a disturbance still explains something. After Redis is back: two until streams are
# written again, and one until a gateway looks whether it is back, and another one on a busy machine.
_MARGINS = {KILLED: 1.0, DRAINED: 1.0, FROZEN: 4.0, EMPTIED: 4.0, SLOW: 4.0}

# What else than its fate may end an answer, and what explains it.
_EXPLAINED = {
    "producer_lost": (KILLED, *_REDIS, SLOW),  # without Redis, no other gateway hears that a producer lives
    "recording_lost": (EMPTIED, KILLED),
    "shutting_down": (DRAINED,),
    "store_unavailable": (*_REDIS, SLOW, KILLED),  # the last: for a stop that only the producer can carry out
    "first_token_timeout": (SLOW,),
    "idle_timeout": (SLOW,),
    "connect_timeout": (SLOW,),
}
# What the first request of an answer fails with that has a second one. The gateway leaves that out while half of the
# last requests have failed, as they may have by chance: see `gateway/upstream/breaker.py`.
_FIRST_FAILURES = frozenset({"upstream_error", "upstream_incomplete", "upstream_unreachable"})
# Their answers have not begun when they fail, so their key is free again, and the next request with it asks again.
_FAIL_EARLY = frozenset({"refuses", "rejects", "never begins"})


class Judge:
    def __init__(self, disturbances: Collection[Disturbance]) -> None:
        self._disturbances = disturbances

    def faults(self, asked: Asked, calls: int) -> Iterator[str]:
        """What is not as it must be. `calls`: how often the upstream was asked for this answer."""
        answer = answer_of(asked.name)
        for told in asked.clients:
            yield from told.faults
            yield from self._end(asked, told, answer, calls)
            yield from self._text(asked, told, answer)
        yield from self._calls(asked, answer, calls)
        yield from self._waits(asked)
        is_unwritten = self._explained(asked, DRAINED) and self._explained(asked, *_REDIS)
        if not (
            self._explained(asked, KILLED) or is_unwritten
        ):  # else the last events may be missing, as is documented
            yield from asked.differences
        last = [
            told for told in asked.clients if _is_end(told) and not self._had_one_attempt(asked, told, answer, calls)
        ]
        ends = {(told.end, told.code, told.text) for told in last}
        if len(ends) > 1 and not self._explained(asked, KILLED, *_REDIS):
            yield f"clients of one stream were told different ends: {ends}"

    def _end(self, asked: Asked, told: Told, answer: Answer, calls: int) -> Iterator[str]:
        match told.end:
            case "":
                if not told.faults:
                    yield "no end"
            case "complete":
                if not answer.fate.is_well:
                    yield "complete, although the upstream broke off"
                if told.code:
                    yield f"complete behind the failure {told.code}"
            case "stopped":
                if not asked.was_stopped:
                    yield "stopped by nobody"
            case "client_gone":
                if not asked.was_left and not self._explained(asked, *_ANY):
                    yield "ended as if its client had gone"
            case "left":
                pass
            case "lost":
                if not self._explained(asked, *_AWAY, EMPTIED):
                    yield f"lost without a cause: {told.status} {told.code}"
            case "broken":
                if answer.fate.is_well and not self._explained(asked, *_AWAY):
                    yield "broken off without a cause"
            case _ if self._had_one_attempt(asked, told, answer, calls):
                pass
            case _:
                if told.code not in answer.fate.codes and not self._explained(asked, *_EXPLAINED.get(told.code, ())):
                    yield f"{told.end} {told.status} {told.code} without a cause"

    def _had_one_attempt(self, asked: Asked, told: Told, answer: Answer, calls: int) -> bool:
        """Its only one failed, of an answer that has more. Its key is free then, so a second request may get all."""
        was_only = calls == 1 or (asked.asks > 1 and told.attempts == 1)
        return answer.fate.calls > 1 and was_only and told.code in _FIRST_FAILURES

    def _text(self, asked: Asked, told: Told, answer: Answer) -> Iterator[str]:
        if told.end == "complete" and told.text != answer.text:
            yield f"complete with {_difference(told.text, answer.text)}"
        elif not answer.deliverable.startswith(told.text) and answer.fate_name != "takes its finish back":
            yield f"a text that was not sent: {_difference(told.text, answer.deliverable)}"

    def _calls(self, asked: Asked, answer: Answer, calls: int) -> Iterator[str]:
        most = answer.fate.calls
        if asked.asks > 1 and (answer.fate_name in _FAIL_EARLY or self._explained(asked, *_ANY)):
            most *= asked.asks
        if calls > most:
            yield f"{calls} requests to the upstream, not {most}"
        for told in asked.clients:
            if told.end == "complete" and calls == 0:
                yield "an answer for which nobody was asked"
            if told.attempts is not None and asked.asks == 1 and not self._stops_early(asked):
                # A request on a connection that was used before is sent once more if that is reset before any byte: it
                # is not known then whether the upstream got it. See `gateway/upstream/client/__init__.py`. On a new
                # connection, the reset is a failure, which is the last one where no second attempt may follow.
                has_failed = told.code in _FIRST_FAILURES
                sent_again = answer.fate_name == "resets once" and told.attempts == 1 and not has_failed
                if told.attempts + sent_again != calls:
                    yield f"the end tells of {told.attempts} attempts, the upstream of {calls}"
        if asked.differs and calls == 1:
            yield "two responses with one key differ, although the upstream was asked once"

    def _stops_early(self, asked: Asked) -> bool:
        """An attempt that was stopped at once, or whose gateway is gone, may never have reached the upstream."""
        return asked.was_stopped or asked.was_left or self._explained(asked, KILLED)

    def _waits(self, asked: Asked) -> Iterator[str]:
        for at, status, code in asked.waits:
            causes = _EXPLAINED.get(code, ()) if status else _AWAY
            since = at - _NOTICED if code == "store_unavailable" else at
            if not self._happened(since, at, causes):
                yield f"told to wait without a cause: {status} {code}"
        for read_at, at in asked.cut_by_gateway:  # a client that waits for something else notices it late
            if not self._happened(read_at, at, _AWAY):
                since, until = read_at - asked.began, at - asked.began
                yield f"cut off without a cause, {since:.2f} to {until:.2f} s after it was asked"

    def _explained(self, asked: Asked, *kinds: str) -> bool:
        return self._happened(asked.began, asked.ended, kinds)

    def _happened(self, began: float, ended: float, kinds: Collection[str]) -> bool:
        return any(
            one.kind in kinds and one.began <= ended and one.ended + _MARGINS[one.kind] >= began
            for one in self._disturbances
        )


def _is_end(told: Told) -> bool:
    return told.end not in ("", "left", "lost", "broken", "refused")


def _difference(text: str, right: str) -> str:
    same = next((at for at, (one, other) in enumerate(zip(text, right, strict=False)) if one != other), None)
    at = min(len(text), len(right)) if same is None else same
    return f"{len(text)} of {len(right)} characters, {text[at : at + 30]!r} in place of {right[at : at + 30]!r}"
