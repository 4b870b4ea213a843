"""The body of a request, which is the same for all targets except for the names that they use, and their options."""

import msgspec

from gateway.endpoints import Endpoint
from gateway.upstream.routing import Target

BOUNDS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "n_predict")
"""The names under which servers read the bound of an answer."""

_MAX_TOKENS = "max_tokens"
_QUOTED = b'"max_tokens"'

_encode_json = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Payload(msgspec.Struct, frozen=True):
    """`fields` is a JSON object without the model. `options` and `usage_options` are for `stream_options`.

    The upstream gets `usage_options` if it is to be asked for usage, and otherwise `options`. None: the field is left
    out, or `fields` has it.
    """

    fields: bytes
    options: msgspec.Raw | None = None
    usage_options: msgspec.Raw | None = None

    def for_target(self, target: Target) -> bytes:
        head: dict[str, object] = {"model": target.model} if target.model else {}
        options = self.options
        if target.upstream.stream_usage and self.usage_options is not None:
            options = self.usage_options
        if options is not None:
            head["stream_options"] = options
        fields = self.fields
        is_chat = target.endpoint is Endpoint.CHAT  # text completions have the older name only
        if is_chat and target.upstream.max_tokens_field != _MAX_TOKENS and _QUOTED in fields:
            fields = _renamed(fields, target.upstream.max_tokens_field)
        if not head:
            return fields
        start = _encode_json(head)
        return start if fields == b"{}" else start[:-1] + b"," + fields[1:]

    def bounded(self, tokens: int, endpoint: Endpoint) -> "Payload":
        """With this bound of the answer in place of any other.

        It stands there once, under a name that each target's server obeys: see `for_target`.
        """
        fields: dict[str, object] = {name: value for name, value in _decode(self.fields).items() if name not in BOUNDS}
        fields["max_output_tokens" if endpoint is Endpoint.RESPONSES else _MAX_TOKENS] = tokens
        return msgspec.structs.replace(self, fields=_encode_json(fields))


def _renamed(fields: bytes, name: str) -> bytes:
    """With the bound of an answer under another name, unless it is there under both."""
    decoded = _decode(fields)
    if _MAX_TOKENS in decoded and name not in decoded:
        decoded[name] = decoded.pop(_MAX_TOKENS)
        return _encode_json(decoded)
    return fields


NO_PAYLOAD = Payload(b"")
