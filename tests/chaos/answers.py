"""What the upstream of the chaos says to a question, and what of it a client may be told.

The name of an answer is in its question. Its text, its pace and its fate follow from the name alone, so the upstream
and the judge know them without telling each other, and a run can be repeated.
"""

import json
import random
import re
from dataclasses import dataclass

MARK = "chaos:"  # of each question and each answer, which no log may have
_NAME = re.compile(rf"{MARK}([\w-]+)")
_WORDS = (
    "sea",
    "wave",
    "été",
    "海",
    "👍🏽",
    "salt\n",
    "\n\ntide ",
    " ",
    "foam\u2028",
    "data: x\n",
    '"quoted"',
    "\\n",
    "ship ",
)


@dataclass(frozen=True)
class Fate:
    """How an answer ends.

    `codes`: of the failure that its client is told. It is whole if there are none. `calls`: requests to the upstream,
    each of which counts in the `attempts` of the end.
    """

    weight: int
    codes: frozenset[str] = frozenset()
    calls: int = 1

    @property
    def is_well(self) -> bool:
        return not self.codes


def _failing(weight: int, *codes: str, calls: int = 1) -> Fate:
    return Fate(weight, frozenset(codes), calls)


_BROKEN = ("upstream_incomplete", "upstream_error", "upstream_unreachable")

# Failures are under a third of all requests, so that no breaker opens: it would change the number of calls.
FATES = {
    "whole": Fate(40),
    "long": Fate(8),
    "without [DONE]": Fate(4),
    "without a finish": Fate(4),
    "with garbage": Fate(6),
    "answers twice": Fate(4),
    "refuses once": Fate(3, calls=2),
    "resets once": Fate(3, calls=2),
    "empty once": Fate(3, calls=2),
    "refuses": _failing(2, "upstream_error", calls=2),
    "rejects": _failing(2, "upstream_rejected"),
    "never begins": _failing(2, "first_token_timeout"),
    "stalls": _failing(2, "idle_timeout"),
    "closes": _failing(3, *_BROKEN),
    "resets": _failing(3, *_BROKEN),
    "ends without a finish": _failing(3, "upstream_incomplete"),
    "takes its finish back": _failing(3, "upstream_incomplete"),
    "fails, then [DONE]": _failing(3, "upstream_error"),
    "gives up, then [DONE]": _failing(3, "upstream_error", "upstream_incomplete"),
}
# As one JSON object. Nothing of it is passed on before it is whole, so what breaks is asked for again.
WHOLE_FATES = {
    "whole": Fate(10),
    "refuses once": Fate(2, calls=2),
    "resets once": Fate(2, calls=2),
    "breaks once": Fate(2, calls=2),
    "refuses": _failing(1, "upstream_error", calls=2),
    "rejects": _failing(1, "upstream_rejected"),
}


@dataclass(frozen=True)
class Answer:
    name: str
    fate_name: str
    pieces: list[str]  # the texts of its deltas
    break_at: int  # pieces before the break, if its fate is one

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def is_one_object(self) -> bool:
        return self.name.endswith("-object")

    @property
    def fate(self) -> Fate:
        return (WHOLE_FATES if self.is_one_object else FATES)[self.fate_name]

    @property
    def deliverable(self) -> str:
        """The longest text that the upstream says before it ends or breaks."""
        return self.text if self.fate.is_well else "".join(self.pieces[: self.break_at])


def answer_of(name: str) -> Answer:
    """A name that ends in `-object` is asked for as one JSON object."""
    chance = random.Random(name)
    fates = WHOLE_FATES if name.endswith("-object") else FATES
    fate = chance.choices(list(fates), [one.weight for one in fates.values()])[0]
    count = chance.randint(100, 400) if fate == "long" else chance.randint(2, 30)
    words = chance.choices(_WORDS, k=count)
    padding = "~" * 300 if fate == "long" else ""
    # The first piece has the name, so no text is the beginning of another one.
    pieces = [f"{MARK}{name}: ", *[f"{number}{word}{padding}" for number, word in enumerate(words)]]
    return Answer(name, fate, pieces, chance.randint(1, len(pieces)))


def question(name: str) -> str:
    return f"{MARK}{name}"


def asked_name(body: bytes) -> str | None:
    """The name in a request's body, whichever API it is of. None if it is no question of the chaos."""
    found = _NAME.search(json.dumps(json.loads(body), ensure_ascii=False))
    return found[1] if found else None
