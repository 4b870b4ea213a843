"""The connection to Redis: its time limit, and what happens while Redis is away. On a real server."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme

from gateway.errors import RedisUnavailable
from gateway.shared.base import CommandError
from gateway.shared.connection import RedisConnection
from gateway.shared.keys import Keys
from gateway.shared.messages import Message, Subject
from gateway.shared.process import Process
from tests.rig.clients import eventually
from tests.rig.ports import free_port, refusing
from tests.rig.processes import answers
from tests.rig.redis import RedisServer, SlowProxy, redis_server


@pytest.fixture
async def connection(redis: RedisServer) -> AsyncIterator[RedisConnection]:
    connection = RedisConnection(redis.url, probe_seconds=0.05)
    yield connection
    await connection.close()


async def test_runs_commands_one_by_one_or_together(connection: RedisConnection) -> None:
    assert await connection.run("SET", "a", b"1", "PX", 10_000) is True
    assert await connection.run_all([("GET", "a"), ("INCR", "a"), ("GET", "b")]) == [b"1", 2, None]


async def test_a_refused_command_is_told_once_and_redis_is_not_away(
    connection: RedisConnection, caplog: pytest.LogCaptureFixture
) -> None:
    replies = await connection.run_all([("SET", "a", "text"), ("INCR", "a"), ("GET", "a")])
    assert isinstance(replies[1], CommandError)
    assert replies[2] == b"text"
    for _ in range(2):
        with pytest.raises(RedisUnavailable):
            await connection.run("INCR", "a")
    assert connection.is_up
    assert [record.getMessage().partition(";")[0] for record in caplog.records] == [
        "Redis refuses INCR: value is not an integer or out of range"
    ]


async def test_redis_away_and_back_is_told_once_each(
    connection: RedisConnection, redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[bool] = []
    connection.listen(heard.append)
    await connection.run("PING")
    await redis.stop()
    for _ in range(3):
        with pytest.raises(RedisUnavailable):
            await connection.run("PING")
    assert not connection.is_up
    await redis.start()
    await eventually(lambda: connection.is_up)
    assert await connection.run("GET", "a") is None
    assert heard == [False, True]
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert [line.partition(":")[0] for line in lines] == ["Redis is away", "Redis is back"]


async def test_a_slow_redis_is_away(redis: RedisServer) -> None:
    proxy = SlowProxy(redis.port)
    await proxy.start()
    connection = RedisConnection(proxy.url, operation_seconds=0.1, probe_seconds=0.05)
    try:
        await connection.run("PING")
        proxy.delay = 1.0
        async with asyncio.timeout(0.8):
            with pytest.raises(RedisUnavailable):
                await connection.run("PING")
        proxy.delay = 0.0
        await eventually(lambda: connection.is_up)
        assert await connection.run("SET", "a", "1") is True
    finally:
        await connection.close()
        await proxy.stop()


@pytest.fixture
async def patient(proxy: SlowProxy) -> AsyncIterator[RedisConnection]:
    """Through the proxy, and with a time limit that no busy machine exceeds."""
    connection = RedisConnection(proxy.url, operation_seconds=20.0)
    yield connection
    await connection.close()


async def test_connections_that_are_reset_while_they_rest_are_made_anew(
    patient: RedisConnection, proxy: SlowProxy
) -> None:
    """All that the pool has. asyncio's own loop cannot tell whether a command was sent, so there Redis is away."""
    await asyncio.gather(*[patient.run("PING") for _ in range(4)])
    proxy.reset()
    await asyncio.sleep(0.1)
    replies = await asyncio.gather(*[patient.run("SET", "a", "1") for _ in range(4)], return_exceptions=True)
    if isinstance(asyncio.get_running_loop(), asyncio.BaseEventLoop):
        assert {type(reply) for reply in replies} <= {bool, RedisUnavailable}
    else:
        assert replies == [True] * 4
    await eventually(lambda: patient.is_up)
    await patient.run("SET", "a", "2")


async def test_the_check_whether_redis_is_back_outlives_a_reset_of_its_connection(
    patient: RedisConnection, proxy: SlowProxy
) -> None:
    """It takes the connection that was used last."""
    with pytest.raises(RedisUnavailable):
        await patient.run("EVAL", "return redis.error_reply('READONLY no writes here')", 0)
    proxy.reset()
    await eventually(lambda: patient.is_up)
    await patient.run("SET", "a", "1")


async def test_the_check_whether_redis_is_back_outlives_whatever_it_raises(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Which is told in the log, once."""
    connection = RedisConnection(redis.url, probe_seconds=0.05)
    await redis.stop()
    with pytest.raises(RedisUnavailable):
        await connection.run("PING")
    with monkeypatch.context() as patch:
        patch.setattr(connection._redis.connection_pool, "get_connection", broken)
        await redis.start()
        await asyncio.sleep(0.3)
        assert not connection.is_up
    await eventually(lambda: connection.is_up)
    await connection.close()
    assert [record.getMessage() for record in caplog.records if record.exc_info] == [
        "the check whether Redis is back has failed, and is repeated"
    ]
    caplog.clear()  # it is no fault of the test


async def broken() -> None:
    raise ZeroDivisionError


async def test_a_redis_that_was_never_there() -> None:
    with refusing() as port:
        connection = RedisConnection(f"redis://127.0.0.1:{port}/0")
        with pytest.raises(RedisUnavailable):
            await connection.run("PING")
        await connection.close()


async def test_a_redis_that_is_full_is_away(connection: RedisConnection, redis: RedisServer) -> None:
    await redis.say("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(RedisUnavailable):
        await connection.run("SET", "a", "1")
    assert not connection.is_up


@pytest.mark.parametrize("refusal", ["NOREPLICAS", "MISCONF", "READONLY"])
async def test_a_redis_that_refuses_all_writes_is_away(
    connection: RedisConnection, redis: RedisServer, refusal: str
) -> None:
    """Until it takes one."""
    words = f"return redis.error_reply('{refusal} no writes here')"
    with pytest.raises(RedisUnavailable):
        await connection.run("EVAL", words, 0)
    assert not connection.is_up
    await eventually(lambda: connection.is_up)


async def test_the_key_of_the_check_is_one_that_the_user_may_write(redis: RedisServer) -> None:
    """Else a refusal for want of a right would look as if Redis took writes again."""
    await redis.say("ACL", "SETUSER", "other", "on", ">sesame", "~other:*", "+@all")
    url = redis.url.replace("redis://", "redis://other:sesame@")
    connection = RedisConnection(url, probe_seconds=0.02, probe=Keys("other:").probe)
    await redis.say("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(RedisUnavailable):
        await connection.run("SET", "other:a", "1")
    await asyncio.sleep(0.2)
    assert not connection.is_up
    await redis.say("CONFIG", "SET", "maxmemory", "0")
    await eventually(lambda: connection.is_up)
    await connection.close()


async def test_user_and_password_are_those_of_the_url() -> None:
    async with redis_server("--requirepass", "sesame") as server:
        connection = RedisConnection(server.url)
        with pytest.raises(RedisUnavailable):
            await connection.run("PING")
        await connection.close()
        connection = RedisConnection(server.url.replace("redis://", "redis://default:sesame@"))
        assert await connection.run("SET", "a", "1") is True
        await connection.close()


async def test_tls_with_a_certificate_of_ones_own(tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    port = free_port()
    files = ("--tls-cert-file", f"{tmp_path}/cert.pem", "--tls-key-file", f"{tmp_path}/key.pem")
    options = ("--tls-port", str(port), "--tls-ca-cert-file", f"{tmp_path}/ca.pem", "--tls-auth-clients", "no")
    async with redis_server(*files, *options):
        await answers(port)
        trusting = RedisConnection(f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={tmp_path}/ca.pem")
        assert await trusting.run("SET", "a", "1") is True
        await trusting.close()
        doubting = RedisConnection(f"rediss://127.0.0.1:{port}/0")
        with pytest.raises(RedisUnavailable):
            await doubting.run("SET", "a", "1")
        await doubting.close()


async def test_a_user_with_the_documented_rights_is_enough(redis: RedisServer) -> None:
    """Those that the documents name, and no other key or command."""
    text = (Path(__file__).parents[2] / ".github/docs/operating.md").read_text(encoding="utf-8")
    named = re.search(r"the\s+commands (`DEL`.*?), and those of", text, re.DOTALL)
    assert named is not None
    commands = [f"+{command.lower()}" for command in re.findall(r"`(\w+)`", named[1])]
    reply = await redis.say("ACL", "SETUSER", "gateway", "on", ">sesame", "~gateway:*", "-@all", *commands)
    assert reply == b"+OK\r\n"
    connection = RedisConnection(redis.url.replace("redis://", "redis://gateway:sesame@"))
    keys = Keys("gateway:")
    process = Process("me", connection, keys, lambda: None)
    await process.renew()
    assert await process.send("me", Message(Subject.WAKE))
    assert await process.dead_among(["other"]) == set()
    await process.resign()
    await connection.close()
