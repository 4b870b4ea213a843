"""Ids of streams. With several processes on one machine, an id begins with the epoch of the process that holds it.

An epoch is drawn at random when a process starts. It is not a secret: the 128 bits behind it are what nobody can guess.
"""

import re
import secrets
from base64 import urlsafe_b64encode
from os import urandom

_ID_BYTES = 16  # 128 random bits: an id is not a secret, but nobody must be able to guess it
_EPOCH_BYTES = 3  # 24 bits, or 4 characters: a process that finds its epoch taken draws another one
_EPOCH_CHARACTERS = 4
_LONG_ID = re.compile(r"[A-Za-z0-9_-]{26}", re.ASCII)


def new_epoch() -> str:
    return secrets.token_urlsafe(_EPOCH_BYTES)


def new_id(epoch: str) -> str:
    """An id of 22 characters, behind the epoch if there is one."""
    return epoch + urlsafe_b64encode(urandom(_ID_BYTES)).decode().rstrip("=")  # as `token_urlsafe`, in three calls less


def epoch_of(stream_id: str) -> str | None:
    """The epoch in an id. None for an id without one, and for a text that is no id."""
    return stream_id[:_EPOCH_CHARACTERS] if _LONG_ID.fullmatch(stream_id) else None
