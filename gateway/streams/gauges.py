"""What is read of the running process when its metrics are: streams, viewers, memory, and the state of targets."""

from collections.abc import Iterator

from gateway.observe.metrics import Gauge
from gateway.streams.registry import Streams
from gateway.upstream.targets import Targets


def gauges(streams: Streams, targets: Targets, now: float) -> Iterator[Gauge]:
    """`now` is a time on the clock of the targets."""
    yield Gauge("gateway_streams_running", "Answers that are being produced.", {"": len(streams)})
    yield Gauge("gateway_streams_held", "Streams that can be watched, running or ended.", {"": streams.held})
    yield Gauge("gateway_streams_without_viewers", "Running answers that wait for a client.", {"": streams.orphans})
    yield Gauge("gateway_viewers", "Clients that watch a stream.", {"": streams.viewers})
    yield Gauge("gateway_log_bytes", "Memory that all streams take.", {"": streams.held_bytes})
    if (sharing := streams.sharing) is not None:
        is_up = float(sharing.connection.is_up)
        yield Gauge("gateway_redis_up", "Whether Redis answers.", {"": is_up}, together="livemin")
        followed = len(sharing.elsewhere)
        yield Gauge("gateway_streams_followed", "Streams of other processes that clients watch here.", {"": followed})
        yield Gauge("gateway_streams_unsent", "Streams of which Redis has not the end.", {"": sharing.unsent})
    budgets = {scope.removeprefix("key:"): rest for scope, rest in streams.limiter.budgets().items()}
    help = "What is left of a key's budget, as far as this process knows."
    yield Gauge("gateway_budget_remaining", help, budgets, label="key", together="livemin")
    known = list(targets.known())
    yield Gauge(
        "gateway_target_running",
        "Requests that run on a target.",
        {name: state.running for name, state in known},
        label="target",
    )
    yield Gauge(
        "gateway_target_breaker_open",
        "Whether a target's breaker is open: 1 from its failures to the first content of a request that tries it.",
        {name: float(state.breaker.is_open) for name, state in known},
        label="target",
        together="livemax",
    )
    yield Gauge(
        "gateway_target_available",
        "Whether a target is asked: 0 while its breaker is open, or while it cools down.",
        {name: float(state.unavailable_until() <= now) for name, state in known},
        label="target",
        together="livemin",
    )
