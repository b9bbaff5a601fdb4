"""`patchset refresh`, `new`, `edit` and `drop`."""

from __future__ import annotations

import sys

import click

from patchset.authoring import edit as editing
from patchset.authoring.edit import EditReport
from patchset.authoring.messages import TrailerPrompt, no_prompt, replace_trailers
from patchset.authoring.refresh import RefreshOptions, RefreshReport, refresh
from patchset.cli.complete import complete_patches, complete_specs
from patchset.cli.context import Context
from patchset.cli.options import common, print_report, print_reports
from patchset.model.trailers import hint, parse_line
from toolkit.console import console, escape
from toolkit.errors import UsageError
from toolkit.text import first_of


@click.command("refresh")
@click.option("--drop", metavar="REASON", help="Drop the patches whose commits are gone, for this reason.")
@common(
    """  patchset refresh vllm
  patchset refresh vllm --drop "upstream fixed it otherwise\""""
)
@click.pass_obj
def refresh_command(context: Context, specs: tuple[str, ...], drop: str | None, as_json: bool) -> int:
    """Write the commits that stand in extern/ above the base back into the series.

    Amend, reorder, fix up and add commits there with plain git. Names are kept, and the patches of commits that did
    not change keep every byte. A new commit becomes a new patch; a prompt asks for its trailers. `fixup!` commits are
    folded. The trees in base.toml are updated.
    """
    options = RefreshOptions(reason=drop, prompt=_prompt(as_json))
    workspaces = context.workspaces(specs)
    if not specs:
        workspaces = [workspace for workspace in workspaces if (workspace.root / workspace.component.path).is_dir()]
    return print_reports([refresh(workspace, options) for workspace in workspaces], _print, as_json)


def _prompt(as_json: bool) -> TrailerPrompt:
    """Return the prompt for trailers on a terminal; a program, or a log, answers none."""
    if as_json or not sys.stdin.isatty():
        return no_prompt

    def prompt(patch: str, key: str) -> str | None:
        click.echo(f"{patch}: {hint(key)}", err=True)
        answer: str = click.prompt(key, err=True)
        return answer.strip()

    return prompt


_COLOURS = {"unchanged": "dim", "outside": "yellow", "dropped": "red", "new": "green"}


def _print(report: RefreshReport) -> None:
    out = console()
    title = f"{report.component} {report.base}".strip()
    out.print(f"[bold]{escape(title)}[/]: {'series written' if report.changed else 'nothing to do'}")
    for item in report.patches:
        colour = _COLOURS.get(item.what, "cyan")
        commit = f" [dim]{item.commit[:10]}[/]" if item.commit else ""
        out.print(f"  [{colour}]{item.what:<15}[/] {escape(item.name)}{commit}")
    if report.left:
        out.print(f"  [yellow]not committed, so not in the series:[/] {escape(first_of(report.left))}")


def _trailers(values: tuple[str, ...]) -> list[str]:
    for value in values:
        if not (parse_line(value) or ("", ""))[1]:
            raise UsageError(f"{value!r} is no trailer", remedy='write key and value: "Test: tests/..."')
    return list(values)


_TRAILER = click.option(
    "--trailer", "trailer_lines", multiple=True, metavar="'KEY: VALUE'", help="A trailer; may stand several times."
)


@click.command("new")
@click.argument("name")
@click.argument("spec", metavar="COMPONENT[@BASE]", shell_complete=complete_specs)
@click.option("-m", "--message", help="The reason for the patch; the first line is its subject.  [default: an editor]")
@_TRAILER
@common(
    """  patchset new int8-on-rocm vllm
  patchset new int8-on-rocm vllm -m "Choose an int8 kernel on ROCm" --trailer "Upstream-Status: Pending" \\
    --trailer "Applies-To: [v0.30.0, v0.31.0)" --trailer "Test: tests/test_it.py::test_it\"""",
    specs=False,
)
@click.pass_obj
def new_command(
    context: Context, name: str, spec: str, message: str | None, trailer_lines: tuple[str, ...], as_json: bool
) -> int:
    """Write patch NAME of the uncommitted changes in extern/: the staged ones, or else all."""
    (workspace,) = context.workspaces((spec,))
    lines = _trailers(trailer_lines)
    if message is None:
        message = _edited("\n\n# Why does this patch exist? The first line is its subject.\n")
    report = editing.new(workspace, name.removesuffix(".patch"), message, lines, _prompt(as_json))
    return print_report(report, _print, as_json)


def _edited(text: str) -> str:
    """Return a text as the user's editor leaves it, without its comment lines."""
    if not sys.stdin.isatty():
        raise UsageError("there is no message", remedy="give it with -m")
    answer = click.edit(text, extension=".txt", require_save=False) or ""
    kept = "\n".join(line for line in answer.split("\n") if not line.startswith("# ")).strip()
    if not kept:
        raise UsageError("the message is empty", remedy="give it with -m, or write one")
    return kept


@click.command("edit")
@click.argument("patch", shell_complete=complete_patches)
@click.argument("spec", required=False, metavar="[COMPONENT[@BASE]]", shell_complete=complete_specs)
@click.option("-m", "--message", help="The new message, trailers included.")
@click.option("--reword", is_flag=True, help="Edit the message in the editor.")
@_TRAILER
@common(
    """  patchset edit int8-cutlass-capability              fold in the changes in extern/
  patchset edit int8-cutlass-capability --reword     edit its message
  patchset edit int8-cutlass-capability --trailer "Upstream-Status: Submitted [https://example.com/pull/1]\"""",
    specs=False,
)
@click.pass_obj
def edit_command(
    context: Context,
    patch: str,
    spec: str | None,
    message: str | None,
    reword: bool,
    trailer_lines: tuple[str, ...],
    as_json: bool,
) -> int:
    """Change a patch: fold in the uncommitted changes in extern/, or change its message.

    The staged changes are folded in, or else all. The later patches are merged onto the result; if one does not fit,
    nothing is changed.
    """
    workspace, name = context.workspace_with(patch, spec)
    lines = _trailers(trailer_lines)
    if message is None and not reword and not lines:
        return print_report(editing.edit(workspace, name), _print, as_json)

    def change(old: str) -> str:
        text = message if message is not None else _edited(old) if reword else old
        return replace_trailers(text, lines)

    return print_report(editing.reword(workspace, name, change), _print_edit, as_json)


@click.command("drop")
@click.argument("patch", shell_complete=complete_patches)
@click.argument("spec", required=False, metavar="[COMPONENT[@BASE]]", shell_complete=complete_specs)
@click.option("--reason", required=True, help="The reason, for the series' CHANGELOG.md.")
@common('  patchset drop int8-cutlass-capability --reason "not needed on the GPUs that we have"', specs=False)
@click.pass_obj
def drop_command(context: Context, patch: str, spec: str | None, reason: str, as_json: bool) -> int:
    """Take a patch out of a series; the later patches are merged onto the rest."""
    if not reason.strip():
        raise UsageError("--reason is empty", remedy="say why the patch goes")
    workspace, name = context.workspace_with(patch, spec)
    return print_report(editing.drop(workspace, name, reason.strip()), _print_edit, as_json)


def _print_edit(report: EditReport) -> None:
    click.echo(f"{report.component} {report.base}: {report.patch}: {report.what}")
    if report.later:
        click.echo(f"  merged: {', '.join(report.later)}")
    if report.followed:
        click.echo("  extern/ follows")
