"""An answer of sixty words, and sixteen ways in which the first target fails to give it.

Each way has the scripts for a stream and for one JSON body. The second target always knows the answer.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from tests.faults.scenario import COMPLETION
from tests.rig.scripted_upstream import (
    DONE,
    Close,
    Pause,
    Received,
    Reset,
    Script,
    Send,
    Stall,
    Step,
    answer,
    delta,
    finish,
    head,
    stream,
    usage,
)

WORDS = [f"word{number} " for number in range(1, 61)]
TEXT = "".join(WORDS)
USED = {"prompt_tokens": 5, "completion_tokens": 60, "total_tokens": 65}
EVENTS = [delta(word) for word in WORDS]

_CHOICE = {"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}
_BODY = json.dumps({**COMPLETION, "choices": [_CHOICE], "usage": USED}).encode()
_UNFINISHED = {**COMPLETION, "choices": [{**_CHOICE, "finish_reason": None}]}
_HEAD = Send(head(200, "application/json", Content_Length=str(len(_BODY))))
_LIMITED = {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}
_ERROR = {"error": {"message": "no", "type": "server_error"}}
_TOO_LONG = {"error": {"message": "too long", "code": "context_length_exceeded"}}
_REFUSED = {"error": {"message": "no", "code": "content_filter"}}
_PREFILL = {"error": {"message": "the last message must be the user's"}}


def either(streamed: Sequence[Step], whole: Sequence[Step]) -> Script:
    """The script that fits the request."""
    return lambda received: streamed if received.json.get("stream") else whole


WELL = either(stream(*EVENTS, finish(), usage(**USED), DONE), answer(200, _BODY))


def without_prefill(received: Received) -> Sequence[Step]:
    """Refuses to go on with an answer that another server began."""
    (*_, last) = json.loads(received.body)["messages"]
    return answer(400, _PREFILL) if last["role"] == "assistant" else steps(WELL, received)


def steps(script: Script, received: Received) -> Sequence[Step]:
    return script(received) if callable(script) else script


@dataclass(frozen=True)
class Way:
    """`most` is the largest number of requests to the first target. `code` is that of the failure, if there is one."""

    first: Sequence[Script]
    most: int = 2
    code: str | None = None
    second: Script = WELL


def _cut_whole(words: int, last: Step) -> Sequence[Step]:
    size = _BODY.index(f"word{words} ".encode())
    return [_HEAD, Send(_BODY[:size]), last]


_CUT = either(stream(*EVENTS[:40], Close()), _cut_whole(40, Close()))
_STALLS = either(stream(*EVENTS[:20], Stall()), _cut_whole(20, Stall()))
_MALFORMED = either(
    stream(*EVENTS[:9], b'data: {"choices":[{"del\n\n', *EVENTS[10:], finish(), DONE), answer(200, _BODY[:-2])
)

WAYS = {
    "429 with Retry-After": Way([answer(429, _LIMITED, Retry_After="2"), WELL]),
    "429 for ever": Way([answer(429, _LIMITED, Retry_After="2")]),
    "500 once": Way([answer(500, _ERROR), WELL]),
    "503 for ever": Way([answer(503, _ERROR)]),
    "a reset before the header": Way([[Reset()]]),
    "no response at all": Way([[Stall()]], most=1),
    "a late first token": Way([either([Pause(0.15), *stream(*EVENTS, finish(), DONE)], answer(200, _BODY))]),
    "a first token that is too late": Way([either([Pause(2), *stream(*EVENTS)], [Pause(2)])], most=1),
    "cut after 40 words": Way([_CUT]),
    "a stall after 20 words": Way([_STALLS], most=1),
    "a malformed tenth event": Way([_MALFORMED]),
    "no [DONE]": Way([either(stream(*EVENTS, finish()), answer(200, _BODY))], most=1),
    "no [DONE] and no finish reason": Way([either(stream(*EVENTS), answer(200, _UNFINISHED))], most=1),
    "a prompt that is too long": Way([answer(400, _TOO_LONG)], most=1),
    "refused content": Way([answer(400, _REFUSED)], most=1, code="content_filter"),
    "cut, and a fallback without prefill": Way([_CUT], second=without_prefill),
}
