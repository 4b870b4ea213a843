"""How `gateway doctor` judges what it saw: the ways that no nginx on this machine can be made to show."""

from dataclasses import replace
from hashlib import sha256

import pytest

from gateway.commands.findings import Rounds, findings, refused
from gateway.commands.observed import Blocks, Seen
from gateway.commands.wire import Ending
from tests.rig.changing import CHANGES

START = {"is_http_11": True, "last_event_id": True, "authorization": True, "heartbeat_seconds": 15.0}
TIMES = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
FIELDS = {"content-type": "text/event-stream", "cache-control": "no-store", "x-accel-buffering": "no"}
WELL = Seen(
    version="HTTP/1.1",
    status=200,
    fields=FIELDS,
    over=0.5,
    ending=Ending.WHOLE,
    start=START,
    end={"bytes": 1},
    sent=TIMES,
    arrived=TIMES,
    is_unchanged=True,
)
CUT = replace(WELL, ending=Ending.BROKEN, end={})
ROUNDS = Rounds(WELL, WELL, WELL, CUT, 5.0, has_key=True)


def steady(**changes: object) -> Rounds:
    return replace(ROUNDS, steady=replace(WELL, **changes))  # type: ignore[arg-type]  # names from the table


# What is seen -> the checks that fail.
SEEN: dict[str, tuple[Rounds, set[str]]] = {
    "all is well": (ROUNDS, set()),
    "no key": (replace(steady(start={**START, "authorization": False}), has_key=False), set()),
    "one event comes late": (steady(arrived=[0.0, 0.1, 0.2, 0.49, 0.5, 0.5]), set()),
    "pairs of events": (steady(arrived=[0.1, 0.1, 0.3, 0.3, 0.5, 0.5]), {"events one by one"}),
    "a late beginning": (
        steady(arrived=[time + 3 for time in TIMES]),
        {"time to first event"},
    ),
    "no events": (steady(sent=[], arrived=[]), {"events one by one"}),
    "HTTP/1.0 to the client": (steady(version="HTTP/1.0"), {"HTTP to the client"}),
    "a body without a mark of its end": (steady(ending=Ending.CLOSED), {"body"}),
    "a body that is cut": (steady(ending=Ending.BROKEN, end={}, is_unchanged=False), {"body"}),
    "a lost field, but not at nginx": (
        steady(fields={**FIELDS, "x-accel-buffering": "", "server": "Caddy"}),
        {"X-Accel-Buffering"},
    ),
    "a field that nginx uses up": (steady(fields={**FIELDS, "x-accel-buffering": "", "server": "nginx/1.22.1"}), set()),
    "another Cache-Control": (steady(fields={**FIELDS, "cache-control": "max-age=60"}), {"Cache-Control"}),
    "gzip, unasked": (steady(fields={**FIELDS, "content-encoding": "gzip"}), {"compression"}),
    "no second answer": (replace(ROUNDS, zipped=Seen(fault="Nothing listens.")), {"compression, if offered"}),
    "a refused silence": (replace(ROUNDS, paused=Seen(status=503)), {"silence"}),
    "a refused break": (replace(ROUNDS, cut=Seen(status=429)), {"broken answer"}),
}


@pytest.mark.parametrize("case", SEEN)
def test_what_is_a_fault(case: str) -> None:
    rounds, expected = SEEN[case]
    found = list(findings(rounds))
    assert {finding.check for finding in found if finding.remedy} == expected
    assert all(finding.seen for finding in found)


BODY = b'event: start\ndata: {"is_http_11":true,"last_event_id":true,"authorization":true,"heartbeat_seconds":15.0}\n\n'
BODY += b": heartbeat\n\n" + b"".join([b'data: {"n":%d,"at":0.%d,"text":"a"}\n\n' % (at, at) for at in range(3)])
SUM = b'event: end\ndata: {"bytes":%d,"sha256":"%b"}\n\n' % (len(BODY), sha256(BODY).hexdigest().encode())


def faults_of(body: bytes) -> bool:
    """Whether an answer with this body has any."""
    seen = Seen(version="HTTP/1.1", status=200, fields=FIELDS, ending=Ending.WHOLE)
    blocks = Blocks(seen)
    for time, block in enumerate(body.split(b"\n\n")):
        blocks.feed(b"\n\n" * bool(time) + block, time / 10)
    blocks.finish()
    return bool(refused(seen)) or any(finding.remedy for finding in findings(replace(ROUNDS, steady=seen)))


@pytest.mark.parametrize("how", CHANGES)
def test_a_byte_that_was_changed_is_found_wherever_it_is(how: str) -> None:
    whole = BODY + SUM
    assert not faults_of(whole)
    assert [at for at in range(len(whole)) if not faults_of(CHANGES[how](whole, at))] == []


@pytest.mark.parametrize("status", [302, 401, 403, 404, 421, 429, 500, 502, 503, 504])
def test_every_refusal_has_a_remedy(status: int) -> None:
    finding = refused(Seen(status=status, fields={"location": "https://chat.example.com/?secret"}))
    assert finding is not None
    assert finding.remedy
    assert "secret" not in str(finding)


@pytest.mark.parametrize(
    ("server", "words"), [("Caddy", ". If it is nginx, in its location: "), ("nginx", ". In its ")]
)
def test_the_directives_are_those_of_nginx(server: str, words: str) -> None:
    remedies = [
        finding.remedy for finding in findings(steady(arrived=[], sent=[], fields={**FIELDS, "server": server}))
    ]
    (remedy,) = filter(None, remedies)
    assert words in remedy
