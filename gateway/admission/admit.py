"""Turns the fields of a request into an order: the caller, the model, the prompts and the parameters. Raises errors.

The native surface has assistants and composes the upstream's request. The OpenAI surface passes the request on.
Requests of other APIs come translated. The rules about what a caller may ask, and at which endpoints, are here, and are
the same for all.
"""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from gateway.admission.auth import Caller
from gateway.admission.fields import ChatRequest, CompletionRequest, Fields
from gateway.admission.limits import Allowance, allowance
from gateway.config import Assistant, Config, Dialect, OnDisconnect, Timeouts
from gateway.endpoints import Endpoint
from gateway.errors import EndpointNotSupported, InvalidRequest, NotFound, PolicyNotAllowed, Unauthorized
from gateway.observe.spans import RequestSpan
from gateway.upstream.payload import Payload
from gateway.upstream.routing import Route, Target, default_model, route, unknown_model

_COMMON_FIELDS = frozenset({"question", "messages", "assistant", "format", "reasoning", "on_disconnect", "stream"})
_PUBLIC_FIELDS = _COMMON_FIELDS | {"store"}
_OWN_FIELDS = _COMMON_FIELDS | {"model", "n", "stream_options"}  # `store` is the upstream's, too
_PUBLIC_POLICIES = (OnDisconnect.CANCEL, OnDisconnect.DETACH)  # `drain` would spend tokens on answers without a reader

_POLICIES = tuple(OnDisconnect)
_NULL, _TRUE, _FALSE = msgspec.Raw(b"null"), msgspec.Raw(b"true"), msgspec.Raw(b"false")
_USAGE = msgspec.Raw(b'{"include_usage":true}')

_encode_json = msgspec.json.Encoder().encode


class AdmittedRequest(msgspec.Struct, frozen=True):
    """An admitted request: its targets, the body to post, and the caller who is charged."""

    route: Route
    payload: Payload
    model: str | None  # the name that the caller sent, or the default
    owner: str | None  # the name of the caller's key
    allowance: Allowance
    on_disconnect: OnDisconnect
    is_kept: bool  # the client can resume it
    is_stored: bool = True  # other processes may have it, if there is a store that they share
    asked_at: Endpoint | None = None  # where alone its answer can be got again; None: at `/chat` and `/streams`
    form: str = ""  # of the answer, as far as the upstream is not told: another one makes it another request
    in_background: bool = False  # it waits for no client
    head: bytes = b""  # what its surface keeps of the request beside the entries of the answer
    is_whole: bool = False  # the upstream sends one JSON body
    adds_options: bool = False  # the caller sent no `stream_options`
    same_answer: bool = False  # another target would give the same text
    endpoint: Endpoint = Endpoint.CHAT  # of the upstream
    request_id: str = ""
    span: RequestSpan | None = None  # of the request, if it is traced

    def timeouts(self, target: Target) -> Timeouts:
        """A response that an upstream makes in the background may be silent for long, until its turn comes."""
        waits_for_all = self.is_whole or (self.in_background and target.endpoint is Endpoint.RESPONSES)
        return _only_total(target.timeouts) if waits_for_all else target.timeouts

    def asks_usage(self, target: Target) -> bool:
        """Whether the gateway adds `stream_options` for this target."""
        return self.adds_options and target.upstream.stream_usage


class Completion(msgspec.Struct, frozen=True):
    """An order of the OpenAI surface. `hide_usage`: the client did not ask for usage, although the gateway may."""

    request: AdmittedRequest
    stream: bool
    hide_usage: bool
    choices: int  # `n`


def admit(
    config: Config,
    caller: Caller,
    asked: ChatRequest,
    *,
    is_kept: bool = False,
    request_id: str = "",
    span: RequestSpan | None = None,
) -> AdmittedRequest:
    """Raises Unauthorized, InvalidRequest, NotFound, ModelNotFound or PolicyNotAllowed."""
    name = asked.assistant or ("default" if asked.model is None else None)
    assistant = config.assistants.get(name or "", Assistant())
    is_public = caller.key is None and assistant.public and asked.model is None
    if not is_public:
        check_key(config, caller)
    if asked.assistant is not None and asked.assistant not in config.assistants:
        raise NotFound(f"There is no assistant named {asked.assistant}.", code="assistant_not_found", param="assistant")
    if is_public:
        _check_public(asked.fields)
    model, targets = _routed(config, caller, asked.model or assistant.model, Endpoint.CHAT)
    if asked.n not in (None, 1):
        raise InvalidRequest("`n` must be 1 here: a stream carries one answer.", param="n")
    bound = assistant.max_tokens if is_public else None
    own = {} if is_public else asked.fields
    body = _body(assistant, own, turns=_turns(asked) if is_public else _messages(asked), max_tokens=bound)
    options = msgspec.Raw(_encode_json(body.pop("stream_options"))) if "stream_options" in body else None
    return AdmittedRequest(
        targets,
        Payload(_encode_json(body), options, _USAGE),
        model,
        caller.name,
        allowance(caller, name, assistant if is_public else Assistant()),
        _on_disconnect(config, caller, asked.on_disconnect, is_kept=is_kept, is_public=is_public),
        is_kept,
        is_stored=asked.store is not False,
        adds_options=True,
        same_answer=_is_same_answer(targets, body),
        request_id=request_id,
        span=span,
    )


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
    model, targets = _routed(config, caller, asked.model or _assistants_model(config, endpoint), endpoint)
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
        _on_disconnect(config, caller, asked.on_disconnect, is_kept=is_kept),
        is_kept and is_streamed,  # a client has nothing of a whole answer that failed, and may ask again
        is_stored=asked.fields.get("store") != _FALSE,
        asked_at=endpoint,
        in_background=in_background,
        is_whole=not is_streamed,
        adds_options=wanted is not None and options is None,
        same_answer=_can_go_on(asked, endpoint) and _is_same_answer(targets, fields),
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
    _, found = _routed(config, caller, model or _assistants_model(config, endpoint), endpoint)
    return found.endpoint is endpoint


def takes_thoughts(config: Config, caller: Caller, model: str | None, endpoint: Endpoint) -> bool:
    """Whether all targets of the model take back what it thought, and that it shall think, in Anthropic's form.

    Raises Unauthorized, InvalidRequest, EndpointNotSupported or ModelNotFound.
    """
    check_key(config, caller)
    _, found = _routed(config, caller, model or _assistants_model(config, endpoint), endpoint)
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
    name, targets = _routed(config, caller, model or _assistants_model(config, endpoint), endpoint)
    body = {name: value for name, value in fields.items() if name not in ("model", "stream_options")}
    return AdmittedRequest(
        targets,
        Payload(_encode_json({**body, "stream": True}), None, _USAGE),
        name,
        caller.name,
        allowance(caller, None, Assistant()),
        _on_disconnect(config, caller, on_disconnect, is_kept=is_kept),
        is_kept,
        is_stored=is_stored,
        asked_at=endpoint,
        head=head,
        adds_options=True,
        same_answer=_is_same_answer(targets, fields),
        request_id=request_id,
        span=span,
    )


def _has_usage(options: Fields | msgspec.Raw | None) -> bool:
    return isinstance(options, dict) and options.get("include_usage") == _TRUE


def _is_same_answer(targets: Route, fields: Mapping[str, Any]) -> bool:
    """Whether another target can be expected to give the same text: the model says so, or the request asks for it."""
    if len(targets.targets) == 1:
        return False
    return targets.same_answer or _number(fields, "temperature") == 0 or _number(fields, "seed") is not None


def _number(fields: Mapping[str, Any], name: str) -> float | None:
    value = fields.get(name)
    try:
        number = msgspec.json.decode(value) if isinstance(value, msgspec.Raw) else value
    except ValueError:
        return None
    return number if isinstance(number, int | float) else None


# What a caller may ask


def check_caller(config: Config, caller: Caller) -> None:
    """Checks that there is anything that the caller may ask. Raises Unauthorized."""
    if not any(assistant.public for assistant in config.assistants.values()):
        check_key(config, caller)


def check_key(config: Config, caller: Caller) -> None:
    """Callers without a key may ask public assistants only. Raises Unauthorized."""
    if not is_trusted(config, caller):
        raise Unauthorized()


def is_trusted(config: Config, caller: Caller) -> bool:
    """Whether the caller has a key, or needs none."""
    return caller.key is not None or not config.keys or config.server.allow_anonymous


def _routed(config: Config, caller: Caller, asked: str | None, endpoint: Endpoint) -> tuple[str | None, Route]:
    """The model by its name here, and its targets for this endpoint."""
    model = asked or default_model(config, endpoint)
    allowed = caller.key.models if caller.key is not None else []
    if allowed and model is not None and model not in allowed:
        raise unknown_model(allowed)
    found = route(config, model, endpoint)
    if endpoint not in found.endpoints:
        words = f"{model} has no {endpoint}. It can be asked at: {', '.join(found.endpoints)}."
        raise EndpointNotSupported(words, param="model")
    return model or None, found


def _assistants_model(config: Config, endpoint: Endpoint) -> str | None:
    """The model of the default assistant. Assistants are for chats only."""
    return config.assistants.get("default", Assistant()).model if endpoint.asked_as is Endpoint.CHAT else None


def _on_disconnect(
    config: Config, caller: Caller, chosen: OnDisconnect | None, *, is_kept: bool, is_public: bool = False
) -> OnDisconnect:
    """The caller's choice, if it is allowed. An answer that cannot be resumed is not detached."""
    allowed = caller.key.on_disconnect if caller.key is not None else _PUBLIC_POLICIES if is_public else _POLICIES
    policy = chosen or config.stream.on_disconnect
    if policy not in (OnDisconnect.CANCEL, *allowed):
        if chosen is not None:
            raise PolicyNotAllowed(param="on_disconnect")
        policy = OnDisconnect.CANCEL
    return OnDisconnect.CANCEL if policy is OnDisconnect.DETACH and not is_kept else policy


def _check_public(fields: Fields) -> None:
    """An anonymous caller sends only its question, and the public assistant decides on everything else."""
    for name, value in fields.items():
        if name not in _PUBLIC_FIELDS and value != _NULL:
            words = f"`{name[:64]}` may not be sent to this assistant: it has a model and parameters of its own."
            raise InvalidRequest(words, param=name[:64])


# The body for the upstream


def _body(assistant: Assistant, fields: Fields, *, turns: list[Any], max_tokens: int | None) -> dict[str, Any]:
    """Without the model. A request's parameters override an assistant's, key by key."""
    body: dict[str, Any] = dict(assistant.parameters)
    body |= {name: value for name, value in fields.items() if name not in _OWN_FIELDS}
    if max_tokens is not None:
        name = "max_completion_tokens" if "max_completion_tokens" in body else "max_tokens"
        own = assistant.parameters.get(name)
        body[name] = min(max_tokens, own) if isinstance(own, int) else max_tokens
    system = [{"role": "system", "content": prompt} for prompt in assistant.system]
    body["messages"] = [*system, *turns]
    body["stream"] = True
    body.pop("model", None)
    return body


def _messages(asked: ChatRequest) -> list[Any]:
    if asked.question is not None and asked.messages is not None:
        raise InvalidRequest("Send either `question` or `messages`, not both.", param="messages")
    if asked.question is None and "messages" in asked.fields:
        if not asked.messages:
            raise InvalidRequest("`messages` is empty.", code="question_missing", param="messages")
        return asked.messages
    if asked.question is None or not asked.question.strip():
        raise InvalidRequest("There is no question.", code="question_missing", param="question")
    return [{"role": "user", "content": asked.question}]


class _Turn(msgspec.Struct, forbid_unknown_fields=True):
    """A turn of plain text. Anonymous callers may send no other."""

    role: Literal["user", "assistant"]
    content: str


def _turns(asked: ChatRequest) -> list[Any]:
    turns = []
    for index, message in enumerate(_messages(asked)):
        try:
            turns.append(message if isinstance(message, dict) else msgspec.json.decode(message, type=_Turn))
        except msgspec.DecodeError:
            words = "Only turns of `user` and `assistant` with a text as their `content` may be sent to this assistant."
            raise InvalidRequest(words, param=f"messages[{index}]") from None
    return turns


def _only_total(timeouts: Timeouts) -> Timeouts:
    """Timeouts for an answer that arrives at once: only `connect` and `total` apply to it."""
    return Timeouts(timeouts.connect, timeouts.total, timeouts.total, timeouts.total)
