"""`patchset upstream`."""

from __future__ import annotations

import click

from patchset.cli.context import Context
from patchset.cli.options import common, print_report
from patchset.workflow.upstream import PatchStanding, TrendPoint, UpstreamReport, upstream
from toolkit.console import console, escape, table
from toolkit.text import count_of

_COLOURS = {
    "Pending": "yellow",
    "Submitted": "cyan",
    "Backport": "green",
    "Denied": "red",
    "Inactive-Upstream": "dim",
    "Inappropriate": "dim",
}


@click.command("upstream")
@click.option("--all", "everything", is_flag=True, help="Every base, not only the pinned ones.")
@click.option("--trend", is_flag=True, help="Show the statuses over time, by the history of the project's repository.")
@common(
    """  patchset upstream
  patchset upstream vllm --all --json
  patchset upstream --trend"""
)
@click.pass_obj
def upstream_command(context: Context, specs: tuple[str, ...], everything: bool, trend: bool, as_json: bool) -> int:
    """Show the upstream status of every patch, by its trailers: the patches that are forwarded, and that can go."""
    project = context.project()
    selection = project.select(specs)
    if everything:
        selection = tuple((component, base) for component, _ in selection for base in component.bases)

    def show(report: UpstreamReport) -> None:
        _print(report.patches)
        if trend:
            _print_trend(report.trend)

    return print_report(upstream(project, selection, trend=trend), show, as_json)


def _print(patches: tuple[PatchStanding, ...]) -> None:
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
    console().print(f"{count_of(len(patches), 'patch')}: {forwarded} forwarded to upstream, {can_go} can go")


def _print_trend(points: tuple[TrendPoint, ...]) -> None:
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
