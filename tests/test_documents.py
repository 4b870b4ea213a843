"""The pages in `.github/docs` are true: their routes, events, codes, limits and faults are those of code and tests."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway import errors
from gateway.app import create_app
from gateway.cli import build_parser
from gateway.config import Config, load
from gateway.entries import EndReason
from tests.conftest import MakeGateway
from tests.rig.clients import ask
from tests.rig.scripted_upstream import DONE, ScriptedUpstream, delta, finish, stream
from tests.test_readme import DOCUMENTS, README, ROOT, blocks, document

PAGES = [ROOT / "README.md", *sorted(DOCUMENTS.glob("*.md")), *sorted((ROOT / ".github").glob("*.md"))]
HTTP, OPERATING = document("http.md"), document("operating.md")


def rows(page: str, head: str) -> list[list[str]]:
    """The cells of the table whose head begins like this."""
    table = page.split(f"\n{head}")[1].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


# HTTP


def test_every_route_is_described() -> None:
    described = " ".join(row[0] for row in rows(HTTP, "| Call |"))
    routes = {
        (route.method, re.sub(r":[^}]*", "", route.resource.canonical))
        for route in create_app(Config()).router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    assert routes == set(re.findall(r"`(GET|POST|DELETE) (/[^`?]*)", described))


async def test_the_events_table_names_what_is_sent(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    named = {name for row in rows(HTTP, "| Event |") for name in re.findall(r"`(\w+)`", row[0])}
    upstream.script(stream(delta("a"), finish(), DONE))
    answer = await ask(await gateway())
    assert {event.type for event in answer.events} <= named


def test_the_reasons_of_an_end_are_those_of_the_code() -> None:
    assert {row[0].strip("`") for row in rows(HTTP, "| Reason |")} == set(EndReason)


def test_every_error_code_is_described_with_its_status() -> None:
    described = {code.strip("`"): int(status) for code, status, _ in rows(HTTP, "| Code |")}
    assert len(described) == len(rows(HTTP, "| Code |"))
    assert described == {**dict(own_codes()), **dict(codes_of_requests())}


def own_codes() -> Iterator[tuple[str, int]]:
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, errors.GatewayError):
            error = kind()
            yield error.code, error.status


def codes_of_requests() -> Iterator[tuple[str, int]]:
    """Those that are given where an error is raised: all of them are kinds of InvalidRequest and NotFound."""
    raised = re.compile(r"\b(InvalidRequest|NotFound)\((?:[^()]|\([^()]*\))*?code=\"(\w+)\"", re.DOTALL)
    for file in sorted((ROOT / "gateway").rglob("*.py")):
        for name, code in raised.findall(file.read_text()):
            yield code, getattr(errors, name).status


# Operating


def test_limits_are_the_defaults() -> None:
    config = load("", {})
    assert "8 KiB" in HTTP
    assert config.server.max_body_bytes == 1 << 20
    assert (config.server.max_running, config.server.max_bodies_bytes) == (5000, 128 << 20)
    assert config.stream.max_event_bytes == 1 << 20
    assert config.stream.max_bytes == 8 << 20
    assert (config.store.max_streams, config.store.max_bytes) == (20_000, 256 << 20)
    assert (config.retry.attempts, config.retry.max_wait_seconds) == (3, 20)
    assert (config.breaker.failures, config.breaker.open_seconds) == (5, 15)
    assert (config.stream.keep_seconds, config.stream.grace_seconds, config.stream.max_orphans) == (300, 30, 1000)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_that_are_named_exist(page: Path) -> None:
    config = load("", {})
    for table, name in re.findall(
        r"`(server|stream|store|timeouts|retry|breaker|metrics|traces)\.(\w+)`", page.read_text()
    ):
        assert hasattr(getattr(config, table), name), f"{table}.{name}"


def test_every_command_that_is_shown_is_taken() -> None:
    lines = [line for page in PAGES for block in blocks("bash", page.read_text()) for line in block.splitlines()]
    commands = [
        found[1] for line in lines if (found := re.search(r"(?:^|/bin/|[A-Z]\S* |\.whl )gateway ([a-z][^&#>]*)", line))
    ]
    assert len(commands) >= 8
    for command in commands:
        build_parser().parse_args(command.removesuffix(" 2").split())


# All pages


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!http)([^)]+)\)", page.read_text()):
        name, _, heading = target.partition("#")
        other = page.parent / name if name else page
        assert other.exists(), target
        assert not heading or heading in anchors(other.read_text()), target


def anchors(page: str) -> set[str]:
    """The names by which GitHub links to headings."""
    headings = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_every_page_is_linked_from_readme() -> None:
    assert {page.name for page in DOCUMENTS.glob("*.md")} <= set(re.findall(r"\.github/docs/([\w.]+)", README))


def test_every_fault_stands_in_the_table_and_in_the_name_of_a_test() -> None:
    described = [row[0] for row in rows(document("faults.md"), "| Number |")]
    assert described == [f"{number:02}" for number in range(1, 91)]
    assert set(faults_of_tests()) == set(described)


def faults_of_tests() -> Iterator[str]:
    for file in sorted((ROOT / "tests").rglob("*.py")):
        for run in re.findall(r"\bfault((?:_\d\d)+)|\btest_fault((?:_\d\d)+)", file.read_text()):
            yield from "".join(run).split("_")[1:]
