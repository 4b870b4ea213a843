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


LOST = {"is_lost": True}
"""The last field of both entries that end a lost stream. Not its own process writes them."""

_LOST = b'"is_lost":true}'
_LAST = frozenset({Kind.FAILURE, Kind.END})


def is_lost(entry: Entry) -> bool:
    """Whether it is one of these. Its number may also be that of an entry that only the stream's own process knew."""
    return entry.kind in _LAST and entry.payload.endswith(_LOST)


class EndReason(StrEnum):
    """Why a stream ended."""

    COMPLETE = "complete"
    STOPPED = "stopped"
    CLIENT_GONE = "client_gone"
    TIMEOUT = "timeout"
    UPSTREAM_ERROR = "upstream_error"
    INCOMPLETE = "incomplete"
    SHUTTING_DOWN = "shutting_down"
