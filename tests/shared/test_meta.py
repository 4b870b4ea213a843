"""What Redis holds of a stream beside its entries."""

import pytest

from gateway.shared.meta import DELETED, StreamMeta, read_meta, write_meta

META = StreamMeta("process", "owner", 1.5, {b"\x01" * 32: True}, "chat", b"head", is_kept=False, opens_to_id=False)


def fields(written: dict[str, str | bytes]) -> dict[bytes, bytes]:
    """As Redis gives them back."""
    return {name.encode(): value if isinstance(value, bytes) else value.encode() for name, value in written.items()}


@pytest.mark.parametrize("meta", [META, StreamMeta("process", None, 1.5, {})])
def test_what_is_written_is_read(meta: StreamMeta) -> None:
    assert read_meta(fields(write_meta(meta))) == meta


@pytest.mark.parametrize("rest", [{}, write_meta(META)], ids=["nothing else", "the rest"])
def test_a_deleted_one_is_deleted_whatever_is_left_of_it(rest: dict[str, str | bytes]) -> None:
    meta = read_meta(fields({**rest, **DELETED}))
    assert meta is not None
    assert meta.is_deleted


@pytest.mark.parametrize("missing", ["process", "expires"])
def test_one_that_is_not_all_there_is_none(missing: str) -> None:
    left = {name: value for name, value in fields(write_meta(META)).items() if name != missing.encode()}
    assert read_meta(left) is None
    assert read_meta({}) is None
