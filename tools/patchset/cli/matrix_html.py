"""The matrix as an HTML page: one file, no script, nothing to fetch; the same input gives the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from patchset.rebasing.matrix import LEGEND, Cell, Column, Matrix

_SIGNS = {"clean": "✓", "merged": "≈", "upstreamed": "↑", "conflict": "✗", "unknown": "·", "outside": "○"}
_STYLE = """
:root { color-scheme: light dark; --line: #8884; --base: #8882; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem; }
h1 { font-size: 1.3rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; }
th, td { padding: .3rem .55rem; border-bottom: 1px solid var(--line); text-align: center; white-space: nowrap; }
thead th { font-weight: 600; vertical-align: bottom; }
tbody th, thead th:first-child { text-align: left; font-weight: 500; position: sticky; left: 0; background: Canvas; }
th.base { text-decoration: underline; text-underline-offset: .2em; } td.base { background: var(--base); }
td span, li span { display: inline-block; width: 1.5rem; border-radius: .25rem; text-align: center; color: #fff; }
.clean { background: #1a7f37; } .merged { background: #0969da; } .upstreamed { background: #8250df; }
.conflict { background: #cf222e; } .outside { background: #9a6700; } .unknown { background: #6e7781; }
ul.legend { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .4rem 1.4rem; }
td.note { text-align: left; }
"""


def page(matrices: Sequence[Matrix]) -> str:
    """Return the page for one or several series."""
    title = "Patches and releases: " + ", ".join(f"{item.component} {item.base}" for item in matrices)
    legend = "".join(
        f'<li><span class="{key}">{_SIGNS[key]}</span> {escape(text)}</li>' for key, text in LEGEND.items()
    )
    body = "".join(_section(item) for item in matrices)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width">\n<title>{escape(title)}</title>\n'
        f"<style>{_STYLE}</style>\n<h1>{escape(title)}</h1>\n"
        f'<ul class="legend">{legend}</ul>\n{body}</html>\n'
    )


def _section(item: Matrix) -> str:
    if not item.columns:
        title = escape(f"{item.component} {item.base}")
        return f"<h2>{title}</h2>\n<p>No release is in the repository yet.</p>\n"
    good = [column for column in item.columns if not column.problem]
    heads = "".join(f'<th scope="col"{_base(column, item)}>{escape(column.release)}</th>' for column in good)
    rows = []
    for at, row in enumerate(item.rows):
        cells = "".join(_cell(column.cells[at], _base(column, item), column.release) for column in good)
        notes = [f"conflicts from {row.breaks} on"] if row.breaks else []
        notes += [f"upstream has it from {row.upstreamed} on"] if row.upstreamed else []
        note = escape("; ".join(notes))
        rows.append(f'<tr><th scope="row">{escape(row.patch)}</th>{cells}<td class="note">{note}</td></tr>\n')
    problems = "".join(
        f"<p>{escape(column.release)} was not evaluated: {escape(column.problem)}</p>\n"
        for column in item.columns
        if column.problem
    )
    return (
        f"<h2>{escape(f'{item.component} {item.base}')} ({escape(item.source)})</h2>\n"
        f'<div class="scroll"><table>\n<thead><tr><th scope="col">patch</th>{heads}<th></th></tr></thead>\n'
        f"<tbody>\n{''.join(rows)}</tbody>\n</table></div>\n{problems}"
    )


def _base(column: Column, item: Matrix) -> str:
    return ' class="base"' if column.release == item.base else ""


def _cell(cell: Cell, base: str, release: str) -> str:
    text = f"{release}: {LEGEND[cell.state]}" + (f": {', '.join(cell.paths)}" if cell.paths else "")
    text += f", intermediate releases: {', '.join(cell.intermediate_releases)}" if cell.intermediate_releases else ""
    label = escape(text, quote=True)
    sign = f'<span class="{cell.state}" title="{label}" role="img" aria-label="{label}">{_SIGNS[cell.state]}</span>'
    return f"<td{base}>{sign}</td>"
