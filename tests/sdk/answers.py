"""What the upstream says in the tests of the official clients."""

from tests.rig.scripted_upstream import (
    DONE,
    Close,
    Pause,
    Reset,
    Send,
    Step,
    answer,
    delta,
    event,
    finish,
    stream,
    usage,
)

QUESTION = {"model": "m-1", "messages": [{"role": "user", "content": "Hi"}]}
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}

HELLO = stream(delta("Hel"), delta("lo"), finish(), usage(**USAGE), DONE)

# Each part is legal or at least seen, and each breaks one client or another that gets it as it is.
STUMBLING_BLOCKS = stream(
    b"\xef\xbb\xbf" + delta("Hel"),
    b": keep-alive\n\n",
    b"id: 7\n\n",
    b"retry: 10\n\n",
    b"event: ping\n\n",
    b"id: 8\nevent: completion\n" + delta("lo"),
    b"data:\n\n",
    b"data: not JSON\n\n",
    b'data: {"choices": [{"index": 0, "delta": {"content": "\xff"}}]}\n\n',
    finish(),
    DONE,
)

# An answer that breaks off after "Hel", in every way that a wire can break, and the code that the client is told. The
# pause lets "Hel" arrive first: a reset takes with it what was not yet read.
CUTS: dict[str, tuple[list[Step], str]] = {
    "reset": (stream(delta("Hel"), Pause(0.05), Reset()), "upstream_incomplete"),
    "closed inside the body": (stream(delta("Hel"), Pause(0.05), Close()), "upstream_incomplete"),
    "a clean end without a finish reason": (stream(delta("Hel"), Pause(0.05)), "upstream_incomplete"),
    "an error object": (
        stream(delta("Hel"), Pause(0.05), event({"error": {"message": "No room.", "code": "overloaded"}}), DONE),
        "overloaded",
    ),
    "malformed chunks": (stream(delta("Hel"), Pause(0.05), Send(b"no size\r\n\r\n"), Close()), "upstream_incomplete"),
}


def completion(*choices: dict[str, object], **more: object) -> list[Step]:
    """A whole answer, as it comes where no stream was asked for."""
    body = {"id": "chatcmpl-1", "object": "chat.completion", "created": 7, "model": "m-1"}
    return answer(200, body | {"choices": choices or [choice(content="Hello")], "usage": USAGE} | more)


def choice(index: int = 0, finish_reason: str = "stop", **message: object) -> dict[str, object]:
    return {"index": index, "message": {"role": "assistant"} | message, "finish_reason": finish_reason}


def refusal(status: int, **fields: str) -> list[Step]:
    """An error status in OpenAI's shape, whose header fields are `fields`."""
    error = {"message": f"Words of the upstream for {status}.", "type": "t", "param": "p", "code": "code-of-upstream"}
    return answer(status, {"error": error}, **fields)
