"""Embeddings, moderations and ranks of the demo. They are computed from the words of a text, and always the same.

https://platform.openai.com/docs/api-reference/embeddings, and `.../moderations`. Ranks have the form of Jina and vLLM.
Two texts with the same words have similar vectors, and a document that has words of the query ranks before others.
"""

import math
import re
import struct
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from typing import Annotated, Any, Literal

import msgspec

_DIMENSIONS = 8
_MOST_DIMENSIONS = 2048
_WORD = re.compile(r"\w+")
_CATEGORIES = (
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
)

Input = str | list[str | int | list[int]]
"""One text, several texts, one text as tokens, or several."""


class EmbeddingsRequest(msgspec.Struct):
    input: Input
    model: str = "demo"
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, msgspec.Meta(ge=1, le=_MOST_DIMENSIONS)] = _DIMENSIONS


class TextPart(msgspec.Struct):
    type: str
    text: str = ""


class ModerationRequest(msgspec.Struct):
    input: str | list[str | TextPart]
    model: str = "demo"


class Document(msgspec.Struct):
    text: str


class RerankRequest(msgspec.Struct):
    query: str
    documents: list[str | Document]
    model: str = "demo"
    top_n: Annotated[int, msgspec.Meta(ge=1)] | None = None
    return_documents: bool = False


def embeddings(asked: EmbeddingsRequest) -> dict[str, Any]:
    texts = _texts(asked.input)
    vectors = [vector(text, asked.dimensions) for text in texts]
    if asked.encoding_format == "base64":
        shown: list[Any] = [b64encode(struct.pack(f"<{len(one)}f", *one)).decode() for one in vectors]
    else:
        shown = vectors
    data = [{"object": "embedding", "index": index, "embedding": one} for index, one in enumerate(shown)]
    count = _tokens(texts)
    usage = {"prompt_tokens": count, "total_tokens": count}
    return {"object": "list", "data": data, "model": asked.model, "usage": usage}


def moderation(asked: ModerationRequest) -> dict[str, Any]:
    """A text is flagged for a category that it names. Parts are one text."""
    if isinstance(asked.input, str):
        texts = [asked.input]
    else:
        parts = [part.text for part in asked.input if isinstance(part, TextPart)]
        texts = [" ".join(parts)] if parts else [part for part in asked.input if isinstance(part, str)]
    return {"model": asked.model, "results": [_judged(text) for text in texts]}


def ranks(asked: RerankRequest) -> dict[str, Any]:
    texts = [document if isinstance(document, str) else document.text for document in asked.documents]
    scores = [_similarity(asked.query, text) for text in texts]
    order = sorted(range(len(texts)), key=lambda index: -scores[index])[: asked.top_n]
    results: list[dict[str, Any]] = [{"index": index, "relevance_score": scores[index]} for index in order]
    if asked.return_documents:
        results = [{**result, "document": {"text": texts[result["index"]]}} for result in results]
    return {"model": asked.model, "results": results, "usage": {"total_tokens": _tokens([asked.query, *texts])}}


def vector(text: str, dimensions: int = _DIMENSIONS) -> list[float]:
    """The sum of the vectors of its words, of length 1."""
    words = [word.lower() for word in _WORD.findall(text)] or [text]
    columns = zip(*[_word_vector(word, dimensions) for word in words], strict=True)
    sums = [sum(column) for column in columns]
    length = math.sqrt(sum([value * value for value in sums])) or 1.0
    return [round(value / length, 6) for value in sums]


def _word_vector(word: str, dimensions: int) -> Sequence[float]:
    """Numbers from -1 to 1, from as many digests as it takes."""
    digest = b"".join([sha256(f"{number}:{word}".encode()).digest() for number in range(-(-dimensions // 32))])
    return [byte / 127.5 - 1.0 for byte in digest[:dimensions]]


def _similarity(query: str, text: str) -> float:
    """From 0 to 1."""
    product = sum([one * other for one, other in zip(vector(query), vector(text), strict=True)])
    return round((1.0 + max(-1.0, min(1.0, product))) / 2, 6)


def _judged(text: str) -> dict[str, Any]:
    words = text.lower()
    found = {category: re.search(rf"\b{category}\b", words) is not None for category in _CATEGORIES}
    scores = {category: 0.9 if is_found else 0.0001 for category, is_found in found.items()}
    types = {category: ["text"] for category in _CATEGORIES}
    return {
        "flagged": any(found.values()),
        "categories": found,
        "category_scores": scores,
        "category_applied_input_types": types,
    }


def _texts(asked: Input) -> list[str]:
    if isinstance(asked, str):
        return [asked]
    if all(isinstance(part, int) for part in asked):
        return [" ".join(map(str, asked))]
    return [part if isinstance(part, str) else str(part) for part in asked]


def _tokens(texts: Sequence[str]) -> int:
    return sum([len(text.encode()) // 4 + 1 for text in texts])
