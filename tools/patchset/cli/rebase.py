"""`patchset rebase`: a series for another release."""

from __future__ import annotations

import click

from patchset.cli.main import Context, common, complete_components
from patchset.errors import PatchConflict, UsageError
from patchset.model.project import load, pinned
from patchset.sources.acquire import Mode
from patchset.workflow import rebase as work
from patchset.workflow.rebase import Report
from patchset.workflow.transplant import PatchFate


@click.command("rebase")
@click.argument("spec", metavar="COMPONENT[@BASE]", shell_complete=complete_components)
@click.argument("newbase", required=False, metavar="[RELEASE]")
@click.option("--continue", "go_on", is_flag=True, help="The conflict is resolved in its work tree: go on.")
@click.option("--skip", metavar="REASON", help="Leave the conflicting patch out; the reason goes into the changelog.")
@click.option("--abort", is_flag=True, help="Give up: the work tree goes, nothing else was changed.")
@click.option(
    "--source",
    type=click.Choice(["auto", "submodule", "archive"]),
    default="auto",
    show_default=True,
    help="Where both bases come from; auto takes commits where both can be had, else archives.",
)
@click.option("--offline", is_flag=True, help="Ask no network: take what is here or in the cache.")
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
    source: Mode,
    offline: bool,
    diff: bool,
    as_json: bool,
) -> int:
    """Make the series of a component for another release, from its pinned base's (or BASE's).

    Every patch is merged three-way, in memory; what became of each is told here and in the new series'
    CHANGELOG.md. With a conflict a work tree is laid out beside extern/, exit code 4: resolve it there with plain
    git and --continue. Nothing appears in patches/ until all patches are through.
    """
    from patchset.cli.console import Terminal, print_json

    project = load(context.find_root())
    name, _, wanted = spec.partition("@")
    component = project.component(name)
    if sum((newbase is not None, go_on, skip is not None, abort)) != 1:
        raise UsageError(
            "name one thing: a RELEASE, --continue, --skip REASON or --abort", remedy="see patchset rebase --help"
        )
    if skip is not None and not skip.strip():
        raise UsageError("--skip wants a reason", remedy='such as --skip "fixed upstream in another way"')
    if abort:
        session = work.abort(project, component)
        if as_json:
            print_json({"component": name, "base": session.base, "outcome": "aborted"})
        else:
            click.echo(f"the rebase of {name} to {session.base} is given up; resolutions stay remembered")
        return 0
    reporter = Terminal()
    if go_on:
        report = work.proceed(project, component, reporter, offline=offline)
    elif skip is not None:
        report = work.skip(project, component, skip.strip(), reporter, offline=offline)
    else:
        base = pinned(component, wanted)
        report = work.start(project, component, base, newbase or "", source, reporter, offline=offline)
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


def _print(report: Report, diff: bool) -> None:
    from patchset.cli.console import console, escape

    out = console()
    title = f"{report.component} {report.from_base} -> {report.base}"
    out.print(f"[bold]{escape(title)}[/]  ({report.source}: {escape(report.why)})")
    for item in report.patches:
        out.print(_line(item))
        if item.landed:
            out.print(f"                    upstream has {escape(', '.join(item.landed))}")
        if item.applies_to:
            out.print(f"                    Applies-To is {escape(item.applies_to)} now")
        if diff and item.interdiff:
            for line in item.interdiff.split("\n"):
                colour = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "dim")
                out.print(f"    [{colour}]{escape(line)}[/]")
    if report.conflict is None:
        out.print(f"  {escape(report.folder or '')}: tree {report.patched_tree}")
        changed = [item.name for item in report.patches if item.interdiff]
        if changed and not diff:
            out.print(f"  [dim]own lines differ in {escape(', '.join(changed))}: --diff, or --json, shows how[/]")
        return
    _print_conflict(report)


def _line(item: PatchFate) -> str:
    from patchset.cli.console import escape

    colour = _COLOURS.get(item.fate, "white")
    text = f"  [{colour}]{item.fate:<17}[/] {escape(item.name)}"
    notes = []
    if item.release:
        notes.append(f"first in {item.release}")
    if item.detail and not item.landed:
        notes.append(item.detail)
    if item.by_way_of:
        notes.append(f"by way of {', '.join(item.by_way_of)}")
    if item.resolved:
        notes.append("with a resolution of yours")
    return text + (f"  [dim]{escape('; '.join(notes))}[/]" if notes else "")


def _print_conflict(report: Report) -> None:
    from patchset.cli.console import console, escape

    out = console()
    found = report.conflict
    assert found is not None
    out.print(f"  [bold red]{'conflict':<17}[/] {escape(found.patch)}")
    for file in found.files:
        out.print(f"    [bold]{escape(file.path)}[/]: {escape(file.kind)}")
        if not file.hunks and file.message:
            out.print(f"      {escape(file.message)}")
        for hunk in file.hunks:
            named = f"hunk {hunk.hunk} ({hunk.header})" if hunk.hunk else "a hunk"
            out.print(f"      {escape(named)}, line {hunk.line} of the file with markers; upstream did there:")
            for text in hunk.upstream:
                for line in text.split("\n"):
                    colour = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "dim")
                    out.print(f"        [{colour}]{escape(line)}[/]")
    if found.release:
        out.print(f"    it fits {escape(found.after or '')}, and not {escape(found.release)}, of the releases at hand")
    if found.commit:
        out.print(f"    upstream's commit: {found.commit[:12]} {escape(found.subject)}")
    if found.likely_upstreamed:
        there, every = (sum(file.landed[at] for file in found.files) for at in (0, 1))
        out.print(f"    upstream's files have {there} of the {every} lines that it adds: it may have landed, changed")
    if report.remaining:
        out.print(f"  [dim]not looked at yet: {escape(', '.join(report.remaining))}[/]")
    name = report.component
    out.print(f"\nResolve it in [bold]{escape(report.work_tree or '')}[/] (edit, git add), then")
    out.print(f"  patchset rebase {escape(name)} --continue")
    out.print(f'or  patchset rebase {escape(name)} --skip "REASON"   or  --abort', highlight=False)
