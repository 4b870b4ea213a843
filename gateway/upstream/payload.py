"""The body of a request, which is the same for all targets except for their names of the model and their options."""

import msgspec

from gateway.upstream.routing import Target

_encode_json = msgspec.json.Encoder().encode


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
        if not head:
            return self.fields
        start = _encode_json(head)
        return start if self.fields == b"{}" else start[:-1] + b"," + self.fields[1:]


NO_PAYLOAD = Payload(b"")
