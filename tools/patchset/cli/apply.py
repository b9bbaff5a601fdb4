"""`patchset apply` and `patchset unapply`."""

from __future__ import annotations

import click

from patchset.cli.context import Context
from patchset.cli.options import common, offline_option, print_reports, source_option
from patchset.workflow.apply import ApplyReport, apply_series, unapply_series
from toolkit.text import count_of


@click.command("apply")
@source_option(
    "The source of a base: its git host, or the registry's archive. auto takes the source that is stored here, else "
    "the submodule if its host answers, else the archive."
)
@offline_option
@common(
    """  patchset apply
  patchset apply vllm --source archive
  patchset apply modelopt@0.40.0"""
)
@click.pass_obj
def apply_command(context: Context, specs: tuple[str, ...], source: str, offline: bool, as_json: bool) -> int:
    """Bring extern/ to the patched trees, one commit a patch.

    A component without a named base is taken at its pinned one. A second run does nothing. A change that would
    cost work of yours is refused, and then nothing is changed.
    """
    reports = [apply_series(workspace) for workspace in context.workspaces(specs, source, offline)]
    return print_reports(reports, _print, as_json)


@click.command("unapply")
@common(
    """  patchset unapply
  patchset unapply vllm"""
)
@click.pass_obj
def unapply_command(context: Context, specs: tuple[str, ...], as_json: bool) -> int:
    """Bring extern/ back to the bases' trees, as they were before apply."""
    reports = [unapply_series(workspace) for workspace in context.workspaces(specs)]
    return print_reports(reports, _print, as_json)


def _print(report: ApplyReport) -> None:
    title = f"{report.component} {report.base}".strip()
    count = count_of(sum(patch.commit is not None for patch in report.patches), "patch")
    if report.outcome == "unchanged":
        # The common case, and the quick one: plain text, without rich.
        what = f"{count} applied already" if report.patches else "no patch is applied"
        click.echo(f"{title}: {what}, nothing to do ({report.source}, {report.path})")
        return
    if report.outcome == "unapplied":
        click.echo(f"{title}: back at the base {report.commit[:12]} ({report.source}, {report.path})")
        return
    # click's colours: rich takes longer to import than a series to apply.
    style = click.style
    click.echo(f"{style(title, bold=True)}: {count} on {report.source} ({report.why}), {report.path}")
    for patch in report.patches:
        if patch.commit is None:
            where = ", ".join(patch.outside)
            click.echo(f"  {style('outside', fg='yellow')}  {patch.name}: not in the archive: {where}")
            continue
        remark = "" if patch.match == "exact" else style(" (located by context: it names no blobs)", dim=True)
        click.echo(f"  {style(patch.commit[:10], fg='green')} {patch.name}{remark}")
        if patch.outside:
            label = style("in part outside the archive:", fg="yellow")
            click.echo(f"             {label} {', '.join(patch.outside)}")
    if report.disabled:
        click.echo(f"  {style('commented out in series:', fg='yellow')} {', '.join(report.disabled)}")
    if report.tree:
        click.echo(f"  tree {report.tree}, branch {(report.branch or '').removeprefix('refs/heads/')}")
