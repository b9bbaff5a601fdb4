"""`patchset rebase`: a series for another release."""

from __future__ import annotations

import click

from patchset.cli.complete import complete_specs
from patchset.cli.context import Context
from patchset.cli.options import common, offline_option, source_option
from patchset.rebasing import rebase as work
from patchset.rebasing.outcomes import PatchOutcome
from patchset.rebasing.rebase import RebaseReport
from toolkit.errors import PatchConflict, UsageError


@click.command("rebase")
@click.argument("spec", metavar="COMPONENT[@BASE]", shell_complete=complete_specs)
@click.argument("newbase", required=False, metavar="[RELEASE]")
@click.option("--continue", "go_on", is_flag=True, help="The conflict is resolved in its work tree: go on.")
@click.option("--skip", metavar="REASON", help="Leave the conflicting patch out; the reason goes into the changelog.")
@click.option("--abort", is_flag=True, help="Give up: the work tree goes, nothing else was changed.")
@source_option("Where both bases come from; auto takes commits where both can be had, else archives.")
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
    """Make the series of a component for another release, from its pinned base's (or BASE's).

    Every patch is merged three-way, in memory; what became of each is told here and in the new series'
    CHANGELOG.md. With a conflict a work tree is laid out beside extern/, exit code 4: resolve it there with plain
    git and --continue. Nothing appears in patches/ until all patches are through.
    """
    from toolkit.console import print_json

    if sum((newbase is not None, go_on, skip is not None, abort)) != 1:
        raise UsageError(
            "name one thing: a RELEASE, --continue, --skip REASON or --abort", remedy="see patchset rebase --help"
        )
    if skip is not None and not skip.strip():
        raise UsageError("--skip wants a reason", remedy='such as --skip "fixed upstream in another way"')
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
        print_json(report.as_json())
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
_DIFF = {"+": "green", "-": "red", "@": "cyan"}
# click's colours, as in apply: what draws tables takes longer to load than a series to rebase.
_style = click.style


def _print(report: RebaseReport, diff: bool) -> None:
    title = f"{report.component} {report.from_base} -> {report.base}"
    click.echo(f"{_style(title, bold=True)}  ({report.source}: {report.why})")
    for item in report.patches:
        click.echo(_line(item))
        if item.landed:
            click.echo(f"                    upstream has {', '.join(item.landed)}")
        if item.applies_to:
            click.echo(f"                    Applies-To is {item.applies_to} now")
        if diff and item.interdiff:
            _print_diff(item.interdiff, "    ")
    if report.conflict is None:
        click.echo(f"  {report.folder}: tree {report.patched_tree}")
        changed = [item.name for item in report.patches if item.interdiff]
        if changed and not diff:
            where = f"compare them with {report.from_base}'s, or ask for --diff at once"
            click.echo(_style(f"  own lines differ in {', '.join(changed)}: {where}", dim=True))
        return
    _print_conflict(report)


def _line(item: PatchOutcome) -> str:
    notes = []
    if item.release:
        notes.append(f"first in {item.release}")
    if item.detail and not item.landed:
        notes.append(item.detail)
    if item.intermediate_releases:
        notes.append(f"along {', '.join(item.intermediate_releases)}")
    if item.resolved:
        notes.append("with a resolution of yours")
    text = f"  {_style(f'{item.outcome:<17}', fg=_COLOURS.get(item.outcome))} {item.name}"
    return text + (_style(f"  {'; '.join(notes)}", dim=True) if notes else "")


def _print_diff(text: str, indent: str) -> None:
    for line in text.split("\n"):
        click.echo(indent + _style(line, fg=_DIFF.get(line[:1])))


def _print_conflict(report: RebaseReport) -> None:
    conflict = report.conflict
    assert conflict is not None
    click.echo(f"  {_style('conflict'.ljust(17), fg='red', bold=True)} {conflict.patch}")
    for file in conflict.files:
        click.echo(f"    {_style(file.path, bold=True)}: {file.kind}")
        if not file.hunks and file.message:
            click.echo(f"      {file.message}")
        for hunk in file.hunks:
            named = f"hunk {hunk.hunk} ({hunk.header})" if hunk.hunk else "a hunk"
            click.echo(f"      {named}, line {hunk.line} of the file with markers; upstream did there:")
            for text in hunk.upstream:
                _print_diff(text, "        ")
    if conflict.release:
        click.echo(f"    it fits {conflict.after}, and not {conflict.release}, of the releases at hand")
    if conflict.commit:
        click.echo(f"    upstream's commit: {conflict.commit[:12]} {conflict.subject}")
    if conflict.likely_upstreamed:
        there, every = (sum(file.landed[at] for file in conflict.files) for at in (0, 1))
        click.echo(f"    upstream's files have {there} of the {every} lines that it adds: it may have landed, changed")
    if report.remaining:
        click.echo(_style(f"  not looked at yet: {', '.join(report.remaining)}", dim=True))
    click.echo(f"\nResolve it in {_style(report.work_tree or '', bold=True)} (edit, git add), then")
    click.echo(f"  patchset rebase {report.component} --continue")
    click.echo(f'or  patchset rebase {report.component} --skip "REASON"   or  --abort')
