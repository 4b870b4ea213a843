"""Who asks: tables of header fields. No key is ever told apart from another by what the refusal says."""

from contextlib import suppress
from datetime import date
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission.auth import Caller, KeyRing
from gateway.config import Config, Faults, Key, Secret, load
from gateway.errors import TwoKeys, Unauthorized

TODAY = date(2026, 3, 1)
ADDRESS = "192.0.2.7"
PLAIN, HASHED, OTHER = "gw-plain-0123456789", "gw-hashed-0123456789", "gw-other-0123456789"


def hashed(secret: str) -> str:
    return f"sha256:{sha256(secret.encode()).hexdigest()}"


KEYS = [Key("plain", key=Secret(PLAIN)), Key("hashed", hash=hashed(HASHED)), Key("other", key=Secret(OTHER))]
RING = KeyRing(KEYS)


def identify(authorization: str | None, ring: KeyRing = RING, *, api_key: str | None = None) -> Caller:
    return ring.identify(ADDRESS, authorization, TODAY, api_key=api_key)


# Who is let in


@pytest.mark.parametrize(
    ("authorization", "name"),
    [
        (f"Bearer {PLAIN}", "plain"),
        (f"Bearer {HASHED}", "hashed"),
        (f"Bearer {OTHER}", "other"),
        (f"bearer {PLAIN}", "plain"),
        (f"BEARER   {PLAIN} ", "plain"),
    ],
)
def test_the_right_key_is_found(authorization: str, name: str) -> None:
    """Configured as itself or as its hash alike; the scheme's name is of any case (RFC 9110, section 11.1)."""
    caller = identify(authorization)
    assert (caller.name, caller.address) == (name, ADDRESS)
    assert caller.key in KEYS


def test_without_the_field_the_caller_is_nobody_in_particular() -> None:
    """What that may do is for admission to say."""
    assert identify(None) == Caller(ADDRESS, None)
    assert identify(None).name is None


@pytest.mark.parametrize(
    "authorization",
    ["Basic dTpw", f"Basic {PLAIN}", "basic dTpw", "Basic a, Basic b", "Negotiate YII=", 'Digest username="u", x="y"'],
)
def test_another_scheme_is_no_key(authorization: str) -> None:
    """A proxy in front has asked for it, and passes it on."""
    assert identify(authorization) == Caller(ADDRESS, None)
    assert identify(authorization, api_key=PLAIN).name == "plain"
    for empty in ("", " "):  # which is a key, and a wrong one
        with pytest.raises(Unauthorized):
            identify(authorization, api_key=empty)


@pytest.mark.parametrize("authorization", [None, f"Bearer {PLAIN}", "Bearer nonsense", "Basic dTpw", "", "\udcff"])
def test_a_gateway_without_keys_does_not_look_at_the_field(authorization: str | None) -> None:
    """SDKs always send one."""
    assert not KeyRing([])
    assert identify(authorization, KeyRing([])) == Caller(ADDRESS, None)


@pytest.mark.parametrize("authorization", [None, "", "Bearer", f"Bearer {PLAIN}", f"bearer  {PLAIN}", "Basic dTpw"])
def test_x_api_key_is_another_place_for_the_same_key(authorization: str | None) -> None:
    """Alone, beside the same key, or beside what a proxy in front asks for."""
    assert identify(authorization, api_key=PLAIN).name == "plain"
    assert identify(authorization, KeyRing([]), api_key=PLAIN) == Caller(ADDRESS, None)


@pytest.mark.parametrize("api_key", ["", " ", PLAIN, f" {PLAIN} "])
def test_beside_authorization_x_api_key_may_be_empty_or_the_same(api_key: str) -> None:
    assert identify(f"Bearer {PLAIN}", api_key=api_key).name == "plain"


@pytest.mark.parametrize("authorization", [f"Bearer {HASHED}", "Bearer unused"])
@pytest.mark.parametrize("api_key", [PLAIN, "unused, too"])
def test_two_different_keys_are_refused_whichever_is_right(authorization: str, api_key: str) -> None:
    """The refusal says nothing of either. A gateway without keys still looks at none."""
    with pytest.raises(TwoKeys) as raised:
        identify(authorization, api_key=api_key)
    assert raised.value.body() == TwoKeys().body()
    assert identify(authorization, KeyRing([]), api_key=api_key) == Caller(ADDRESS, None)


def test_a_ring_with_keys_is_one() -> None:
    assert RING


@pytest.mark.parametrize("length", [16, 46, 512, 513, 4096])
def test_a_key_that_a_configuration_takes_opens(length: int) -> None:
    """Either it is refused at the start, or it works."""
    secret = "x" * length
    try:
        config = load(f'[[keys]]\nname = "k"\nkey = "{secret}"', {})
    except Faults:
        return
    assert identify(f"Bearer {secret}", KeyRing(config.keys)).name == "k"


# Who is not

REFUSED = {
    "a key that nobody has": "Bearer gw-wrong-0123456789",
    "the beginning of a key": f"Bearer {PLAIN[:-1]}",
    "a key and more": f"Bearer {PLAIN}x",
    "another case": f"Bearer {PLAIN.upper()}",
    "the hash for the key": f"Bearer {hashed(HASHED)}",
    "the bare hash": f"Bearer {hashed(HASHED).removeprefix('sha256:')}",
    "two keys": f"Bearer {PLAIN} {HASHED}",
    "two fields": f"Bearer {PLAIN}, Bearer {HASHED}",
    "no key": "Bearer",
    "another scheme without credentials": "Basic",
    "an empty key": "Bearer ",
    "an empty field": "",
    "a tab for a space": f"Bearer\t{PLAIN}",
    "quotes": f'Bearer "{PLAIN}"',
    "a very long one": "Bearer " + "x" * 100_000,
    "a very long scheme": "x" * 100_000,
    "bytes that are not UTF-8": "Bearer " + b"\xff\xfe\x80".decode(errors="surrogateescape"),
    "Chinese": "Bearer 密钥密钥密钥密钥密钥密钥",
    "NUL": f"Bearer {PLAIN}\0",
}


@pytest.mark.parametrize("case", REFUSED)
def test_fault_88_whatever_is_wrong_the_words_are_the_same(case: str) -> None:
    """Which of them it is, is nobody's to try out."""
    with pytest.raises(Unauthorized) as raised:
        identify(REFUSED[case])
    error = raised.value
    with pytest.raises(Unauthorized) as other:
        identify(None, api_key=REFUSED[case])
    assert error.body() == other.value.body() == Unauthorized().body()
    assert (error.status, error.code, error.param) == (401, "invalid_api_key", None)
    assert error.headers == {"WWW-Authenticate": "Bearer"}
    assert PLAIN not in repr(error) + str(error)


def test_a_key_without_its_scheme_is_none() -> None:
    with pytest.raises(Unauthorized):
        identify(PLAIN)


@pytest.mark.parametrize("api_key", [None, "", " "])
@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer "])
def test_an_empty_secret_is_no_key_whatever_the_ring_has(authorization: str | None, api_key: str | None) -> None:
    """A configuration with the hash of an empty text is refused. If one is there all the same, it opens nothing."""
    ring = KeyRing([Key("empty", hash=hashed(""))])
    if authorization is None and api_key is None:
        assert identify(None, ring).key is None
        return
    with pytest.raises(Unauthorized):
        identify(authorization, ring, api_key=api_key)


@given(st.binary(max_size=600).map(lambda data: data.decode(errors="surrogateescape")))
def test_fault_88_any_bytes_are_refused_and_break_nothing(offered: str) -> None:
    for authorization, api_key in ((f"Bearer {offered}", None), (None, offered), ("", offered)):
        with pytest.raises(Unauthorized):
            identify(authorization, api_key=api_key)
    with suppress(Unauthorized):
        assert identify(offered) == Caller(ADDRESS, None)  # by chance, the bytes are of another scheme


@pytest.mark.parametrize(
    ("expires", "works"),
    [
        (None, True),
        (date(2026, 2, 28), False),
        (date(2026, 3, 1), True),
        (date(2026, 3, 2), True),
        (date.min, False),
        (date.max, True),
    ],
    ids=["never", "yesterday", "today", "tomorrow", "long ago", "in ages"],
)
def test_a_key_works_up_to_and_with_its_last_day(expires: date | None, works: bool) -> None:
    ring = KeyRing([Key("k", key=Secret(PLAIN), expires=expires)])
    if works:
        assert identify(f"Bearer {PLAIN}", ring).name == "k"
    else:
        with pytest.raises(Unauthorized) as raised:
            identify(f"Bearer {PLAIN}", ring)
        assert raised.value.body() == Unauthorized().body()


# What is not told


def test_fault_77_a_key_stands_in_no_repr() -> None:
    config = Config(keys=KEYS)
    for shown in (repr(config), repr(KEYS), repr(identify(f"Bearer {PLAIN}")), repr(RING), str(vars(RING))):
        for secret in (PLAIN, HASHED, OTHER):
            assert secret not in shown
