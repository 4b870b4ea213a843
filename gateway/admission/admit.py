"""Turns the fields of a request into an order: the caller, the model, the prompts and the parameters. Raises errors.

The native surface has assistants, and its requests to the upstream are composed here. `admit_v1` has the requests of
`/v1`. The rules about what a caller may ask, and at which endpoints, are here, and are the same for all.
"""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from gateway.admission.auth import Caller
from gateway.admission.fields import ChatRequest, Fields
from gateway.admission.limits import Allowance, allowance
from gateway.config import Assistant, Config, OnDisconnect, Timeouts
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
_NULL = msgspec.Raw(b"null")
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
    opens_to_id: bool = True  # if its caller has no key, its id alone opens it
    in_background: bool = False  # it waits for no client
    head: bytes = b""  # what its surface keeps of the request beside the entries of the answer
    form: str = ""  # of the answer, as far as the upstream is not told: another one makes it another request
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
    opens_to_id: bool = True,
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
    model, targets = routed(config, caller, asked.model or assistant.model, Endpoint.CHAT)
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
        policy_of(config, caller, asked.on_disconnect, is_kept=is_kept, is_public=is_public),
        is_kept,
        is_stored=asked.store is not False,
        opens_to_id=opens_to_id,
        adds_options=True,
        same_answer=is_same_answer(targets, body),
        request_id=request_id,
        span=span,
    )


def is_same_answer(targets: Route, fields: Mapping[str, Any]) -> bool:
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


def routed(config: Config, caller: Caller, asked: str | None, endpoint: Endpoint) -> tuple[str | None, Route]:
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


def assistants_model(config: Config, endpoint: Endpoint) -> str | None:
    """The model of the default assistant. Assistants are for chats only."""
    return config.assistants.get("default", Assistant()).model if endpoint.asked_as is Endpoint.CHAT else None


def policy_of(
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
    """Without the model, and without `n`: a stream carries one answer, and more would be paid and dropped.

    A request's parameters override an assistant's, key by key.
    """
    body: dict[str, Any] = dict(assistant.parameters)
    body |= {name: value for name, value in fields.items() if name not in _OWN_FIELDS}
    if max_tokens is not None:
        name = "max_completion_tokens" if "max_completion_tokens" in body else "max_tokens"
        own = assistant.parameters.get(name)
        body[name] = min(max_tokens, own) if isinstance(own, int) else max_tokens
    system = [{"role": "system", "content": prompt} for prompt in assistant.system]
    body["messages"] = [*system, *turns]
    body["stream"] = True
    for name in ("model", "n"):
        body.pop(name, None)
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
