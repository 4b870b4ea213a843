"""What the clients of one answer were told, for the judge."""

from dataclasses import dataclass, field


@dataclass
class Told:
    """What one client was told.

    `end`: `complete` or another reason of an `end`; `failed` where a surface has no reasons; `refused`: a status in
    place of an answer; `broken`: a body that broke off where that says that the answer failed; `lost`: nobody knows
    the answer any more; `left`: the client left for good.
    """

    end: str = ""
    code: str = ""  # of the failure or of the refusal
    status: int = 0  # of the refusal
    attempts: int | None = None
    text: str = ""
    faults: list[str] = field(default_factory=list)  # what no surface may send


@dataclass
class Asked:
    """One answer, and all that its clients did and were told. Times are those of the event loop."""

    kind: str
    name: str
    began: float
    ended: float = 0.0
    asks: int = 1  # requests that name the question; all of them have the same Idempotency-Key if there are several
    was_stopped: bool = False  # somebody asked for its end
    was_left: bool = False  # nobody watched it for a while, on purpose
    clients: list[Told] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)  # of what is stored from what the events said
    differs: bool = False  # two responses with the same key were not the same
    cut_by_gateway: list[tuple[float, float]] = field(default_factory=list)  # between which times; no end came
    waits: list[tuple[float, int, str]] = field(default_factory=list)  # time, status and code of "try again later"

    def client(self) -> Told:
        told = Told()
        self.clients.append(told)
        return told
