"""Turns the fields of a request into an order: the caller, the model, the prompts and the parameters. Raises errors.

The native surface has assistants and composes the upstream's request. The OpenAI surface passes the request on. The
rules about what a caller may ask are here, and are the same for both.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import msgspec

from gateway.admission.auth import Caller
from gateway.admission.fields import ChatRequest, CompletionRequest, Fields
from gateway.admission.limits import Allowance, allowance
from gateway.config import Assistant, Config, OnDisconnect, Timeouts
from gateway.errors import InvalidRequest, NotFound, PolicyNotAllowed, Unauthorized
from gateway.upstream.routing import Target, default_model, route, unknown_model

_PUBLIC_FIELDS = frozenset({"question", "messages", "assistant", "format", "reasoning", "on_disconnect", "stream"})
_OWN_FIELDS = _PUBLIC_FIELDS | {"model", "n", "stream_options"}
_PUBLIC_POLICIES = (OnDisconnect.CANCEL, OnDisconnect.DETACH)  # `drain` would spend tokens on answers without a reader

_POLICIES = tuple(OnDisconnect)
_NULL, _TRUE = msgspec.Raw(b"null"), msgspec.Raw(b"true")

_encode_json = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class AdmittedRequest:
    """An admitted request: its target, the body to post, and the caller who is charged."""

    target: Target
    body: bytes
    model: str | None  # the name that the caller sent, or the default
    owner: str | None  # the name of the caller's key
    allowance: Allowance
    on_disconnect: OnDisconnect
    is_kept: bool  # the client can resume it
    asks_usage: bool = False  # the gateway adds `stream_options`


@dataclass(frozen=True, slots=True)
class Completion:
    """An order of the OpenAI surface. `hide_usage`: the gateway asks the upstream for usage, and the client did not."""

    request: AdmittedRequest
    stream: bool
    hide_usage: bool
    choices: int  # `n`


def admit(config: Config, caller: Caller, asked: ChatRequest, *, is_kept: bool = False) -> AdmittedRequest:
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
    model, target = _routed(config, caller, asked.model or assistant.model)
    if asked.n not in (None, 1):
        raise InvalidRequest("`n` must be 1 here: a stream carries one answer.", param="n")
    bound = assistant.max_tokens if is_public else None
    own = {} if is_public else asked.fields
    body = _body(target, assistant, own, turns=_turns(asked) if is_public else _messages(asked), max_tokens=bound)
    limits = allowance(caller, name, assistant if is_public else Assistant())
    policy = _on_disconnect(config, caller, asked.on_disconnect, is_kept=is_kept, is_public=is_public)
    asks_usage = target.upstream.stream_usage
    return AdmittedRequest(target, body, model, caller.name, limits, policy, is_kept, asks_usage)


def admit_completion(config: Config, caller: Caller, asked: CompletionRequest) -> Completion:
    """Passes all fields on, except that the model is the target's and that a stream asks for usage.

    Raises Unauthorized, InvalidRequest or ModelNotFound.
    """
    check_key(config, caller)
    default = config.assistants.get("default", Assistant()).model
    model, target = _routed(config, caller, asked.model or default)
    body: dict[str, Any] = {**asked.fields, "model": target.model}
    body.pop("on_disconnect", None)
    hide_usage, options = False, asked.stream_options
    if not asked.stream:
        target = replace(target, timeouts=_only_total(target.timeouts))
    elif target.upstream.stream_usage and not isinstance(options, msgspec.Raw):
        body["stream_options"] = {**(options or {}), "include_usage": True}
        hide_usage = options is None or options.get("include_usage") != _TRUE
    policy = _on_disconnect(config, caller, asked.on_disconnect, is_kept=False)
    limits = allowance(caller, None, Assistant())
    asks_usage = hide_usage and options is None
    request = AdmittedRequest(target, _encode_json(body), model, caller.name, limits, policy, False, asks_usage)
    return Completion(request, asked.stream, hide_usage, asked.choices)


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


def _routed(config: Config, caller: Caller, asked: str | None) -> tuple[str | None, Target]:
    model = asked or default_model(config)
    allowed = caller.key.models if caller.key is not None else []
    if allowed and model is not None and model not in allowed:
        raise unknown_model(allowed)
    return model, route(config, model)


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


def _body(target: Target, assistant: Assistant, fields: Fields, *, turns: list[Any], max_tokens: int | None) -> bytes:
    """A request's parameters override an assistant's, key by key."""
    body: dict[str, Any] = dict(assistant.parameters)
    body |= {name: value for name, value in fields.items() if name not in _OWN_FIELDS}
    if max_tokens is not None:
        name = "max_completion_tokens" if "max_completion_tokens" in body else "max_tokens"
        own = assistant.parameters.get(name)
        body[name] = min(max_tokens, own) if isinstance(own, int) else max_tokens
    system = [{"role": "system", "content": prompt} for prompt in assistant.system]
    body["model"] = target.model
    body["messages"] = [*system, *turns]
    body["stream"] = True
    if target.upstream.stream_usage:
        body["stream_options"] = {"include_usage": True}
    return _encode_json(body)


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
