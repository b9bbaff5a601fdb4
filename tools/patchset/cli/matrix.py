"""`patchset matrix` and `patchset bisect`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from patchset.cli.complete import complete_patches, complete_specs
from patchset.cli.conflict import print_files, style
from patchset.cli.context import Context
from patchset.cli.options import common, print_report, source_option
from patchset.rebasing.bisect import BisectReport, SearchRange, bisect
from patchset.rebasing.matrix import LEGEND, Matrix, ReleaseChoice, matrix
from toolkit.errors import UsageError


def _release(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    """Return the value of an option that names a release."""
    from patchset.sources.releases import version_of

    if value is not None and version_of(value) is None:
        raise UsageError(f"{value!r} is not a release", remedy="name one such as v0.30.0")
    return value


_RELEASE: dict[str, Any] = {"metavar": "RELEASE", "callback": _release}
_SOURCE = source_option("The source of all trees; auto takes commits where the repository has all, else archives.")


@click.command("matrix")
@click.option("--known", is_flag=True, help="Only local releases; uses no network.")
@click.option("--all", "everything", is_flag=True, help="Every listed release, from the oldest base on.")
@click.option("--from", "first", **_RELEASE, help="The oldest release; every listed one since is taken.")
@click.option("--to", "last", **_RELEASE, help="The newest release.")
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Write a self-contained HTML page.")
@_SOURCE
@common(
    """  patchset matrix
  patchset matrix vllm --from v0.26.0 --html matrix.html
  patchset matrix vllm@v0.26.0 --known --json"""
)
@click.pass_obj
def matrix_command(
    context: Context,
    specs: tuple[str, ...],
    known: bool,
    everything: bool,
    first: str | None,
    last: str | None,
    html: Path | None,
    source: str,
    as_json: bool,
) -> int:
    """Show the state of every patch at every known release, each patch on top of those before it.

    Without options these are the local releases, the bases of the project, and the releases on the package index
    that are newer than the series' base; they are fetched once. Nothing is applied anywhere.
    """
    from toolkit.console import print_json

    if html is not None and not html.parent.is_dir():
        raise UsageError(f"there is no folder {html.parent}", remedy="create it, or name another file with --html")
    choice = ReleaseChoice(known, everything, first, last)
    matrices = [matrix(workspace, choice) for workspace in context.workspaces(specs, source)]
    if html is not None:
        from patchset.cli.matrix_html import page

        html.write_text(page(matrices), "utf-8")
        click.echo(f"wrote {html}", err=True)
    if as_json:
        print_json(matrices)
        return 0
    if html is None:
        for item in matrices:
            _print(item)
    return 0


_MARKS = {
    "clean": ("green", "="),
    "merged": ("cyan", "~"),
    "upstreamed": ("magenta", "U"),
    "conflict": ("bold red", "X"),
    "unknown": ("dim", "."),
    "outside": ("yellow", "o"),
}


def _print(item: Matrix) -> None:
    import shutil
    import sys

    from toolkit.console import console, escape, table

    out = console()
    width = max((len(row.patch) for row in item.rows), default=5)
    terminal = shutil.get_terminal_size((110, 24)).columns if sys.stdout.isatty() else 110
    size = max((len(column.release) for column in item.columns), default=1) + 3
    room = max(1, (terminal - width - 4) // size)
    good = [column for column in item.columns if not column.problem]
    if not item.columns:
        out.print(f"[bold]{escape(item.component)} {escape(item.base)}[/]: no release is in the repository yet")
        return
    out.print(f"[bold]{escape(item.component)} {escape(item.base)}[/] ({item.source})")
    for start in range(0, len(good), room):
        part = good[start : start + room]
        names = {column.release: escape(column.release) for column in part}
        heads = [f"[bold underline]{text}[/]" if name == item.base else text for name, text in names.items()]
        rows = []
        for at, row in enumerate(item.rows):
            cells = [_MARKS[column.cells[at].state] for column in part]
            rows.append((escape(row.patch), *(f"[{colour}]{sign}[/]" for colour, sign in cells)))
        table("", ("patch", *heads), rows)
    states = {cell.state for column in item.columns for cell in column.cells}
    out.print("  ".join("[{}]{}[/] {}".format(*_MARKS[key], text) for key, text in LEGEND.items() if key in states))
    for row in item.rows:
        for what, release in (("conflicts from", row.breaks), ("upstream has it from", row.upstreamed)):
            if release:
                out.print(f"{escape(row.patch)}: {what} {escape(release)} on")
    for column in item.columns:
        if column.problem:
            out.print(f"[yellow]{escape(column.release)} was not evaluated: {escape(column.problem)}[/]")
    if item.computed:
        per = item.seconds * 1000 / item.computed
        out.print(f"[dim]{item.computed} cells computed in {item.seconds:.2f} s ({per:.1f} ms each)[/]")


@click.command("bisect")
@click.argument("patch", shell_complete=complete_patches)
@click.argument("spec", required=False, metavar="[COMPONENT[@BASE]]", shell_complete=complete_specs)
@click.option("--until", **_RELEASE, help="The last release to test.  [default: the newest]")
@click.option("--older", is_flag=True, help="Test the releases before the base, not after it.")
@click.option("--known", is_flag=True, help="Only local releases; uses no network.")
@_SOURCE
@common(
    """  patchset bisect int8-cutlass-capability
  patchset bisect modelopt-int8-smoothquant vllm --older --until v0.10.1""",
    specs=False,
)
@click.pass_obj
def bisect_command(
    context: Context,
    patch: str,
    spec: str | None,
    until: str | None,
    older: bool,
    known: bool,
    source: str,
    as_json: bool,
) -> int:
    """Find the first upstream release that breaks a patch, or has it, by bisection in memory.

    The commit too where the component's repository has upstream's history. Only the releases that the bisection
    tests are fetched.
    """
    workspace, name = context.workspace_with(patch, spec, source)
    return print_report(bisect(workspace, name, SearchRange(until, older, known)), _print_bisect, as_json)


_STATES = {"conflict": ("red", "conflicts with"), "upstreamed": ("magenta", "is in")}


def _print_bisect(report: BisectReport) -> None:
    if report.state is None:
        click.echo(f"{report.patch} applies up to {report.last}")
    else:
        colour, verb = _STATES[report.state]
        click.echo(f"{report.patch} {style(f'{verb} {report.release}', fg=colour)}; it applies to {report.after}")
    if report.commit:
        click.echo(f"  commit {report.commit} {report.subject}")
    if report.conflict is not None:
        print_files(report.conflict, "  ", laid_out=False)
    click.echo(style(f"tested: {', '.join(report.tested)}", dim=True))
