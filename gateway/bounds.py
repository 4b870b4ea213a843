"""Bounds of the process that no configuration changes: how long it waits for others, and how much it queues.

They stand together because tests pass smaller ones in. A number that no test has to change stands beside its use.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    # Clients
    stall_seconds: float = 60.0  # a connection that took nothing for this long is as good as gone: proxies wait 60 s
    body_seconds: float = 30.0  # for a megabyte that is 280 kbit/s; slower is an attack or a phone in a tunnel
    neighbour_seconds: float = 2.0  # for another process of this machine to answer; a healthy one takes 1 ms
    unacknowledged_seconds: float = 120.0  # for a peer to acknowledge what it was sent; after that nobody is there
    door_seconds: float = 1.0  # between two checks for room; the end of a client's connection is noticed at once

    # Redis
    redis_seconds: float = 0.8  # for an operation: a healthy Redis takes 1 ms, and a client waits for it

    # Upstreams
    error_body_seconds: float = 2.0  # for the body of an error to arrive; without it, the status says enough
    stale_seconds: float = 2.0  # for a reset of a kept connection to come; later, its server may have the request
    models_seconds: float = 10.0  # for a list of models to come
    probe_seconds: float = 30.0  # for `check --connect`: a list of models, and then the first token of a cold model

    # Traces
    export_seconds: float = 5.0  # for a batch with its repetitions; nobody waits for it but the queue of spans
    traces_seconds: float = 2.0  # for the last spans at a shutdown; those that are not taken by then are lost

    # The log
    log_lines: int = 10_000  # ten seconds of a busy process; some 5 MB, since a line has about 500 bytes
    log_bytes: int = 16_777_216  # in the queue: a line may hold a message of an upstream, or a traceback
    drain_seconds: float = 2.0  # for the last lines; a blocked reader does not delay the exit any longer


DEFAULT_BOUNDS = Bounds()
