"""Plots as SVG, drawn here: a report is one file, and takes no library to look at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, LEFT, ROW, PAD = 760, 250, 24, 28


@dataclass(frozen=True)
class Bar:
    """A row of a plot: a value, with its interval where it has one; `good` chooses the colour."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    good: bool = True
    note: str = ""


def _round_step(top: float) -> float:
    """Return 1, 2 or 5 times a power of ten, of which about four make `top`."""
    power = 10.0 ** math.floor(math.log10(top / 4))
    return min((step * power for step in (1, 2, 5, 10)), key=lambda step: abs(top / step - 4))


def _svg(height: int, label: str, body: Sequence[str]) -> str:
    head = f'<svg viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" role="img" aria-label="{escape(label)}">'
    return "\n".join([head, *body, "</svg>"])


def _label(row: Bar, y: float) -> str:
    return f'<text x="{LEFT - 10}" y="{y + 5:.0f}" text-anchor="end">{escape(row.label)}</text>'


def logarithmic(title: str, rows: Sequence[Bar], floor: float = 1e-12) -> str:
    """Return bars on a logarithmic axis of whole decades; what is not above `floor` is drawn at its left end."""
    values = [max(row.value, floor) for row in rows if math.isfinite(row.value)]
    # A decade below the smallest, which would have no length otherwise.
    first = math.floor(math.log10(min(values, default=floor))) - 1
    last = max(math.ceil(math.log10(max(values, default=1.0))), first + 1)
    scale = (WIDTH - LEFT - 110) / (last - first)
    height = PAD * 2 + ROW * len(rows)
    body = []
    step = max(1, (last - first) // 6)
    for decade in range(first, last + 1, step):
        x = LEFT + (decade - first) * scale
        body.append(f'<line class="grid" x1="{x:.1f}" y1="{PAD - 6}" x2="{x:.1f}" y2="{height - PAD}"/>')
        body.append(f'<text class="tick" x="{x:.1f}" y="{height - PAD + 16}" text-anchor="middle">1e{decade}</text>')
    for number, row in enumerate(rows):
        y = PAD + ROW * number + ROW / 2
        finite = math.isfinite(row.value)
        length = (math.log10(max(row.value, floor)) - first) * scale if finite else WIDTH - LEFT - 110
        kind = "bar" if row.good else "bar bad"
        body.append(_label(row, y))
        body.append(f'<rect class="{kind}" x="{LEFT}" y="{y - 7}" width="{max(length, 2):.1f}" height="14"/>')
        shown = row.note or (f"{row.value:.2g}" if finite else "infinite")
        body.append(f'<text x="{LEFT + max(length, 2) + 6:.1f}" y="{y + 5:.0f}">{escape(shown)}</text>')
    return _svg(height, title, body)


def linear(title: str, rows: Sequence[Bar], top: float | None = None, unit: str = "") -> str:
    """Return points with intervals on an axis from 0 to `top`, or to the largest value."""
    largest = max((row.high if row.high is not None else row.value for row in rows), default=1.0)
    top = top or largest * 1.05 or 1.0
    step = _round_step(top)
    top = math.ceil(top / step - 1e-9) * step
    scale = (WIDTH - LEFT - 110) / top
    height = PAD * 2 + ROW * len(rows)
    body = []
    for tick in range(round(top / step) + 1):
        value = step * tick
        x = LEFT + value * scale
        body.append(f'<line class="grid" x1="{x:.1f}" y1="{PAD - 6}" x2="{x:.1f}" y2="{height - PAD}"/>')
        shown = f"{value:.6g}{unit}"
        body.append(f'<text class="tick" x="{x:.1f}" y="{height - PAD + 16}" text-anchor="middle">{shown}</text>')
    for number, row in enumerate(rows):
        y = PAD + ROW * number + ROW / 2
        kind = "point" if row.good else "point bad"
        body.append(_label(row, y))
        if row.low is not None and row.high is not None:
            ends = f'x1="{LEFT + row.low * scale:.1f}" x2="{LEFT + row.high * scale:.1f}"'
            body.append(f'<line class="interval" {ends} y1="{y}" y2="{y}"/>')
        body.append(f'<circle class="{kind}" cx="{LEFT + row.value * scale:.1f}" cy="{y}" r="5"/>')
        end = LEFT + (row.high if row.high is not None else row.value) * scale
        body.append(f'<text x="{end + 10:.1f}" y="{y + 5:.0f}">{escape(row.note or f"{row.value:.3g}{unit}")}</text>')
    return _svg(height, title, body)
