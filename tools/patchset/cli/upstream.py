"""`patchset upstream`."""

from __future__ import annotations

import click

from patchset.cli.context import Context
from patchset.cli.options import common
from patchset.workflow.upstream import Point, Standing, upstream

_COLOURS = {
    "Pending": "yellow",
    "Submitted": "cyan",
    "Backport": "green",
    "Denied": "red",
    "Inactive-Upstream": "dim",
    "Inappropriate": "dim",
}


@click.command("upstream")
@click.option("--all", "everything", is_flag=True, help="Every base, not just the pinned ones.")
@click.option("--trend", is_flag=True, help="How the statuses went, by the history of the project's repository.")
@common(
    """  patchset upstream
  patchset upstream vllm --all --json
  patchset upstream --trend"""
)
@click.pass_obj
def upstream_command(context: Context, specs: tuple[str, ...], everything: bool, trend: bool, as_json: bool) -> int:
    """Tell where every patch stands upstream, by its trailers: which are forwarded, and which can go."""
    from toolkit.console import print_json

    project = context.project()
    chosen = project.select(specs)
    if everything:
        chosen = tuple((component, base) for component, _ in chosen for base in component.bases)
    standings = upstream(project, chosen, trend=trend)
    if as_json:
        print_json(standings.as_json())
        return 0
    _print(standings.patches)
    if trend:
        _print_trend(standings.trend)
    return 0


def _print(patches: tuple[Standing, ...]) -> None:
    from toolkit.console import console, escape, table

    rows = []
    last = ""
    for item in patches:
        title = f"{item.component} {item.base}"
        goes = f"[green]can go: {escape(item.goes)}[/]" if item.can_go else escape(item.goes)
        colour = _COLOURS.get(item.status, "red")
        reason = f" {item.reason}" if item.reason else ""
        row = (escape(title if title != last else ""), escape(item.patch))
        rows.append((*row, f"[{colour}]{escape(item.status)}[/]{escape(reason)}", goes))
        last = title
    table("", ("series", "patch", "upstream", "goes"), rows)
    forwarded = sum(item.forwarded for item in patches)
    can_go = sum(item.can_go for item in patches)
    word = "patch" if len(patches) == 1 else "patches"
    console().print(f"{len(patches)} {word}: {forwarded} forwarded to upstream, {can_go} can go")


def _print_trend(points: tuple[Point, ...]) -> None:
    from toolkit.console import console, escape, table

    if not points:
        console().print("the project's repository has no history of these series")
        return
    names = sorted({name for point in points for name in point.statuses})
    rows = []
    for point in points:
        counts = [str(point.statuses.get(name, 0) or "") for name in names]
        total = sum(point.statuses.values())
        rows.append((escape(f"{point.component} {point.base}"), point.day, *counts, str(total), "█" * total))
    table("", ("series", "day", *map(escape, names), "all", ""), rows)
