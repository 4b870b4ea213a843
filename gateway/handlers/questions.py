"""The beginning of every request of `/v1` that asks a model: who asks, and the fields of the body."""

from typing import NamedTuple

from aiohttp import web

from gateway.admission.admit import check_key
from gateway.admission.auth import Caller
from gateway.admission.fields import POLICY, Fields
from gateway.admission.limits import allowance
from gateway.config import Assistant
from gateway.handlers.reading import (
    IDEMPOTENCY,
    LARGEST_V1_BODY,
    authenticate,
    idempotency_key,
    read_fields,
    read_query,
)
from gateway.handlers.services import EXCHANGE
from gateway.streams.idempotency import Key


class Question(NamedTuple):
    caller: Caller
    key: Key | None  # the idempotency key
    fields: Fields


async def read_question(request: web.Request, *, takes_key: bool = True, is_asked: bool = True) -> Question:
    """`is_asked`: an answer is wanted, so there has to be room for one before the body is read. Raises a GatewayError.

    Of the query, only these names count: OpenAI's server ignores others, and SDKs add some.
    """
    services = request[EXCHANGE].services
    caller = authenticate(request)
    check_key(services.config, caller)
    query = read_query(request, only=POLICY | IDEMPOTENCY)
    key = idempotency_key(request, query, caller) if takes_key else None
    limits = allowance(caller, None, Assistant())
    if is_asked and key is None:  # with one, the answer may exist already
        await services.streams.check(limits)
    return Question(
        caller, key, await read_fields(request, caller, query, LARGEST_V1_BODY, at_a_time=limits.max_streams)
    )
