"""Messages from one process to another, about a stream that the other one produces."""

from enum import StrEnum

import msgspec


class Subject(StrEnum):
    VISIT = "visit"  # the sender has viewers of the stream; repeated while it has
    LEAVE = "leave"  # it has none any more
    STOP = "stop"  # a viewer who may stop the stream does so
    DELETE = "delete"  # the same, and it is to be forgotten
    MISSING = "missing"  # Redis does not have the stream, although it has no end
    WAKE = "wake"  # from a process to itself: look at what you follow


class Message(msgspec.Struct, frozen=True, array_like=True):
    subject: Subject
    stream: str = ""
    sender: str = ""  # the process
    as_guest: bool = False  # none of the viewers may stop the stream


write_message = msgspec.msgpack.Encoder().encode
read_message = msgspec.msgpack.Decoder(Message).decode
