"""The CPU time per event as an SVG bar chart, written by hand: a plotting library would be its heaviest dependency.

No background of its own, and colours for either scheme, so that it can be read in a light and in a dark page.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

from tests.bench.figures import Load, Spread, Summary
from tests.bench.report import spread_text

_METRIC = "cpu_us_per_event"
_WIDTH, _LABELS, _FIGURES = 720, 130, 150  # px: the whole, left of the bars, right of them
_BAR, _GAP, _TITLE = 22, 8, 34


class Row(NamedTuple):
    label: str
    spread: Spread | None  # None: a heading


def rows(summaries: Mapping[Load, Mapping[str, Summary]]) -> list[Row]:
    found = []
    for load, by_name in summaries.items():
        bars = [Row(name, summary[_METRIC]) for name, summary in by_name.items() if _METRIC in summary]
        found += [Row(load.title, None), *bars] if bars else []
    return found


def svg(chart: Sequence[Row]) -> str:
    """Bars for the medians; a line across a bar's end spans the rounds."""
    longest = max((row.spread.greatest for row in chart if row.spread), default=0.0) or 1.0
    scale = (_WIDTH - _LABELS - _FIGURES) / longest
    height = _TITLE + len(chart) * (_BAR + _GAP) + _GAP
    parts = [_row(row, _TITLE + number * (_BAR + _GAP), scale) for number, row in enumerate(chart)]
    return _DOCUMENT.format(width=_WIDTH, height=height, body="\n".join(parts))


def _row(row: Row, top: float, scale: float) -> str:
    middle = top + _BAR / 2
    if row.spread is None:
        return f'<text class="quiet" x="0" y="{middle:.1f}">{escape(row.label)}</text>'
    median, least, greatest = (
        _LABELS + value * scale for value in (row.spread.median, row.spread.least, row.spread.greatest)
    )
    figures = spread_text(row.spread)
    return "\n".join(
        [
            f'<text class="end" x="{_LABELS - 8}" y="{middle:.1f}">{escape(row.label)}</text>',
            f'<rect x="{_LABELS}" y="{top:.1f}" width="{median - _LABELS:.1f}" height="{_BAR}" rx="2"/>',
            f'<line x1="{least:.1f}" x2="{greatest:.1f}" y1="{middle:.1f}" y2="{middle:.1f}"/>',
            f'<text x="{greatest + 8:.1f}" y="{middle:.1f}">{figures}</text>',
        ]
    )


_DOCUMENT = """\
<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{width}" height="{height}"
  viewBox="0 0 {width} {height}">
<title>CPU time per relayed event, in microseconds</title>
<style>
  text {{ font: 13px system-ui, sans-serif; fill: #24292f; dominant-baseline: middle; }}
  .quiet {{ fill: #57606a; }}
  .end {{ text-anchor: end; }}
  rect {{ fill: #4c8bd6; }}
  line {{ stroke: #24292f; stroke-width: 1.5; }}
  @media (prefers-color-scheme: dark) {{
    text {{ fill: #e6edf3; }}
    .quiet {{ fill: #9198a1; }}
    line {{ stroke: #e6edf3; }}
  }}
</style>
<text x="0" y="16">CPU time per relayed event, µs: median (least–greatest)</text>
{body}
</svg>
"""
