"""The endpoints below `/v1` at which a model can be asked, by the names of their paths.

Upstreams have the same paths below their `base_url`. The gateway's own routes are in `app`.
"""

from enum import StrEnum


class Endpoint(StrEnum):
    CHAT = "chat/completions"
    RESPONSES = "responses"
    MESSAGES = "messages"
    EMBEDDINGS = "embeddings"
    COMPLETIONS = "completions"
    MODERATIONS = "moderations"
    RERANK = "rerank"

    @property
    def is_written(self) -> bool:
        """Whether a model writes the answer, token by token. Other answers are values, and come whole."""
        return self not in _VALUES

    @property
    def asked_as(self) -> "Endpoint":
        """The endpoint of an upstream that has chats only. See `Upstream.asked_at` for others."""
        return Endpoint.CHAT if self in _TRANSLATED else self

    @property
    def operation(self) -> str:
        """Its `gen_ai.operation.name`.

        OpenTelemetry's conventions name the first three of these operations, and leave others to whoever needs them.
        """
        return _OPERATIONS[self.asked_as]


_TRANSLATED = frozenset({Endpoint.RESPONSES, Endpoint.MESSAGES})
_VALUES = frozenset({Endpoint.EMBEDDINGS, Endpoint.MODERATIONS, Endpoint.RERANK})
_OPERATIONS = {
    Endpoint.CHAT: "chat",
    Endpoint.COMPLETIONS: "text_completion",
    Endpoint.EMBEDDINGS: "embeddings",
    Endpoint.MODERATIONS: "moderation",
    Endpoint.RERANK: "rerank",
}

CHATS = tuple(endpoint for endpoint in Endpoint if endpoint.asked_as is Endpoint.CHAT)
