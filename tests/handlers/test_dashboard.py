"""The dashboard for Grafana: each metric and label in its queries exists in what `GET /metrics` prints."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakeGateway
from tests.handlers.test_metrics import samples
from tests.rig.clients import EVENTS, ask, start_of
from tests.rig.inside import at_rest
from tests.rig.scripted_upstream import DONE, ScriptedUpstream, Stall, answer, delta, finish, stream, usage

DASHBOARD: dict[str, Any] = json.loads((Path(__file__).parents[2] / ".github/grafana.json").read_text(encoding="utf-8"))
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
PROMETHEUS = {"instance"}  # labels that Prometheus adds
OK = stream(delta("a"), delta("b"), delta("c"), finish(), usage(prompt_tokens=7, completion_tokens=2), DONE)


def queries() -> Iterator[tuple[str, str]]:
    """All expressions, each with the text of its legend."""
    for panel in PANELS:
        yield from [(target["expr"], target["legendFormat"]) for target in panel["targets"]]
    for variable in DASHBOARD["templating"]["list"]:
        if found := re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]):
            yield f"{found[1]}{{{found[2]}=''}}", ""


def named(expression: str, legend: str) -> tuple[set[str], set[str]]:
    """The names of metrics and of labels. A query with two metrics gives all of its labels to both."""
    metrics = set(re.findall(r"\b(?:gateway|gen_ai_client)_\w+", expression))
    grouped = [name for group in re.findall(r"by \(([\w, ]+)\)", expression) for name in group.split(", ")]
    matched = [name for group in re.findall(r"\{([^}]*)\}", expression) for name in re.findall(r"(\w+)[!=]", group)]
    return metrics, {*grouped, *matched, *re.findall(r"\{\{(\w+)\}\}", legend)}


def test_how_names_are_found() -> None:
    expression = 'histogram_quantile(0.5, sum by (le, a) (rate(gateway_x_bucket{b=~"$b", c!=""}[$__rate_interval])))'
    assert named(expression, "{{d}} p50") == ({"gateway_x_bucket"}, {"le", "a", "b", "c", "d"})


@pytest.mark.parametrize("expression_and_legend", list(queries()))
def test_every_query_names_a_metric(expression_and_legend: tuple[str, str]) -> None:
    metrics, labels = named(*expression_and_legend)
    assert metrics
    assert "instance" in labels


async def test_every_metric_and_label_in_it_exists(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """After an answer, a failure, a refusal and a cancel, all of them have series."""
    upstream.script(OK, answer(500, {}), stream(delta("Hel"), Stall()))
    client = await gateway()
    await ask(client)
    await ask(client)
    async with client.get("/chat?q=", headers=EVENTS) as refused:
        assert refused.status == 400
    async with client.get("/chat?q=hi&on_disconnect=cancel", headers=EVENTS) as response:
        await start_of(response)
        await response.content.readuntil(b"Hel\n")
        response.close()
    await at_rest(client)
    labels_of: dict[str, set[str]] = {}
    for name, pairs in await samples(client):
        labels_of.setdefault(name, set()).update([label for label, _ in pairs])
    for expression, legend in queries():
        metrics, labels = named(expression, legend)
        assert metrics <= set(labels_of), expression
        assert all(labels - PROMETHEUS <= labels_of[name] for name in metrics), expression


def test_panels_have_places_of_their_own() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in PANELS]
    assert len(set(places)) == len(places)
    assert all(panel["gridPos"]["w"] == 12 and panel["gridPos"]["h"] == 8 for panel in PANELS)


@pytest.mark.parametrize(
    "title",
    [
        *("Answers", "Errors", "Time to the first chunk", "Streams and viewers", "Attempts", "Breakers"),
        *("Tokens by model", "Event loop", "Refusals", "Passed on"),
    ],
)
def test_it_shows_what_an_operator_asks_for(title: str) -> None:
    (panel,) = [panel for panel in PANELS if panel["title"] == title]
    assert panel["description"]
    assert panel["targets"]
