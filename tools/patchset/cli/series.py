"""`patchset lint` and `patchset record`."""

from __future__ import annotations

import click

from patchset.cli.context import Context
from patchset.cli.options import common, offline_option, print_reports, source_option
from toolkit.console import console, escape, print_json
from toolkit.errors import SeriesError
from toolkit.text import count_of


@click.command("lint")
@common("  patchset lint\n  patchset lint --json", specs=False)
@click.pass_obj
def lint_command(context: Context, as_json: bool) -> int:
    """Check every series, patch and TOML file, and list all problems with file, line and key.

    Exit code 3 if there is a problem.
    """
    from patchset.authoring.lint import lint

    count, findings = lint(context.find_root())
    if as_json:
        print_json({"patches": count, "findings": findings})
        return SeriesError.exit_code if findings else 0
    out = console()
    for finding in findings:
        out.print(escape(finding.render()))
    verdict = f"[red]{count_of(len(findings), 'problem')}[/]" if findings else "[green]good[/]"
    out.print(f"{count_of(count, 'patch')} checked: {verdict}")
    return SeriesError.exit_code if findings else 0


@click.command("record")
@source_option("The source to record the trees of; auto takes every stored source, or else the first available one.")
@offline_option
@common(
    """  patchset record vllm
  patchset record modelopt@0.46.0 --source submodule"""
)
@click.pass_obj
def record_command(context: Context, specs: tuple[str, ...], source: str, offline: bool, as_json: bool) -> int:
    """Compute a series and write its trees into base.toml, after a patch was added, changed or dropped.

    From then on every apply checks its result against them.
    """
    from patchset.workflow.record import RecordedTrees, record

    def show(item: RecordedTrees) -> None:
        what = "recorded" if item.changed else "recorded already"
        click.echo(f"{item.component} {item.base} ({item.source}): {what}")
        click.echo(f"  tree         {item.tree}\n  patched tree {item.patched_tree}")

    trees = [item for workspace in context.workspaces(specs, source, offline) for item in record(workspace)]
    return print_reports(trees, show, as_json)
