"""Plots as SVG, drawn here: a report is one file, and takes no library to look at."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, LEFT, ROW, PAD = 760, 250, 24, 28
Mark = tuple[str, float, str]  # the SVG of a row, where it ends, and the text behind it


@dataclass(frozen=True)
class Bar:
    """A row of a plot: a value, with its interval where it has one, and the text beside it instead of the value."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    note: str = ""


def _round_step(top: float) -> float:
    """Return 1, 2 or 5 times a power of ten, of which about four make `top`."""
    power = 10.0 ** math.floor(math.log10(top / 4))
    return min((step * power for step in (1, 2, 5, 10)), key=lambda step: abs(top / step - 4))


def _plot(
    title: str, rows: Sequence[Bar], ticks: Iterable[tuple[float, str]], draw: Callable[[Bar, float], Mark]
) -> str:
    """Return a plot with a line of the grid, and a text, at each tick; `draw` gets a row and its y."""
    height = PAD * 2 + ROW * len(rows)
    body = [f'<svg viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" role="img" aria-label="{escape(title)}">']
    for x, text in ticks:
        body.append(f'<line class="grid" x1="{x:.1f}" y1="{PAD - 6}" x2="{x:.1f}" y2="{height - PAD}"/>')
        body.append(f'<text class="tick" x="{x:.1f}" y="{height - PAD + 16}" text-anchor="middle">{text}</text>')
    for number, row in enumerate(rows):
        y = PAD + ROW * number + ROW / 2
        mark, end, text = draw(row, y)
        body.append(f'<text x="{LEFT - 10}" y="{y + 5:.0f}" text-anchor="end">{escape(row.label)}</text>')
        body.append(mark)
        body.append(f'<text x="{end:.1f}" y="{y + 5:.0f}">{escape(row.note or text)}</text>')
    return "\n".join([*body, "</svg>"])


def logarithmic(title: str, rows: Sequence[Bar], floor: float = 1e-12) -> str:
    """Return bars on a logarithmic axis of whole decades; what is not above `floor` is drawn at its left end."""
    values = [max(row.value, floor) for row in rows if math.isfinite(row.value)]
    # A decade below the smallest, which would have no length otherwise.
    first = math.floor(math.log10(min(values, default=floor))) - 1
    last = max(math.ceil(math.log10(max(values, default=1.0))), first + 1)
    scale = (WIDTH - LEFT - 110) / (last - first)

    def draw(row: Bar, y: float) -> Mark:
        decades = math.log10(max(row.value, floor)) - first if math.isfinite(row.value) else last - first
        length = max(decades * scale, 2)
        mark = f'<rect class="bar" x="{LEFT}" y="{y - 7}" width="{length:.1f}" height="14"/>'
        return mark, LEFT + length + 6, f"{row.value:.2g}"

    decades = range(first, last + 1, max(1, (last - first) // 6))
    return _plot(title, rows, [(LEFT + (decade - first) * scale, f"1e{decade}") for decade in decades], draw)


def linear(title: str, rows: Sequence[Bar], top: float | None = None, unit: str = "") -> str:
    """Return points with intervals on an axis from 0 to `top`, or to the largest value."""
    largest = max((row.high if row.high is not None else row.value for row in rows), default=1.0)
    top = top or largest * 1.05 or 1.0
    step = _round_step(top)
    count = math.ceil(top / step - 1e-9)
    scale = (WIDTH - LEFT - 110) / (step * count)

    def draw(row: Bar, y: float) -> Mark:
        mark, end = f'<circle class="point" cx="{LEFT + row.value * scale:.1f}" cy="{y}" r="5"/>', row.value
        if row.low is not None and row.high is not None:
            ends = f'x1="{LEFT + row.low * scale:.1f}" x2="{LEFT + row.high * scale:.1f}"'
            mark, end = f'<line class="interval" {ends} y1="{y}" y2="{y}"/>\n{mark}', row.high
        return mark, LEFT + end * scale + 10, f"{row.value:.3g}{unit}"

    ticks = [(LEFT + step * tick * scale, f"{step * tick:.6g}{unit}") for tick in range(count + 1)]
    return _plot(title, rows, ticks, draw)
