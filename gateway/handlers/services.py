"""The objects that handlers use. `app.create_app` creates them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from gateway.admission.auth import Caller, KeyRing
from gateway.admission.bodies import Bodies
from gateway.admission.descriptors import Descriptors
from gateway.bounds import Bounds
from gateway.config import Config
from gateway.streams.held import HeldStream
from gateway.streams.registry import Streams
from gateway.upstream.catalogue import Catalogue
from gateway.upstream.client import UpstreamClient


@dataclass(frozen=True, slots=True)
class Services:
    config: Config
    keys: KeyRing
    client: UpstreamClient
    catalogue: Catalogue
    streams: Streams
    bodies: Bodies
    descriptors: Descriptors


SERVICES = web.AppKey("services", Services)
BOUNDS = web.AppKey("bounds", Bounds)
CLIENT = web.RequestKey("client", str)  # the address of the client
CALLER = web.RequestKey("caller", Caller)
LIMITS = web.RequestKey("limits", Mapping[str, str])  # the header fields about limits
RESPONSE = web.RequestKey("response", web.StreamResponse)  # the streamed one, once it is prepared
REQUEST_ID = web.RequestKey("request_id", str)
STARTED = web.RequestKey[HeldStream[Any]]("started", HeldStream)  # the stream that the request started
VIEWED = web.RequestKey("viewed", str)  # the id of a stream that another request had started
