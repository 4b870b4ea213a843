"""The connection to Redis. The only module that uses redis-py and hiredis.

Each operation has a time limit. The first one that fails marks Redis as away. From then on operations fail at once, so
that no request waits for them, and one task asks twice a second whether Redis is back.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

from hiredis import pack_command
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import MasterDownError, OutOfMemoryError, ReadOnlyError, RedisError, ResponseError

from gateway.bounds import DEFAULT_BOUNDS
from gateway.errors import RedisUnavailable
from gateway.shared.base import Command, CommandError
from gateway.shared.ending import end

_PROBE_SECONDS = 0.5  # between two checks whether Redis is back
_CONNECTIONS = 32  # of one process; an operation that finds none free waits, within its time limit
_PROBE = "gateway:probe"  # a key that is written to see whether Redis takes writes; a refused one is an answer, too
# Refusals of every write, some of which redis-py has no class for. Others are faults of a single command.
_NOT_SERVING = (ReadOnlyError, OutOfMemoryError, MasterDownError)
_NOT_SERVING_CODES = ("NOREPLICAS ", "MISCONF ", "BUSY ")
_LOST = (RedisError, OSError)  # what is raised where a connection is lost, or refused

logger = logging.getLogger(__name__)


class RedisConnection:
    """See Connection. `url` is `redis://`, `rediss://` or `unix://`. The user must have the right to write `probe`."""

    def __init__(
        self,
        url: str,
        *,
        operation_seconds: float = DEFAULT_BOUNDS.redis_seconds,
        probe_seconds: float = _PROBE_SECONDS,
        probe: str = _PROBE,
    ) -> None:
        self.is_up = True  # until an operation fails
        self._seconds = operation_seconds
        self._probe_seconds = probe_seconds
        self._probe_key = probe
        self._refused: set[str] = set()  # names of commands
        self._listeners: list[Callable[[bool], None]] = []
        self._probe: asyncio.Task[None] | None = None
        self._redis = _client(url, _CONNECTIONS)
        self._url = url
        self._waiting: Redis | None = None

    def listen(self, changed: Callable[[bool], None]) -> None:
        self._listeners.append(changed)

    async def run(self, *command: str | bytes | int | float) -> Any:
        (reply,) = await self.run_all([command])
        return self._taken(command, reply)

    async def run_all(self, commands: Sequence[Command]) -> list[Any]:
        return await self._guarded(self._redis, commands, self._seconds)

    async def wait(self, seconds: float, *command: str | bytes | int | float) -> Any:
        if self._waiting is None:
            self._waiting = _client(self._url, 1)
        (reply,) = await self._guarded(self._waiting, [command], seconds + self._seconds)
        return self._taken(command, reply)

    def _taken(self, command: Command, reply: Any) -> Any:
        """The reply. A refused command is a fault of the operator's, or of ours: it is logged once, until it works."""
        name = str(command[0])
        if not isinstance(reply, CommandError):
            self._refused.discard(name)
            return reply
        if name not in self._refused:
            self._refused.add(name)
            logger.warning("Redis refuses %s: %s; the user needs the rights that the documents name", name, reply)
        raise RedisUnavailable() from reply

    async def _guarded(self, redis: Redis, commands: Sequence[Command], seconds: float) -> list[Any]:
        if not self.is_up:
            raise RedisUnavailable()
        try:
            return await _send(redis, commands, seconds)
        except _LOST as error:
            self._set_away(error)
            raise RedisUnavailable() from error

    def _set_away(self, error: Exception) -> None:
        if self._probe is not None:
            return
        self.is_up = False
        logger.warning("Redis is away: %s; a check twice a second tells when it is back", _words(error))
        self._probe = asyncio.get_running_loop().create_task(self._await_redis())
        self._tell()

    async def _await_redis(self) -> None:
        """Whatever a check raises is no reason to stop: nothing else would tell that Redis is back."""
        has_told = False
        while True:
            await asyncio.sleep(self._probe_seconds)
            try:
                await _send(self._redis, [("SET", self._probe_key, "", "PX", 1000)], self._seconds)
            except _LOST:
                continue
            except Exception:
                if not has_told:
                    logger.exception("the check whether Redis is back has failed, and is repeated")
                has_told = True
                continue
            break
        self._probe = None
        self.is_up = True
        logger.warning("Redis is back")
        self._tell()

    def _tell(self) -> None:
        for changed in self._listeners:
            changed(self.is_up)

    async def close(self) -> None:
        if self._probe is not None:
            await end([self._probe])
        await self._redis.aclose()
        if self._waiting is not None:
            await self._waiting.aclose()


async def _send(redis: Redis, commands: Sequence[Command], seconds: float) -> list[Any]:
    """The limit is two timers, one after the other: if the event loop was stuck, replies that are there come first."""
    loop, half = asyncio.get_running_loop(), seconds / 2
    async with asyncio.timeout(None) as limit:
        first = loop.call_later(half, lambda: limit.reschedule(loop.time() + half))
        try:
            return await _exchange(redis, commands)
        finally:
            first.cancel()


async def _exchange(redis: Redis, commands: Sequence[Command]) -> list[Any]:
    """Sends all commands at once, and reads a reply to each.

    A pipeline of redis-py does the same, but writes its commands in Python, and calls seven functions for each of them:
    a command takes 15 µs there, and 6 µs here. Where sending or reading fails, or is cancelled, redis-py closes the
    connection, so that no reply is left on it.
    """
    connection = await redis.connection_pool.get_connection()  # type: ignore[no-untyped-call] # behind a decorator
    try:
        await _write(connection, b"".join([_packed(command) for command in commands]))
        replies = [await _next_reply(connection) for _ in commands]
    finally:
        await redis.connection_pool.release(connection)
    shapes = redis.response_callbacks
    return [_shaped(reply, shapes.get(str(command[0]))) for command, reply in zip(commands, replies, strict=True)]


async def _write(connection: AbstractConnection, commands: bytes) -> None:
    """On a new connection, if the one of the pool was reset while it rested.

    redis-py looks for the end of a resting connection, but not for an error on it. uvloop then takes no byte, and says
    so with a RuntimeError, upon which redis-py closes the connection. So nothing was sent, and it may be sent again.
    On asyncio's own loop it is not known whether bytes were sent, so nothing is sent again, and Redis counts as away.
    """
    try:
        await connection.send_packed_command(commands)
    except RuntimeError:
        try:
            await connection.send_packed_command(commands)
        except RuntimeError as error:
            raise ConnectionLost(str(error)) from error


def _packed(command: Command) -> bytes:
    name, *rest = command
    words = (*str(name).split(), *rest)  # some names have two words, which are sent apart
    packed: bytes = pack_command(words)  # type: ignore[arg-type] # its stub says a tuple of one
    return packed


async def _next_reply(connection: AbstractConnection) -> Any:
    """A refused command has its error as its reply: those behind it are read, too."""
    try:
        return await connection.read_response()
    except ResponseError as error:
        return error


def _client(url: str, connections: int) -> Redis:
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=connections,
        timeout=None,  # `_send` has the only limit
        socket_timeout=None,
        socket_connect_timeout=None,
        retry=Retry(NoBackoff(), 0),  # the caller decides
        protocol=2,  # its replies have had the same shapes in every version of redis-py
    )
    return Redis.from_pool(pool)  # closes the pool with itself


def _shaped(reply: Any, shape: Callable[[Any], Any] | None) -> Any:
    if isinstance(reply, ResponseError):
        if isinstance(reply, _NOT_SERVING) or str(reply).startswith(_NOT_SERVING_CODES):
            raise reply
        return CommandError(str(reply))
    return reply if shape is None else shape(reply)


def _words(error: Exception) -> str:
    return str(error).rstrip(".") or type(error).__name__
