"""The parts of a stream: numbered entries, each a kind and a payload of bytes.

Decoders make entries, logs keep them, and views show them. An entry's number is its place in the log, counted from 1.
The number 0 is the `start` block before all entries. Payloads are UTF-8: plain text for the first three kinds, JSON for
the others. A stream contains deltas of the first six kinds, or chunks if its client gets what the upstream sent.
"""

from enum import StrEnum

import msgspec


class Kind(StrEnum):
    TEXT = "text"
    REASONING = "reasoning"
    REFUSAL = "refusal"
    TOOL = "tool"  # one tool-call fragment, as the upstream sent it
    EXTRA = "extra"  # the other fields of one delta: audio, images, annotations
    REASONING_EXTRA = "reasoning_extra"  # the same for fields about the reasoning
    CHUNK = "chunk"  # one event's data as the upstream sent it: a `chat.completion.chunk`, or a `chat.completion`
    FAILURE = "failure"  # {"error": {...}, "retryable": bool}; an end follows
    END = "end"  # always last


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One per event is made and kept. The collector does not see them: it would stop the process for 40 ms and more."""

    kind: Kind
    payload: bytes


def is_lost_end(entry: Entry) -> bool:
    """Whether this is the end of a lost stream: not its own process wrote it, but one that knows of no attempts."""
    return entry.kind is Kind.END and entry.payload.endswith(b'"attempts":null}')


class EndReason(StrEnum):
    """Why a stream ended."""

    COMPLETE = "complete"
    STOPPED = "stopped"
    CLIENT_GONE = "client_gone"
    TIMEOUT = "timeout"
    UPSTREAM_ERROR = "upstream_error"
    INCOMPLETE = "incomplete"
    SHUTTING_DOWN = "shutting_down"
