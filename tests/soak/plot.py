"""The samples of a soak as an SVG, written by hand: a panel for the memory, and one for each count."""

from collections.abc import Callable, Sequence
from statistics import median
from xml.sax.saxutils import escape

from tests.soak.samples import SERIES, Sample, rss_slope, slope

_WIDTH, _LEFT, _RIGHT = 760, 70, 16  # px: the whole, left of the panels, right of them
_HEIGHT, _GAP, _TOP = 110, 44, 30  # px: of a panel, between two, above the first


def svg(samples: Sequence[Sample], *, warm_up: float, title: str) -> str:
    panels: list[tuple[str, Callable[[Sample], float]]] = [("resident memory, MiB", lambda one: one.rss_mib)]
    panels += [(series.name, series.value) for series in SERIES]
    height = _TOP + len(panels) * (_HEIGHT + _GAP)
    steady = [one for one in samples if one.at >= warm_up]
    parts = [
        _panel(name, samples, steady, value, top=_TOP + number * (_HEIGHT + _GAP) + 22, warm_up=warm_up)
        for number, (name, value) in enumerate(panels)
    ]
    return _DOCUMENT.format(width=_WIDTH, height=height + 8, title=escape(title), body="\n".join(parts))


def _panel(
    name: str,
    samples: Sequence[Sample],
    steady: Sequence[Sample],
    value: Callable[[Sample], float],
    *,
    top: float,
    warm_up: float,
) -> str:
    last, highest = samples[-1].at or 1.0, max(value(one) for one in samples) * 1.1 or 1.0
    scale_x, scale_y = (_WIDTH - _LEFT - _RIGHT) / last, _HEIGHT / highest

    def place(at: float, number: float) -> str:
        return f"{_LEFT + at * scale_x:.1f},{top + _HEIGHT - number * scale_y:.1f}"

    points = " ".join(place(one.at, value(one)) for one in samples)
    parts = [f'<rect x="{_LEFT}" y="{top}" width="{_WIDTH - _LEFT - _RIGHT}" height="{_HEIGHT}"/>']
    parts.append(f'<rect class="warm" x="{_LEFT}" y="{top}" width="{warm_up * scale_x:.1f}" height="{_HEIGHT}"/>')
    parts.append(f'<polyline points="{points}"/>')
    rise = ""
    if len(steady) > 1:
        pairs = [(one.at, value(one)) for one in steady]
        per_second = slope(pairs)
        middle = median(number - per_second * at for at, number in pairs)
        first, end = steady[0].at, steady[-1].at
        ends = f"{place(first, middle + per_second * first)} {place(end, middle + per_second * end)}"
        parts.append(f'<polyline class="line" points="{ends}"/>')
        rise = f", {per_second * 3600:+.1f} per hour"
    parts.append(f'<text x="{_LEFT}" y="{top - 10}">{escape(name)}{rise}</text>')
    parts.append(f'<text class="end" x="{_LEFT - 6}" y="{top + 6}">{highest:.0f}</text>')
    parts.append(f'<text class="end" x="{_LEFT - 6}" y="{top + _HEIGHT - 4}">0</text>')
    parts.append(f'<text class="end" x="{_WIDTH - _RIGHT}" y="{top + _HEIGHT + 12}">{last / 60:.0f} min</text>')
    return "\n".join(parts)


def title_of(samples: Sequence[Sample]) -> str:
    return f"{len(samples)} samples, {rss_slope(samples):+.1f} MiB per hour after the warm-up"


_DOCUMENT = """\
<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{width}" height="{height}" viewBox="0 0 {width} {height}">
<title>{title}</title>
<style>
  text {{ font: 13px system-ui, sans-serif; fill: #24292f; dominant-baseline: middle; }}
  .end {{ text-anchor: end; fill: #57606a; }}
  rect {{ fill: none; stroke: #8c959f; stroke-width: 0.5; }}
  rect.warm {{ fill: #8c959f; fill-opacity: 0.15; stroke: none; }}
  polyline {{ fill: none; stroke: #4c8bd6; stroke-width: 1.5; }}
  polyline.line {{ stroke: #cf222e; stroke-dasharray: 5 3; }}
  @media (prefers-color-scheme: dark) {{
    text {{ fill: #e6edf3; }}
    .end {{ fill: #9198a1; }}
  }}
</style>
<text x="70" y="14">{title}</text>
{body}
</svg>
"""
