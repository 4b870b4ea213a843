"""A fault as a value: how the first target behaves, and what a client must see of it."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from tests.rig.scripted_upstream import DONE, Step, answer, delta, finish, stream

HELLO = "Hello, world"
COMPLETION = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 7,
    "model": "m-1",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": HELLO}, "finish_reason": "stop"}],
}

WELL = stream(delta("Hello"), delta(", world"), finish(), DONE)  # what the second target answers
WELL_WHOLE = answer(200, COMPLETION)


@dataclass(frozen=True)
class Outcome:
    """`text` is all that the client has of the answer. `code` is that of the failure, None for a success.

    `requests` counts those to each target.
    """

    text: str
    code: str | None
    requests: tuple[int, ...]


def rescued(first: int = 1, second: int = 1, text: str = HELLO) -> Outcome:
    """The second target completes the answer. `first` is the number of requests to the first one."""
    return Outcome(text, None, (first, second))


def unharmed(text: str = HELLO, requests: int = 1) -> Outcome:
    """The first target completes the answer alone."""
    return Outcome(text, None, (requests, 0))


def fails(code: str, text: str = "", requests: int = 1) -> Outcome:
    return Outcome(text, code, (requests, 0))


@dataclass(frozen=True)
class Scenario:
    """`first` holds the scripts of the first target in turn; the last one repeats. The second target answers well.

    `alone` and `paired` are the right outcomes with the first target alone, and with both. `whole` replaces `first` for
    answers that are asked for as one JSON body; without it, the fault is not shown there. `elsewhere` gives another URL
    to the first target, which then counts no requests. `before` is a number of requests that come first, and that
    `first` answers well. `resent` is how often the gateway sends the same attempt again.
    """

    number: int
    name: str
    first: Sequence[Sequence[Step]]
    alone: Outcome
    paired: Outcome
    settings: str = ""
    whole: Sequence[Sequence[Step]] | None = None
    elsewhere: Callable[[], AbstractAsyncContextManager[str]] | None = None
    before: int = 0
    resent: int = 0

    @property
    def id(self) -> str:
        return f"fault_{self.number:02} {self.name}"


def harmless(number: int, name: str, script: Sequence[Step], text: str = HELLO, settings: str = "") -> Scenario:
    """The first target's answer is odd, but whole. The second one is not asked."""
    return Scenario(number, name, [script], unharmed(text), unharmed(text), settings)


def before_content(
    number: int,
    name: str,
    script: Sequence[Step],
    code: str,
    *,
    settings: str = "",
    again: bool = False,
    whole: bool = False,
) -> Scenario:
    """Nothing of an answer has come, so the next attempt may give all of it.

    `again`: the first target is asked a second time, before the second one. `whole`: the same script breaks an answer
    that is asked for as one JSON body.
    """
    times = 2 if again else 1
    return Scenario(
        number,
        name,
        [script],
        fails(code, requests=times),
        rescued(times),
        settings,
        whole=[script] if whole else None,
    )


def later(number: int, name: str, script: Sequence[Step], code: str, *, settings: str = "") -> Scenario:
    """As `before_content`, but the other target comes first. Without it, the first target is asked once more."""
    return Scenario(number, name, [script], fails(code, requests=2), rescued(), settings)


def broken_off(number: int, name: str, *parts: bytes | Step, code: str, settings: str = "") -> Scenario:
    """The answer breaks off behind "Hello". Only the second target can complete it, by the same text."""
    script = stream(delta("Hello"), *parts)
    return Scenario(number, name, [script], fails(code, "Hello"), rescued(), settings)
