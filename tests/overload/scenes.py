"""The limits that are reached: with which configuration, and by how many answers that run."""

from collections.abc import Callable
from dataclasses import dataclass

RATE = 20.0  # events a second of each running answer
CALM = 1.5  # times the flood's seconds, before it
_SPARE = 0.3  # of the flood's seconds, between the two and after them
_START_SECONDS = 1.5  # for all answers to begin, and for the limit to be reached
_PADDING = 2_000  # bytes of an event, where memory is the limit


@dataclass(frozen=True)
class Scene:
    """`toml` is made for the seconds of the flood, and begins within `[server]`. Running answers have the `paths`."""

    name: str
    code: str  # of the refusals
    running: int
    toml: Callable[[float], str]
    paths: tuple[str, ...] = ("/chat", "/v1/chat/completions")
    padding: int = 0
    files: int = 4096  # that may be open
    silent: int = 0  # connections that say nothing: with them, the door is shut

    def events(self, seconds: float) -> int:
        """Of one answer, which lasts from the calm to behind the flood."""
        return round(RATE * lasting(seconds))


def lasting(seconds: float) -> float:
    return seconds * (CALM + 1 + 2 * _SPARE) + _START_SECONDS


def _streams(_: float) -> str:
    return "max_running = 40\n"


def _memory(seconds: float) -> str:
    """Full a little after the calm. Twice as much, when the largest answers end, is more than all of them have."""
    return f"[store]\nmax_bytes = {round(20 * RATE * _PADDING * lasting(seconds) * 0.65)}\n"


def _usual(_: float) -> str:
    return ""


SCENES = {
    scene.name: scene
    for scene in (
        Scene("streams", "too_many_running", 40, _streams),
        Scene("memory", "busy", 20, _memory, paths=("/chat",), padding=_PADDING),
        Scene("descriptors", "out_of_descriptors", 40, _usual, files=256),
        Scene("door", "", 40, _usual, files=256, silent=400),
    )
}
