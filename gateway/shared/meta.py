"""What Redis holds of a stream beside its entries. Pure: to the fields of a hash, and back."""

from collections.abc import Mapping

import msgspec

DELETED = {"deleted": "1"}  # the field of a stream that its caller has deleted
_TICKET = "t:"  # before the hash of a ticket


class StreamMeta(msgspec.Struct, frozen=True):
    """`process` produces the stream, and `owner` is the name of the key that asked.

    `asked_at` is its endpoint, or empty for the native surface; `head` is what that endpoint keeps of the request.
    `is_kept`: the client who asked can resume it, so what it showed before a failure counts as seen. `opens_to_id`: if
    it was asked for without a key, its id alone opens it.
    `tickets` are hashes, and whether each may stop the stream. They expire at `expires_at`, in seconds since the epoch.
    """

    process: str
    owner: str | None
    expires_at: float
    tickets: Mapping[bytes, bool]
    asked_at: str = ""
    head: bytes = b""
    is_kept: bool = True
    opens_to_id: bool = True
    is_deleted: bool = False


def write_meta(meta: StreamMeta) -> dict[str, str | bytes]:
    fields: dict[str, str | bytes] = {
        "process": meta.process,
        "expires": str(meta.expires_at),
        "asked_at": meta.asked_at,
        "kept": str(int(meta.is_kept)),
        "opens_to_id": str(int(meta.opens_to_id)),
    }
    if meta.owner is not None:
        fields["owner"] = meta.owner
    if meta.head:
        fields["head"] = meta.head
    return fields | ticket_fields(meta.tickets)


def ticket_fields(tickets: Mapping[bytes, bool]) -> dict[str, str | bytes]:
    return {_TICKET + digest.hex(): str(int(may_stop)) for digest, may_stop in tickets.items()}


def is_ticket(name: str) -> bool:
    return name.startswith(_TICKET)


def read_meta(fields: Mapping[bytes, bytes]) -> StreamMeta | None:
    """None if Redis does not have all of it: there is no such stream.

    Of a stream that was deleted Redis may have nothing else, if it had lost the stream before.
    """
    if b"deleted" in fields:
        return _DELETED
    if b"process" not in fields or b"expires" not in fields:
        return None
    owner = fields.get(b"owner")
    tickets = {
        bytes.fromhex(name.decode().removeprefix(_TICKET)): value == b"1"
        for name, value in fields.items()
        if name.startswith(_TICKET.encode())
    }
    return StreamMeta(
        process=fields[b"process"].decode(),
        owner=None if owner is None else owner.decode(),
        expires_at=float(fields[b"expires"]),
        tickets=tickets,
        asked_at=fields.get(b"asked_at", b"").decode(),
        head=fields.get(b"head", b""),
        is_kept=fields.get(b"kept") != b"0",
        opens_to_id=fields.get(b"opens_to_id") != b"0",
    )


_DELETED = StreamMeta(process="", owner=None, expires_at=0.0, tickets={}, is_deleted=True)
