"""`patchset rebase`: a series for another release."""

from __future__ import annotations

import click

from patchset.cli.complete import complete_specs
from patchset.cli.conflict import print_diff, print_files, style
from patchset.cli.context import Context
from patchset.cli.options import common, offline_option, source_option
from patchset.rebasing import rebase as work
from patchset.rebasing.explain import ConflictReport
from patchset.rebasing.new_series import PatchOutcome
from patchset.rebasing.rebase import RebaseReport
from toolkit.errors import PatchConflict, UsageError


@click.command("rebase")
@click.argument("spec", metavar="COMPONENT[@BASE]", shell_complete=complete_specs)
@click.argument("newbase", required=False, metavar="[RELEASE]")
@click.option("--continue", "go_on", is_flag=True, help="Go on: the conflict is resolved in its work tree.")
@click.option("--skip", metavar="REASON", help="Leave the conflicting patch out; REASON goes into the changelog.")
@click.option("--abort", is_flag=True, help="Give up: the work tree is removed, nothing else was changed.")
@source_option("The source of both bases; auto takes commits where both can be had, else archives.")
@offline_option
@click.option("--diff", is_flag=True, help="Show how the patches' own lines differ from before.")
@common(
    """  patchset rebase vllm v0.33.0
  patchset rebase vllm@v0.26.0 v0.25.1 --source archive
  patchset rebase vllm --continue
  patchset rebase vllm --skip "v0.33.0 has it in another form"
  patchset rebase vllm --abort""",
    specs=False,
)
@click.pass_obj
def rebase_command(
    context: Context,
    spec: str,
    newbase: str | None,
    go_on: bool,
    skip: str | None,
    abort: bool,
    source: str,
    offline: bool,
    diff: bool,
    as_json: bool,
) -> int:
    """Make a series for another release from the series of the pinned base (or BASE).

    Every patch is merged three-way, in memory; its outcome is printed, and written to the new series'
    CHANGELOG.md. A conflict is laid out in a work tree beside extern/, exit code 4: resolve it there with plain
    git and --continue. Nothing appears in patches/ until every patch is replayed.
    """
    from toolkit.console import print_json

    if sum((newbase is not None, go_on, skip is not None, abort)) != 1:
        raise UsageError(
            "name one of RELEASE, --continue, --skip REASON and --abort", remedy="see patchset rebase --help"
        )
    if skip is not None and not skip.strip():
        raise UsageError("--skip needs a reason", remedy='such as --skip "fixed upstream in another way"')
    name, _, at = spec.partition("@")
    component = context.project().component(name)
    # Without a RELEASE the bases are those of the rebase that is under way.
    (workspace,) = context.workspaces(
        (spec if newbase or at else f"{name}@{component.bases[0].name}",), source, offline
    )
    if abort:
        session = work.abort(workspace)
        if as_json:
            print_json({"component": name, "base": session.base, "outcome": "aborted"})
        else:
            click.echo(f"the rebase of {name} to {session.base} is given up; resolutions stay remembered")
        return 0
    if go_on:
        report = work.proceed(workspace)
    elif skip is not None:
        report = work.skip(workspace, skip.strip())
    else:
        report = work.start(workspace, newbase or "")
    if as_json:
        print_json(report)
    else:
        _print(report, diff)
    return PatchConflict.exit_code if report.conflict is not None else 0


_COLOURS = {
    "unmodified": "green",
    "modified": "cyan",
    "moved": "cyan",
    "upstreamed": "magenta",
    "partly upstreamed": "yellow",
    "empty": "yellow",
    "skipped": "yellow",
    "outside": "yellow",
}


def _print(report: RebaseReport, diff: bool) -> None:
    title = f"{report.component} {report.from_base} -> {report.base}"
    click.echo(f"{style(title, bold=True)}  ({report.source}: {report.why})")
    for item in report.patches:
        click.echo(_line(item))
        if item.landed:
            click.echo(f"                    upstream has {', '.join(item.landed)}")
        if item.applies_to:
            click.echo(f"                    Applies-To is {item.applies_to} now")
        if diff and item.interdiff:
            print_diff(item.interdiff, "    ")
    if report.conflict is not None:
        _print_conflict(report, report.conflict)
        return
    click.echo(f"  {report.folder}: tree {report.patched_tree}")
    changed = [item.name for item in report.patches if item.interdiff]
    if changed and not diff:
        where = f"compare them with {report.from_base}'s; --diff prints the differences"
        click.echo(style(f"  own lines differ in {', '.join(changed)}: {where}", dim=True))


def _line(item: PatchOutcome) -> str:
    notes = []
    if item.release:
        notes.append(f"first in {item.release}")
    if item.detail and not item.landed:
        notes.append(item.detail)
    if item.intermediate_releases:
        notes.append(f"intermediate releases: {', '.join(item.intermediate_releases)}")
    if item.resolved:
        notes.append("with a resolution of yours")
    text = f"  {style(f'{item.outcome:<17}', fg=_COLOURS.get(item.outcome))} {item.name}"
    return text + (style(f"  {'; '.join(notes)}", dim=True) if notes else "")


def _print_conflict(report: RebaseReport, conflict: ConflictReport) -> None:
    click.echo(f"  {style('conflict'.ljust(17), fg='red', bold=True)} {conflict.patch}")
    print_files(conflict, "    ", laid_out=True)
    if conflict.release:
        click.echo(f"    last applies to {conflict.after}, first conflicts with {conflict.release} (local releases)")
    if conflict.commit:
        click.echo(f"    upstream's commit: {conflict.commit[:12]} {conflict.subject}")
    if conflict.likely_upstreamed:
        landed, added = conflict.landed
        click.echo(f"    upstream's files have {landed} of the {added} lines that it adds: it may have landed, changed")
    if report.remaining:
        click.echo(style(f"  not evaluated yet: {', '.join(report.remaining)}", dim=True))
    click.echo(f"\nResolve it in {style(report.work_tree or '', bold=True)} (edit, git add), then")
    click.echo(f"  patchset rebase {report.component} --continue")
    click.echo(f'or  patchset rebase {report.component} --skip "REASON"   or  --abort')
