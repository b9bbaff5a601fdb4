"""`patchset pin`."""

from __future__ import annotations

import click

from patchset.cli.complete import complete_specs
from patchset.cli.context import Context
from patchset.cli.options import common, print_report
from patchset.rebasing.pin import PinReport, pin
from toolkit.errors import UsageError


@click.command("pin")
@click.argument("component", shell_complete=complete_specs)
@click.argument("base")
@common("  patchset pin vllm v0.33.0\n  patchset pin modelopt 0.47.0 --json", specs=False)
@click.pass_obj
def pin_command(context: Context, component: str, base: str, as_json: bool) -> int:
    """Make BASE the default of COMPONENT: the submodule's commit, component.toml and the docs.

    They go into one commit of the project; what else is staged or changed there is left alone.
    """
    if not base:
        raise UsageError("no base is named", remedy="name one")
    (workspace,) = context.workspaces((f"{component}@{base}",))
    return print_report(pin(workspace), _print, as_json)


def _print(report: PinReport) -> None:
    if not report.files:
        click.echo(f"{report.component} is pinned to {report.base} already")
        return
    commit = f", commit {report.commit[:12]}" if report.commit else ""
    click.echo(f"{report.component} is pinned to {report.base}{commit}: {', '.join(report.files)}")
    if report.mentions:
        click.echo(f"  {report.before} is still named in {', '.join(report.mentions)}")
    click.echo(f"  patchset apply {report.component} brings extern/ there")
