"""What handlers work with, put together once in `app.create_app`."""

from dataclasses import dataclass

from aiohttp import web

from gateway.config import Config
from gateway.generation import Generations
from gateway.observe import StreamRecord


@dataclass(frozen=True, slots=True)
class Services:
    config: Config
    generations: Generations


SERVICES = web.AppKey("services", Services)
REQUEST_ID = web.RequestKey("request_id", str)
STREAM_RECORD = web.RequestKey("stream_record", StreamRecord)
