"""Turns the fields of a request of `/v1` into an order, as `admit` does for the native surface. Raises errors.

The OpenAI surface passes the request on. Requests of other APIs come translated.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.admission.admit import (
    AdmittedRequest,
    Completion,
    assistants_model,
    check_key,
    is_same_answer,
    policy_of,
    routed,
)
from gateway.admission.auth import Caller
from gateway.admission.fields import CompletionRequest, Fields
from gateway.admission.limits import allowance
from gateway.config import Assistant, Config, Dialect, OnDisconnect
from gateway.endpoints import Endpoint
from gateway.observe.spans import RequestSpan
from gateway.upstream.payload import Payload

_TRUE, _FALSE = msgspec.Raw(b"true"), msgspec.Raw(b"false")
_USAGE = msgspec.Raw(b'{"include_usage":true}')

_encode_json = msgspec.json.Encoder().encode


def admit_completion(
    config: Config,
    caller: Caller,
    asked: CompletionRequest,
    endpoint: Endpoint = Endpoint.CHAT,
    *,
    is_kept: bool = False,
    in_background: bool = False,
    upstream: str | None = None,
    request_id: str = "",
    span: RequestSpan | None = None,
) -> Completion:
    """Passes all fields on, except that the model is the target's and that a stream asks for usage.

    `endpoint` is one that the upstream has, too. `is_kept`: the answer is recorded, for clients that ask again. Of the
    targets, only those at `upstream` may be asked, if it is named. Raises Unauthorized, InvalidRequest,
    EndpointNotSupported, ModelNotFound or PolicyNotAllowed.
    """
    check_key(config, caller)
    model, targets = routed(config, caller, asked.model or assistants_model(config, endpoint), endpoint)
    if upstream is not None:
        targets = targets.at(upstream)
    fields = {name: value for name, value in asked.fields.items() if name not in ("model", "on_disconnect")}
    options = asked.stream_options
    is_streamed = asked.stream and endpoint.is_written
    wanted = own = None
    asks_usage = endpoint is not Endpoint.RESPONSES  # whose events have it in any case
    if is_streamed and asks_usage and not isinstance(options, msgspec.Raw):
        own = fields.pop("stream_options", None)
        wanted = msgspec.Raw(_encode_json({**(options or {}), "include_usage": True}))
    request = AdmittedRequest(
        targets,
        Payload(_encode_json(fields), own, wanted),
        model,
        caller.name,
        allowance(caller, None, Assistant()),
        policy_of(config, caller, asked.on_disconnect, is_kept=is_kept),
        is_kept and is_streamed,  # a client has nothing of a whole answer that failed, and may ask again
        is_stored=asked.fields.get("store") != _FALSE,
        asked_at=endpoint,
        in_background=in_background,
        is_whole=not is_streamed,
        adds_options=wanted is not None and options is None,
        same_answer=_can_go_on(asked, endpoint) and is_same_answer(targets, fields),
        endpoint=endpoint,
        request_id=request_id,
        span=span,
    )
    hide_usage = wanted is not None and not _has_usage(options)
    choices = asked.choices * (asked.prompts if endpoint is Endpoint.COMPLETIONS else 1)
    return Completion(request, is_streamed, hide_usage, choices)


def is_passed(config: Config, caller: Caller, model: str | None, endpoint: Endpoint) -> bool:
    """Whether the upstreams of the model have this endpoint themselves, so that a request at it need not be translated.

    Raises Unauthorized, InvalidRequest, EndpointNotSupported or ModelNotFound.
    """
    check_key(config, caller)
    _, found = routed(config, caller, model or assistants_model(config, endpoint), endpoint)
    return found.endpoint is endpoint


def takes_thoughts(config: Config, caller: Caller, model: str | None, endpoint: Endpoint) -> bool:
    """Whether all targets of the model take back what it thought, and that it shall think, in Anthropic's form.

    Raises Unauthorized, InvalidRequest, EndpointNotSupported or ModelNotFound.
    """
    check_key(config, caller)
    _, found = routed(config, caller, model or assistants_model(config, endpoint), endpoint)
    return all(target.upstream.dialect is Dialect.ANTHROPIC for target in found.targets)


def _can_go_on(asked: CompletionRequest, endpoint: Endpoint) -> bool:
    """Whether another target may go on with the answer, whose text is remembered for that."""
    return asked.stream and asked.choices == 1 and endpoint is Endpoint.CHAT


def admit_translated(
    config: Config,
    caller: Caller,
    *,
    endpoint: Endpoint,
    model: str | None,
    fields: Mapping[str, Any],
    on_disconnect: OnDisconnect | None = None,
    is_kept: bool = False,
    is_stored: bool = True,
    head: bytes = b"",
    request_id: str = "",
    span: RequestSpan | None = None,
) -> AdmittedRequest:
    """A request of another API whose body was translated. `fields` are those of `/v1/chat/completions`.

    `endpoint` is the one that the caller asked. The answer is streamed, and its entries are recorded. Raises
    Unauthorized, InvalidRequest, EndpointNotSupported, ModelNotFound or PolicyNotAllowed.
    """
    check_key(config, caller)
    name, targets = routed(config, caller, model or assistants_model(config, endpoint), endpoint)
    body = {name: value for name, value in fields.items() if name not in ("model", "stream_options")}
    return AdmittedRequest(
        targets,
        Payload(_encode_json({**body, "stream": True}), None, _USAGE),
        name,
        caller.name,
        allowance(caller, None, Assistant()),
        policy_of(config, caller, on_disconnect, is_kept=is_kept),
        is_kept,
        is_stored=is_stored,
        asked_at=endpoint,
        head=head,
        adds_options=True,
        same_answer=is_same_answer(targets, fields),
        request_id=request_id,
        span=span,
    )


def _has_usage(options: Fields | msgspec.Raw | None) -> bool:
    return isinstance(options, dict) and options.get("include_usage") == _TRUE
