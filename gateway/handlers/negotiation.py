"""Chooses the representation of an answer by `Accept`: RFC 9110, section 12.5.1."""

from enum import StrEnum


class Representation(StrEnum):
    EVENTS = "text/event-stream"
    TEXT = "text/plain"
    JSON = "application/json"


_NAMES = {representation.value: representation for representation in Representation}


def negotiate(accept: str) -> Representation:
    """The representation that `Accept` names with the highest weight, or JSON if it names none.

    A wildcard counts as naming none: the client has no wish, and the whole answer as JSON suits every client.
    """
    if accept in _NAMES:  # as `EventSource` and most programs send it
        return _NAMES[accept]
    best, best_weight = Representation.JSON, 0.0
    for part in accept.lower().split(","):
        name, *parameters = [piece.strip() for piece in part.split(";")]
        weight = _weight(parameters)
        if name in _NAMES and weight > best_weight:
            best, best_weight = _NAMES[name], weight
    return best


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return float(parameter[2:])
            except ValueError:
                return 0.0
    return 1.0
