"""Limits that several gateways share through a real Redis: what they share, and what happens when one of them is gone.

See test_limiters for what is counted, which is the same as in memory.
"""

import asyncio
import gc
import logging
import random
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.admission.limits import Allowance, Limiter, Reservation, Wish
from gateway.admission.memory_limiter import MemoryLimiter
from gateway.admission.redis_limiter import RedisLimiter
from gateway.admission.redis_reservation import RedisReservation
from gateway.config import Budget, Per
from gateway.errors import RateLimited, TooManyStreams
from gateway.shared.base import Command
from gateway.shared.connection import RedisConnection
from tests.admission.clock import Clock
from tests.rig.clients import eventually
from tests.rig.redis import RedisServer, SlowProxy
from tests.rig.redis_clock import ClockedConnection

ONE_STREAM = Allowance("s", max_streams=1)
TWO_STREAMS = Allowance("s", max_streams=2)
REQUESTS = Allowance("s", requests_per_minute=100)
TOKENS = Allowance("s", tokens_per_minute=1000)
ALL = Allowance("s", requests_per_minute=100, tokens_per_minute=10_000, max_streams=10)
FLUSH = Allowance("flush", requests_per_minute=1)


class Heard(RedisConnection):
    """Keeps what is sent together, once it is answered."""

    def __init__(self, url: str, operation_seconds: float = 0.8) -> None:
        super().__init__(url, operation_seconds=operation_seconds)
        self.batches: list[list[Command]] = []

    async def run_all(self, commands: Sequence[Command]) -> list[Any]:
        replies = await super().run_all(commands)
        self.batches.append(list(commands))
        return replies


class Gateway:
    """A process, as far as Redis knows it."""

    def __init__(self, url: str, owner: str, operation_seconds: float, **options: float) -> None:
        self.connection = RedisConnection(url, operation_seconds=operation_seconds, probe_seconds=0.05)
        self.limiter = RedisLimiter(self.connection, "gateway:", owner, **options)

    async def kill(self) -> None:
        """Ends it without a word to Redis about its places."""
        await self.limiter.close()
        await self.connection.close()


Start = Callable[..., Gateway]


@pytest.fixture
async def proxy(redis: RedisServer) -> AsyncIterator[SlowProxy]:
    proxy = SlowProxy(redis.port)
    await proxy.start()
    yield proxy
    await proxy.stop()


@pytest.fixture
async def start(redis: RedisServer, proxy: SlowProxy) -> AsyncIterator[Start]:
    started: list[Gateway] = []

    def start(url: str = redis.url, *, operation_seconds: float = 0.5, **options: float) -> Gateway:
        started.append(Gateway(url, f"gateway-{len(started)}", operation_seconds, **options))
        return started[-1]

    yield start
    for gateway in started:
        await gateway.kill()


async def has_place(limiter: Limiter, allowance: Allowance) -> bool:
    try:
        await limiter.check(allowance)
    except TooManyStreams:
        return False
    return True


async def until(holds: Callable[[], Any], *, within: float = 5.0) -> None:
    """As `eventually`, for a condition that Redis is asked for."""
    deadline = asyncio.get_running_loop().time() + within
    while not await holds():
        assert asyncio.get_running_loop().time() < deadline, "it does not come to hold"
        await asyncio.sleep(0.01)


async def remaining(limiter: Limiter, kind: str, allowance: Allowance) -> int:
    """What is left. It is asked for by a request, which is taken back."""
    charge = await limiter.reserve(allowance, 0)
    await charge.take_back()
    return int(charge.headers[f"x-ratelimit-remaining-{kind}"]) + (kind == "requests")


# What is shared


async def test_two_gateways_share_counts_and_places(start: Start) -> None:
    both = Allowance("s", requests_per_minute=9, tokens_per_minute=1000, max_streams=2)
    a, b = start().limiter, start().limiter
    first = await a.reserve(both, 300)
    second = await b.reserve(both, 300)
    assert second.headers["x-ratelimit-remaining-requests"] == "7"
    assert second.headers["x-ratelimit-remaining-tokens"] == "400"
    for limiter in (a, b):
        with pytest.raises(TooManyStreams):
            await limiter.reserve(both, 0)
        with pytest.raises(TooManyStreams):
            await limiter.check(both)
    first.release()
    await first.settle(900)  # it is off the request's path, so another gateway may know of it a moment later
    await until(lambda: has_place(b, TWO_STREAMS))
    with pytest.raises(RateLimited) as raised:
        await b.reserve(both, 1)
    assert raised.value.headers["x-ratelimit-remaining-tokens"] == "0"
    assert (a.streams, b.streams) == (0, 1)


async def test_prefixes_are_counted_apart(redis: RedisServer, start: Start) -> None:
    other = RedisConnection(redis.url)
    await start().limiter.reserve(ONE_STREAM, 0)
    limiter = RedisLimiter(other, "another:", "a")
    await limiter.reserve(ONE_STREAM, 0)
    await limiter.close()
    await other.close()


@pytest.mark.parametrize("seed", range(4))
async def test_two_gateways_count_as_one_does(redis: RedisServer, clock: Clock, seed: int) -> None:
    """Any requests, in any order: what two of them say together is what a limiter in memory says."""
    chance = random.Random(seed)
    connections = [ClockedConnection(redis.url, clock) for _ in range(2)]
    two = [RedisLimiter(connection, "gateway:", "a", lease_seconds=1e6) for connection in connections]
    one = MemoryLimiter()
    open_ones: list[tuple[Reservation, Reservation]] = []
    allowances = [Allowance("s", 6, 1000, 4), Allowance("t", 4, 300), Allowance("u", None, 500, 3)]

    async def begin() -> None:
        allowance, tokens = chance.choice(allowances), chance.choice([0, 10, 100, 400, 5000])
        here = await outcome(one, allowance, tokens)
        there = await outcome(chance.choice(two), allowance, tokens)
        assert told(here) == told(there)
        if not isinstance(here, RateLimited):
            assert not isinstance(there, RateLimited)
            open_ones.append((here, there))

    async def end(how: Callable[[Reservation], Any]) -> None:
        if open_ones:
            for reservation in open_ones.pop(chance.randrange(len(open_ones))):
                await how(reservation)

    async def settled_before_release(reservation: Reservation) -> None:
        await reservation.settle(tokens)
        reservation.release()

    async def released_before_settling(reservation: Reservation) -> None:
        reservation.release()
        await reservation.settle(tokens)

    for _ in range(150):
        tokens = chance.choice([0, 5, 50, 600])
        action = chance.randrange(8)
        if action < 4:
            await begin()
        elif action == 4:
            await end(lambda reservation: reservation.take_back())
        elif action == 5:
            await end(settled_before_release)
        elif action == 6:
            await end(released_before_settling)
        else:
            clock.now += chance.choice([0.5, 7, 31])
        for limiter in two:
            await limiter.check(FLUSH)  # what is due was sent before

    for limiter, connection in zip(two, connections, strict=True):
        await limiter.close()
        await connection.close()


async def outcome(limiter: Limiter, allowance: Allowance, tokens: int) -> Reservation | RateLimited:
    try:
        return await limiter.reserve(allowance, tokens)
    except RateLimited as refusal:
        return refusal


def told(outcome: Reservation | RateLimited) -> tuple[object, ...]:
    return (getattr(outcome, "code", None), getattr(outcome, "message", None), dict(outcome.headers))


# What it costs


@asynccontextmanager
async def heard(redis: RedisServer) -> AsyncIterator[tuple[RedisLimiter, list[list[Command]]]]:
    connection = Heard(redis.url)
    limiter = RedisLimiter(connection, "gateway:", "a")
    yield limiter, connection.batches
    await limiter.close()
    await connection.close()


async def test_a_request_is_one_command_and_its_end_another(redis: RedisServer) -> None:
    async with heard(redis) as (limiter, batches):
        charge = await limiter.reserve(ALL, 100)
        assert [len(batch) for batch in batches] == [1]
        charge.release()
        await charge.settle(90)
        assert len(batches) == 1  # nobody waits for it
        await limiter.close()
        assert [len(batch) for batch in batches] == [1, 1]


async def test_a_request_that_is_refused_is_one_command(redis: RedisServer) -> None:
    async with heard(redis) as (limiter, batches):
        await limiter.reserve(ONE_STREAM, 0)
        for _ in range(2):
            with pytest.raises(TooManyStreams):
                await limiter.reserve(ONE_STREAM, 0)
        await limiter.close()
        assert [len(batch) for batch in batches] == [1, 1, 1]


async def test_requests_of_one_moment_are_sent_together(redis: RedisServer) -> None:
    async with heard(redis) as (limiter, batches):
        charges = await asyncio.gather(*[limiter.reserve(Allowance(f"{n}", 1), 0) for n in range(50)])
        assert [len(batch) for batch in batches] == [50]
        for charge in charges:
            charge.release()
        await limiter.close()
        assert [len(batch) for batch in batches] == [50, 50]


async def test_a_caller_without_limits_costs_nothing(redis: RedisServer) -> None:
    async with heard(redis) as (limiter, batches):
        for n in range(3):
            await limiter.check(Allowance(f"{n}"))
            charge = await limiter.reserve(Allowance(f"{n}"), 10**9)
            assert charge.headers == {}
            charge.release()
            await charge.settle(10**9)
            await charge.take_back()
        await limiter.close()
        assert batches == []
        assert limiter.streams == 0


async def test_nothing_is_kept_of_requests_that_are_over(redis: RedisServer, start: Start) -> None:
    limiter = start(window_seconds=0.05).limiter

    async def ask(first: int, last: int) -> None:
        for some in range(first, last, 20):
            charges = await asyncio.gather(
                *[limiter.reserve(Allowance(f"{n}", 9, 99, 9), 1) for n in range(some, some + 20)]
            )
            for charge in charges:
                charge.release()
                await charge.settle(2)

    await ask(0, 100)
    gc.collect()
    before = len(gc.get_objects())
    await ask(100, 1100)
    await asyncio.sleep(0.1)
    await ask(1100, 1120)
    gc.collect()
    assert len(gc.get_objects()) - before < 1500
    await asyncio.sleep(0.1)
    assert await redis.say("KEYS", "*:counts") == b"*0\r\n"


# What Redis holds


async def test_the_keys_of_a_caller_are_on_one_node_and_tell_no_name_or_address(redis: RedisServer) -> None:
    scopes = ["key:secret-name", "assistant:maths:192.0.2.7", "address:2001:db8::/64", "key:" + "x" * 10_000]
    async with heard(redis) as (limiter, batches):
        for scope in scopes:
            await limiter.check(Allowance(scope, 9, 99, 9))
            charge = await limiter.reserve(Allowance(scope, 9, 99, 9), 10)
            await charge.settle(20)
        await limiter.close()
    commands = [command for batch in batches for command in batch]
    assert len(commands) == 3 * len(scopes)
    tags = {tags_of(command) for command in commands}
    assert all(len(found) == 1 for found in tags)
    assert len(tags) == len(scopes)
    held = await redis.say("KEYS", "*")
    assert set(re.findall(rb"gateway:l:\{[0-9a-f]{32}\}:(\w+)\r\n", held)) == {b"counts", b"places"}
    assert held.count(b"gateway:l:{") == 2 * len(scopes)
    for word in ("secret", "maths", "192.0", "2001:db8", "xxxx"):
        assert word not in repr(commands)


def tags_of(command: Command) -> frozenset[str]:
    assert command[0] == "EVAL"
    keys = [str(key) for key in command[3 : 3 + int(command[2])]]
    assert keys
    return frozenset(key[key.index("{") + 1 : key.index("}")] for key in keys)


async def test_every_key_expires(redis: RedisServer, start: Start) -> None:
    limiter = start(window_seconds=0.2, lease_seconds=0.2, renew_seconds=60).limiter
    charge = await limiter.reserve(ALL, 10)
    await charge.settle(500)
    await limiter.check(FLUSH)
    assert await redis.say("DBSIZE") == b":2\r\n"
    await asyncio.sleep(0.3)
    assert await redis.say("DBSIZE") == b":0\r\n"


async def test_a_minute_is_that_of_redis(start: Start) -> None:
    limiter = start(window_seconds=0.3).limiter
    one = Allowance("s", requests_per_minute=1)
    for _ in range(2):
        await limiter.reserve(one, 0)
        with pytest.raises(RateLimited):
            await limiter.reserve(one, 0)
        await asyncio.sleep(0.35)


# Leases


async def test_fault_67_the_places_of_a_killed_gateway_are_free_when_their_leases_are_over(
    redis: RedisServer, start: Start
) -> None:
    a, b = (start(lease_seconds=0.5, renew_seconds=0.1) for _ in range(2))
    await a.limiter.reserve(TWO_STREAMS, 0)
    await b.limiter.reserve(TWO_STREAMS, 0)
    await a.kill()
    assert not await has_place(b.limiter, TWO_STREAMS)
    await until(lambda: has_place(b.limiter, TWO_STREAMS))
    await asyncio.sleep(0.6)
    await b.limiter.reserve(TWO_STREAMS, 0)
    assert not await has_place(b.limiter, TWO_STREAMS)  # the other one is renewed all the time
    await b.kill()
    await asyncio.sleep(0.6)
    assert await redis.say("DBSIZE") == b":0\r\n"


async def test_leases_are_renewed_in_batches(redis: RedisServer, start: Start) -> None:
    """All of them: those of one caller in one command, and those of many callers together."""
    limiter = start(lease_seconds=1.0, renew_seconds=0.2).limiter
    many = Allowance("many", max_streams=1000)
    allowances = [many] * 150 + [Allowance(f"{n}", max_streams=1) for n in range(150)]
    await asyncio.gather(*[limiter.reserve(allowance, 0) for allowance in allowances])
    await asyncio.sleep(1.3)
    other = start().limiter
    for n in range(150):
        assert not await has_place(other, Allowance(f"{n}", max_streams=1))
    assert not await has_place(other, Allowance("many", max_streams=150))
    assert await has_place(other, Allowance("many", max_streams=151))


@pytest.mark.parametrize("is_settled_first", [True, False])
async def test_a_renewal_brings_back_no_place_that_was_freed(
    redis: RedisServer, proxy: SlowProxy, start: Start, is_settled_first: bool
) -> None:
    """Whether the renewal stands in the line already, or has not come to it, when the answer ends."""
    one = start(proxy.url, operation_seconds=5.0, renew_seconds=0.05)
    allowance = Allowance("s", tokens_per_minute=10**6, max_streams=1000)
    charges = await asyncio.gather(*[one.limiter.reserve(allowance, 10) for _ in range(250)])
    proxy.delay = 0.1
    asked = asyncio.create_task(one.limiter.check(FLUSH))
    await asyncio.sleep(0.02)
    if is_settled_first:
        for charge in charges:
            await charge.settle(20)
    await asyncio.sleep(0.05)
    for charge in charges:
        charge.release()
    await asked
    await asyncio.sleep(0.2)  # until the renewal is over
    await one.kill()
    assert await redis.say("KEYS", "*:places") == b"*0\r\n"


async def test_a_gateway_that_ends_frees_the_places_of_answers_that_have_ended(start: Start) -> None:
    a, b = start(), start()
    charge = await a.limiter.reserve(ONE_STREAM, 0)
    charge.release()
    await a.kill()
    assert await has_place(b.limiter, ONE_STREAM)


async def test_a_gateway_that_ends_waits_for_no_slow_redis(proxy: SlowProxy, start: Start) -> None:
    one = start(proxy.url, operation_seconds=9.0)
    charge = await one.limiter.reserve(ONE_STREAM, 0)
    proxy.delay = 9.0
    charge.release()
    async with asyncio.timeout(5):
        await one.kill()


# Redis away


async def test_fault_70_without_redis_this_process_counts_by_itself(redis: RedisServer, start: Start) -> None:
    """Its own running streams count, wherever they were charged; those of others do not."""
    a, b = start(), start()
    await a.limiter.reserve(ONE_STREAM, 0)
    await redis.stop()
    for _ in range(2):
        with pytest.raises(TooManyStreams):
            await a.limiter.reserve(ONE_STREAM, 0)
        with pytest.raises(TooManyStreams):
            await a.limiter.check(ONE_STREAM)
    await b.limiter.check(ONE_STREAM)
    await b.limiter.reserve(ONE_STREAM, 0)
    requests = Allowance("r", requests_per_minute=2)
    for limiter in (a.limiter, b.limiter):
        first, _ = [await limiter.reserve(requests, 0) for _ in range(2)]
        assert first.headers["x-ratelimit-remaining-requests"] == "1"
        with pytest.raises(RateLimited):
            await limiter.reserve(requests, 0)
        with pytest.raises(RateLimited):
            await limiter.check(requests)


async def test_places_are_in_redis_again_when_it_is_back(redis: RedisServer, start: Start) -> None:
    """It comes back empty. A place that was taken meanwhile is there as well, and one that was freed is not."""
    a, b = start(), start()
    ended, _ = [await a.limiter.reserve(Allowance("s", max_streams=3), 0) for _ in range(2)]
    await redis.stop()
    await a.limiter.check(FLUSH)  # it notices
    later = await a.limiter.reserve(Allowance("s", max_streams=3), 0)
    ended.release()
    await redis.start()
    await eventually(lambda: a.connection.is_up)
    await until(lambda: lacks_place(b.limiter, TWO_STREAMS))
    assert b.connection.is_up
    assert await has_place(b.limiter, Allowance("s", max_streams=3))
    later.release()
    await until(lambda: has_place(b.limiter, TWO_STREAMS))


async def lacks_place(limiter: Limiter, allowance: Allowance) -> bool:
    return not await has_place(limiter, allowance)


async def test_a_charge_is_settled_where_it_was_made(redis: RedisServer, start: Start) -> None:
    a = start()
    requests = Allowance("s", requests_per_minute=10, tokens_per_minute=1000)
    await redis.stop()
    here = await a.limiter.reserve(requests, 600)
    await redis.start()
    await eventually(lambda: a.connection.is_up)
    there = await a.limiter.reserve(requests, 100)
    assert there.headers["x-ratelimit-remaining-tokens"] == "900"  # what was charged here is not known there
    await here.settle(50)
    here.release()
    assert await remaining(a.limiter, "tokens", requests) == 900
    await there.settle(150)
    assert await remaining(a.limiter, "tokens", requests) == 850
    assert await remaining(a.limiter, "requests", requests) == 9
    await redis.stop()
    assert await remaining(a.limiter, "tokens", requests) == 950


async def test_what_took_more_is_charged_here_while_redis_is_away(redis: RedisServer, start: Start) -> None:
    a = start()
    charge = await a.limiter.reserve(TOKENS, 100)
    await redis.stop()
    await a.limiter.check(TOKENS)
    await charge.settle(700)
    assert await remaining(a.limiter, "tokens", TOKENS) == 400
    await redis.start()
    await eventually(lambda: a.connection.is_up)
    await asyncio.sleep(0.05)
    assert await remaining(a.limiter, "tokens", TOKENS) == 1000


async def test_what_is_due_waits_for_redis(proxy: SlowProxy, start: Start) -> None:
    """One that stood still for a moment has lost nothing: a place is free, and an estimate is corrected."""
    a, b = start(proxy.url, operation_seconds=0.1), start()
    both = Allowance("s", tokens_per_minute=1000, max_streams=1)
    charge = await a.limiter.reserve(both, 900)
    proxy.delay = 0.5
    await a.limiter.check(FLUSH)
    assert not a.connection.is_up
    charge.release()
    await charge.settle(100)
    await asyncio.sleep(0)
    assert not await has_place(b.limiter, both)
    proxy.delay = 0.0
    await eventually(lambda: a.connection.is_up)
    await until(lambda: has_place(b.limiter, both))
    assert await remaining(b.limiter, "tokens", both) == 900


async def test_what_was_under_way_when_redis_went_away(proxy: SlowProxy, start: Start) -> None:
    """Nobody knows whether Redis did it. A place is freed again; a correction, which it has made, is not repeated."""
    a, b = start(proxy.url, operation_seconds=0.1), start()
    both = Allowance("s", tokens_per_minute=1000, max_streams=1)
    charge = await a.limiter.reserve(both, 100)
    proxy.delay = 0.5
    charge.release()
    await charge.settle(200)
    await eventually(lambda: not a.connection.is_up)
    assert await remaining(b.limiter, "tokens", both) == 800
    proxy.delay = 0.0
    await eventually(lambda: a.connection.is_up)
    await a.kill()
    assert await remaining(b.limiter, "tokens", both) == 800


async def test_what_waited_in_the_line_when_redis_went_away(proxy: SlowProxy, start: Start) -> None:
    """Redis has not seen it, so it is sent when Redis is back."""
    a, b = start(proxy.url, operation_seconds=0.1), start()
    charge = await a.limiter.reserve(TOKENS, 600)
    proxy.delay = 0.5
    asked = asyncio.create_task(a.limiter.check(FLUSH))
    await asyncio.sleep(0.02)
    await charge.settle(100)
    await asked
    assert not a.connection.is_up
    assert await remaining(b.limiter, "tokens", TOKENS) == 400
    proxy.delay = 0.0
    await until(lambda: amounts_to(b.limiter, "tokens", TOKENS, 900))


async def test_a_place_is_freed_whose_release_was_lost(redis: RedisServer, start: Start) -> None:
    """Redis stands still for a moment, as when it forks, and its connections are cut."""
    a, b = start(operation_seconds=0.1), start(operation_seconds=5.0)
    charge = await a.limiter.reserve(ONE_STREAM, 0)
    await redis.say("CLIENT", "PAUSE", "300", "ALL")
    charge.release()
    await eventually(lambda: not a.connection.is_up)
    await redis.say("CLIENT", "KILL", "TYPE", "normal")
    await eventually(lambda: a.connection.is_up)
    await until(lambda: has_place(b.limiter, ONE_STREAM))


async def test_little_is_kept_for_a_redis_that_stays_away(redis: RedisServer, start: Start) -> None:
    one = start(renew_seconds=0.01)
    await redis.stop()

    async def ask(times: int) -> None:
        for _ in range(times):
            charges = [await one.limiter.reserve(ALL, 10) for _ in range(10)]
            await asyncio.sleep(0.02)
            for charge in charges:
                await charge.take_back()

    await ask(5)
    gc.collect()
    before = len(gc.get_objects())
    await ask(30)
    gc.collect()
    assert len(gc.get_objects()) - before < 200


async def test_a_place_is_not_taken_twice_by_a_request_whose_reply_was_lost(proxy: SlowProxy, start: Start) -> None:
    """Redis has its place, and so has this process; and a place that it frees is free in both."""
    a, b = start(proxy.url, operation_seconds=0.1), start()
    await a.limiter.check(TWO_STREAMS)
    proxy.delay = 0.5
    ended = asyncio.create_task(a.limiter.reserve(TWO_STREAMS, 0))
    charge = await a.limiter.reserve(TWO_STREAMS, 0)
    assert not a.connection.is_up
    (await ended).release()
    proxy.delay = 0.0
    await eventually(lambda: a.connection.is_up)
    await asyncio.sleep(0.1)  # it renews its places at once
    assert not await has_place(b.limiter, ONE_STREAM)
    assert await has_place(b.limiter, TWO_STREAMS)
    charge.release()
    await until(lambda: has_place(b.limiter, ONE_STREAM))


async def test_fault_71_a_slow_redis_holds_up_no_request_for_long(proxy: SlowProxy, start: Start) -> None:
    """The request is charged here. What Redis has charged, as it says later, is taken back there."""
    a, b = start(proxy.url, operation_seconds=5.0, wait_seconds=0.1), start()
    await a.limiter.check(FLUSH)
    both = Allowance("s", requests_per_minute=10, tokens_per_minute=1000)
    proxy.delay = 0.5
    async with asyncio.timeout(0.45):
        charge = await a.limiter.reserve(both, 600)
    assert charge.headers["x-ratelimit-remaining-tokens"] == "400"
    await a.limiter.check(FLUSH)
    assert a.connection.is_up
    proxy.delay = 0.0
    await until(lambda: amounts_to(b.limiter, "tokens", both, 1000))
    assert await remaining(b.limiter, "requests", both) == 10
    assert a.limiter.streams == 1


@pytest.mark.parametrize("leave", [True, False], ids=["cancelled", "too slow"])
async def test_fault_71_requests_that_give_up_leave_the_line(proxy: SlowProxy, leave: bool) -> None:
    """Else a slow Redis does, and undoes, what nobody waits for, and is further and further behind."""
    connection = Heard(proxy.url, operation_seconds=20.0)
    limiter = RedisLimiter(connection, "gateway:", "a", wait_seconds=5.0 if leave else 0.2)
    many = Allowance("s", requests_per_minute=1000, max_streams=1000)
    await limiter.check(FLUSH)
    proxy.delay = 2.0
    asking: list[asyncio.Task[Any]] = [asyncio.create_task(limiter.check(FLUSH))]
    await asyncio.sleep(0.05)  # it is on its way
    asking += [asyncio.create_task(limiter.reserve(many, 10)) for _ in range(200)]
    asking += [asyncio.create_task(limiter.check(many)) for _ in range(200)]
    await asyncio.sleep(0.05)
    for one in asking if leave else ():
        one.cancel()
    for outcome in await asyncio.gather(*asking, return_exceptions=True):
        if isinstance(outcome, RedisReservation):  # charged here
            outcome.release()
    proxy.delay = 0.0
    await eventually(lambda: len(connection.batches) > 1)
    await limiter.close()
    await connection.close()
    assert [len(batch) for batch in connection.batches] == [1, 1]


async def amounts_to(limiter: Limiter, kind: str, allowance: Allowance, expected: int) -> bool:
    return await remaining(limiter, kind, allowance) == expected


async def test_a_client_that_leaves_meanwhile_is_not_charged(proxy: SlowProxy, start: Start) -> None:
    a, b = start(proxy.url, operation_seconds=5.0), start()
    await a.limiter.check(FLUSH)
    proxy.delay = 0.2
    asking = asyncio.create_task(a.limiter.reserve(ALL, 600))
    await until(lambda: amounts_to(b.limiter, "tokens", ALL, 9400))
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await until(lambda: amounts_to(b.limiter, "tokens", ALL, 10_000))
    assert await remaining(b.limiter, "requests", ALL) == 100
    assert await has_place(b.limiter, ONE_STREAM)
    assert a.limiter.streams == 0
    assert a.connection.is_up


BUDGET = Allowance("s", budget=Budget(0.001, Per.DAY))  # 1,000 millionths


async def rest_is(limiter: Limiter, expected: float) -> bool:
    """What is left of the budget. It is asked for by a request, which is taken back."""
    charge = await limiter.reserve(BUDGET, 0, Wish(0, 0))
    await charge.take_back()
    return charge.headers["x-ratelimit-remaining-budget"] == f"{expected:g}"


@pytest.mark.parametrize("is_settled_first", [True, False], ids=["behind the end", "before the end"])
@pytest.mark.parametrize("leaves", [True, False], ids=["cancelled", "too slow"])
async def test_fault_71_an_extension_that_comes_too_late_is_given_back(
    proxy: SlowProxy, start: Start, leaves: bool, is_settled_first: bool
) -> None:
    """Redis has charged it, and there is no attempt that could use it."""
    a, b = start(proxy.url, operation_seconds=20.0, wait_seconds=10.0 if leaves else 0.2), start()
    charge = await a.limiter.reserve(BUDGET, 0, Wish(400, 400))
    proxy.delay = 1.5
    extending = asyncio.create_task(charge.extend(300))
    await until(lambda: rest_is(b.limiter, 0.0003))
    if leaves:
        extending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await extending
    else:
        assert not await extending
    assert charge.granted == 400
    if not is_settled_first:
        await eventually(lambda: charge.granted == 700)
    charge.release()
    await charge.settle(0, 100)
    proxy.delay = 0.0
    await until(lambda: rest_is(b.limiter, 0.0009))
    await a.limiter.close()
    assert a.limiter.budgets() == {"s": 0.0009}


async def test_fault_72_places_are_in_redis_again_when_it_was_flushed(redis: RedisServer, start: Start) -> None:
    a, b = start(renew_seconds=0.1), start()
    charge = await a.limiter.reserve(Allowance("s", tokens_per_minute=1000, max_streams=1), 600)
    await redis.say("FLUSHALL")
    await until(lambda: lacks_place(b.limiter, ONE_STREAM))
    (places,) = re.findall(r"gateway:\S+:places", (await redis.say("KEYS", "*")).decode())
    assert int((await redis.say("PTTL", places)).strip(b":\r\n")) > 0
    assert await remaining(b.limiter, "tokens", TOKENS) == 1000
    charge.release()
    await charge.settle(100)  # its window is gone, and what it gives back is not another one's
    await until(lambda: has_place(b.limiter, ONE_STREAM))
    assert await remaining(b.limiter, "tokens", TOKENS) == 1000


async def test_scripts_that_redis_has_forgotten_are_no_trouble(redis: RedisServer, start: Start) -> None:
    limiter = start().limiter
    await limiter.reserve(REQUESTS, 0)
    await redis.say("SCRIPT", "FLUSH")
    assert await remaining(limiter, "requests", REQUESTS) == 99


async def test_a_user_who_may_run_no_scripts_is_told_of_once(
    redis: RedisServer, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    await redis.say("ACL", "SETUSER", "default", "-eval")
    one = start()
    for n in range(2):
        charge = await one.limiter.reserve(Allowance(f"{n}", 1, 100, 1), 10)
        assert charge.headers["x-ratelimit-remaining-requests"] == "0"
        with pytest.raises(RateLimited):
            await one.limiter.check(Allowance(f"{n}", 1, 100, 1))
        await charge.take_back()
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert [line.partition(",")[0] for line in lines] == ["Redis refuses to count limits"]
