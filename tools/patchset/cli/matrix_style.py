"""The look of a matrix's cells: colour and mark on a terminal, and their legend."""

from __future__ import annotations

MARKS = {
    "clean": ("green", "="),
    "merged": ("cyan", "~"),
    "upstreamed": ("magenta", "U"),
    "conflict": ("bold red", "X"),
    "unknown": ("dim", "."),
    "outside": ("yellow", "o"),
}
LEGEND = {
    "clean": "applies as it stands",
    "merged": "applies by a three-way merge",
    "upstreamed": "upstream has it",
    "conflict": "conflicts",
    "unknown": "not evaluated: an earlier patch conflicts",
    "outside": "its files are not in the archive",
}
