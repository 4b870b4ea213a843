"""The upstream of the chaos, as a process: it plays the fates of `answers`, and counts who was asked how often.

    python -m tests.chaos.upstream      writes its address, and ends with its standard input

`GET /told` answers how often each answer was asked for, and how many answers are being
given. `GET /hang-up` closes all connections.
"""

import asyncio
import json
import random
import sys
from collections import Counter
from collections.abc import Iterator

import uvloop

from tests.chaos.answers import Answer, answer_of, asked_name
from tests.rig.scripted_upstream import (
    DONE,
    Close,
    Pause,
    Received,
    Reset,
    ScriptedUpstream,
    Send,
    Stall,
    Step,
    answer,
    chunked,
    delta,
    event,
    finish,
    head,
    stream,
    usage,
)

_PAUSES = (0.0, 0.0, 0.005, 0.02, 0.1)  # seconds, of which an answer has one
_SOON = 0.1  # seconds: the answer to the one who asks for it goes first
_USAGE = usage(prompt_tokens=3, completion_tokens=4, total_tokens=7)
_LAST_CHUNK = b"0\r\n\r\n"
_UNASKED = head(Transfer_Encoding="chunked") + chunked(delta("Nobody asked for this.") + finish() + DONE) + _LAST_CHUNK
_FULL = answer(503, {"error": {"message": "Full."}})


class Upstream:
    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.server = ScriptedUpstream()
        self.server.script(self._steps)

    def _steps(self, received: Received) -> list[Step]:
        self.server.requests.clear()  # a long run has many
        if received.path == "/told":
            return answer(200, {"calls": self.calls, "playing": self.server.playing})
        if received.path == "/hang-up":
            asyncio.get_running_loop().call_later(_SOON, self.server.hang_up)
            return answer(200, {})
        name = asked_name(received.body) if received.method == "POST" else None
        if name is None:
            return answer(404, {"error": {"message": "Not asked by the chaos."}})
        self.calls[name] += 1
        one = answer_of(name)
        is_first = self.calls[name] == 1
        return _object(one, is_first) if one.is_one_object else _streamed(one, is_first)


def _streamed(one: Answer, is_first: bool) -> list[Step]:
    before = [delta(piece) for piece in one.pieces[: one.break_at]]
    after = [delta(piece) for piece in one.pieces[one.break_at :]]
    match one.fate_name:
        case "refuses once" if is_first:
            return _FULL
        case "resets once" if is_first:
            return [Reset()]
        case "empty once" if is_first:
            return stream(b": no content\n\n")
        case "without [DONE]":
            return _cut(one, [*before, *after, finish()])
        case "without a finish":
            return _cut(one, [*before, *after, DONE])
        case "with garbage":
            return _cut(one, [*before, b"data: {not json\n\n", b": a comment\n\n", *after, finish(), DONE])
        case "refuses":
            return _FULL
        case "rejects":
            return answer(400, {"error": {"message": "No."}})
        case "never begins":
            return stream(b": busy\n\n", Stall())
        case "stalls":
            return _cut(one, before, Stall())
        case "closes":
            return _cut(one, before, Send(b"fff\r\ndata: {"), Close())
        case "resets":
            return _cut(one, before, Reset())
        case "ends without a finish":
            return _cut(one, before)
        case "takes its finish back":
            return _cut(one, [*before[:-1], finish(), before[-1]])
        case "fails, then [DONE]":
            return _cut(one, [*before, event({"error": {"message": "Out of memory.", "code": 500}}), DONE])
        case "gives up, then [DONE]":
            return _cut(one, [*before, finish("abort"), DONE])
    whole = _cut(one, [*before, *after, finish(), _USAGE, DONE])
    if one.fate_name == "answers twice":
        return [*whole[:-1], Send(_LAST_CHUNK + _UNASKED)]
    return whole


def _cut(one: Answer, events: list[bytes], *end: Step) -> list[Step]:
    """The steps of a stream whose bytes are cut anywhere, also within a character, with the pause of this answer."""
    chance = random.Random(f"cuts of {one.name}")
    pause = 0.002 if one.fate_name == "long" else chance.choice(_PAUSES)
    return stream(*_parts(b"".join(events), len(events), pause, chance), *end)


def _parts(data: bytes, count: int, pause: float, chance: random.Random) -> Iterator[bytes | Step]:
    places = sorted(chance.sample(range(1, len(data)), min(count, len(data) - 1)))
    for start, end in zip([0, *places], [*places, len(data)], strict=True):
        yield data[start:end]
        if pause:
            yield Pause(pause)


def _object(one: Answer, is_first: bool) -> list[Step]:
    message = {"role": "assistant", "content": one.text}
    body = {"id": "chatcmpl-1", "object": "chat.completion", "created": 7, "model": "m-1"}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    data = json.dumps({**body, "choices": choices}).encode()
    match one.fate_name:
        case "refuses once" if is_first:
            return _FULL
        case "refuses":
            return _FULL
        case "resets once" if is_first:
            return [Reset()]
        case "breaks once" if is_first:
            return [
                Send(head(200, "application/json", Content_Length=str(len(data))) + data[: len(data) // 2]),
                Close(),
            ]
        case "rejects":
            return answer(400, {"error": {"message": "No."}})
    begin = head(200, "application/json", Transfer_Encoding="chunked")
    half = len(data) // 2
    return [Send(begin + chunked(data[:half])), Pause(0.05), Send(chunked(data[half:]) + _LAST_CHUNK)]


async def serve() -> None:
    upstream = Upstream()
    await upstream.server.start()
    print(upstream.server.url, flush=True)
    parent_gone = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), parent_gone.set)  # nothing is ever written there
    await parent_gone.wait()
    await upstream.server.stop()


if __name__ == "__main__":
    uvloop.run(serve())
