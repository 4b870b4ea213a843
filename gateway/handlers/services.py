"""The objects that handlers use. `app.create_app` creates them."""

from dataclasses import dataclass
from typing import Any

from aiohttp import web

from gateway.admission.auth import Caller, KeyRing
from gateway.admission.body_room import BodyRoom
from gateway.admission.descriptors import Descriptors
from gateway.bounds import Bounds
from gateway.config import Config
from gateway.handover.neighbours import Neighbours
from gateway.observe.metrics import Metrics
from gateway.observe.spans import RequestSpan, Tracer
from gateway.streams.held import HeldStream
from gateway.streams.registry import Streams
from gateway.streams.upstream_places import UpstreamPlaces
from gateway.upstream.catalogue import Catalogue
from gateway.upstream.client import UpstreamClient
from gateway.upstream.targets import Targets


@dataclass(slots=True)
class Services:
    """A reload replaces `config`, `keys` and `catalogue`. Handlers look them up for each request."""

    config: Config
    keys: KeyRing
    client: UpstreamClient
    catalogue: Catalogue
    streams: Streams
    targets: Targets
    bodies: BodyRoom
    descriptors: Descriptors
    metrics: Metrics
    tracer: Tracer | None  # None: nothing is traced
    places: UpstreamPlaces  # of the responses that upstreams made
    neighbours: Neighbours | None = None  # with `server.runtime_dir`, or with several workers


SERVICES = web.AppKey("services", Services)
BOUNDS = web.AppKey("bounds", Bounds)


@dataclass(slots=True)
class Exchange:
    """What is known of a request and its response. One object, because each look into a request takes two calls."""

    services: Services
    request_id: str
    client: str = ""  # the address of the client
    caller: Caller | None = None  # None: not known yet
    span: RequestSpan | None = None  # of a request that is traced
    started: HeldStream[Any] | None = None  # the stream that the request started
    viewed: str | None = None  # the id of a stream that another request had started
    response: web.StreamResponse | None = None  # the streamed one, once it is prepared


EXCHANGE = web.RequestKey("exchange", Exchange)

NEIGHBOUR_CLIENT = "Gateway-Client"  # the address of the client, as another process of this gateway tells it


def is_from_neighbour(request: web.Request) -> bool:
    """Whether another process of this gateway has passed the request on.

    Only a Unix socket has an empty address, and only the user of the gateway can connect to one. The address is None
    if a client has gone.
    """
    return request.remote == ""
