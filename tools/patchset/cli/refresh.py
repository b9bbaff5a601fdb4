"""`patchset refresh`, `new`, `edit` and `drop`."""

from __future__ import annotations

import sys

import click

from patchset.authoring import edit as editing
from patchset.authoring.edit import EditReport
from patchset.authoring.refresh import Ask, RefreshReport, Request, nobody, refresh
from patchset.cli.complete import complete_patches, complete_specs
from patchset.cli.context import Context
from patchset.cli.options import common
from patchset.model.trailers import hint, parse_line, trailers
from toolkit.errors import UsageError


@click.command("refresh")
@click.option("--drop", metavar="REASON", help="Patches whose commits are gone are dropped, for this reason.")
@common(
    """  patchset refresh vllm
  patchset refresh vllm --drop "upstream fixed it otherwise\""""
)
@click.pass_obj
def refresh_command(context: Context, specs: tuple[str, ...], drop: str | None, as_json: bool) -> int:
    """Write the commits that stand in extern/ above the base back into the series.

    Amend, reorder, fix up and add commits there with plain git. Names are kept, and patches that were not touched
    stay as they are, byte for byte; a new commit becomes a new patch, and is asked for its trailers; `fixup!`
    commits are folded. The trees in base.toml are written anew.
    """
    from toolkit.console import print_json

    request = Request({}, drop, _ask() if not as_json else nobody)
    chosen = context.workspaces(specs)
    if not specs:
        chosen = [workspace for workspace in chosen if (workspace.root / workspace.component.path).is_dir()]
    reports = [refresh(workspace, request) for workspace in chosen]
    if as_json:
        print_json([report.as_json() for report in reports])
        return 0
    for report in reports:
        _print(report)
    return 0


def _ask() -> Ask:
    """Return what asks for trailers: a prompt on a terminal."""
    if not sys.stdin.isatty():
        return nobody

    def ask(patch: str, key: str) -> str | None:
        click.echo(f"{patch}: {hint(key)}", err=True)
        answer: str = click.prompt(key, err=True)
        return answer.strip()

    return ask


_COLOURS = {"unchanged": "dim", "outside": "yellow", "dropped": "red", "new": "green"}


def _print(report: RefreshReport) -> None:
    from toolkit.console import console, escape

    out = console()
    title = f"{report.component} {report.base}".strip()
    out.print(f"[bold]{escape(title)}[/]: {'series written' if report.changed else 'nothing to do'}")
    for item in report.patches:
        colour = _COLOURS.get(item.what, "cyan")
        commit = f" [dim]{item.commit[:10]}[/]" if item.commit else ""
        out.print(f"  [{colour}]{item.what:<15}[/] {escape(item.name)}{commit}")
    if report.left:
        shown = ", ".join(report.left[:5]) + (f" and {len(report.left) - 5} more" if len(report.left) > 5 else "")
        out.print(f"  [yellow]not committed, so not in the series:[/] {escape(shown)}")


def _trailers(values: tuple[str, ...]) -> list[str]:
    for value in values:
        if not (parse_line(value) or ("", ""))[1]:
            raise UsageError(f"{value!r} is no trailer", remedy='write it as it shall stand: "Test: tests/..."')
    return list(values)


_TRAILER = click.option(
    "--trailer", "trailer_lines", multiple=True, metavar="'KEY: VALUE'", help="A trailer; may stand several times."
)


@click.command("new")
@click.argument("name")
@click.argument("spec", metavar="COMPONENT[@BASE]", shell_complete=complete_specs)
@click.option("-m", "--message", help="Why the patch exists; the first line is its subject.  [default: an editor]")
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
    """Make patch NAME of what was changed in extern/ and is not committed: what is staged, or else all of it."""
    from toolkit.console import print_json

    (workspace,) = context.workspaces((spec,))
    lines = _trailers(trailer_lines)
    if message is None:
        message = _edited("\n\n# Why does this patch exist? The first line is its subject.\n")
    ask = nobody if as_json else _ask()
    report = editing.new(workspace, name.removesuffix(".patch"), message or "", lines, ask)
    if as_json:
        print_json(report.as_json())
    else:
        _print(report)
    return 0


def _edited(text: str) -> str:
    """Return what the user's editor makes of a text, without its comment lines."""
    if not sys.stdin.isatty():
        raise UsageError("there is no message", remedy="give it with -m")
    made = click.edit(text, extension=".txt", require_save=False) or ""
    kept = "\n".join(line for line in made.split("\n") if not line.startswith("# ")).strip()
    if not kept:
        raise UsageError("the message is empty: nothing was done", remedy="give it with -m, or write one")
    return kept


@click.command("edit")
@click.argument("patch", shell_complete=complete_patches)
@click.argument("spec", required=False, metavar="[COMPONENT[@BASE]]", shell_complete=complete_specs)
@click.option("-m", "--message", help="The new message, trailers included.")
@click.option("--reword", is_flag=True, help="Edit the message in the editor.")
@_TRAILER
@common(
    """  patchset edit int8-cutlass-capability              fold in what was changed in extern/
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
    """Change a patch: fold in what was changed in extern/ and is not committed, or change its message.

    What is staged is folded in, or else everything. The later patches are merged onto it; if one does not fit,
    nothing is changed.
    """
    from toolkit.console import print_json

    workspace, name = context.workspace_with(patch, spec)
    lines = _trailers(trailer_lines)
    if message is None and not reword and not lines:
        report = editing.edit(workspace, name)
        if as_json:
            print_json(report.as_json())
        else:
            _print(report)
        return 0

    def how(old: str) -> str | None:
        text = message if message is not None else _edited(old) if reword else old
        return replaced(text, lines)

    _print_edit(editing.reword(workspace, name, how), as_json)
    return 0


def replaced(message: str, lines: list[str]) -> str:
    """Return a message with trailers put in place of those of the same key, or added."""
    from patchset.authoring.refresh import with_trailers

    for line in lines:
        key = line.partition(":")[0]
        rows = message.rstrip("\n").split("\n")
        at = next((item.line - 1 for item in trailers(message) if item.key == key and item.line > 1), None)
        if at is None:
            message = with_trailers(message, [line])
        else:
            rows[at] = line
            message = "\n".join(rows) + "\n"
    return message


@click.command("drop")
@click.argument("patch", shell_complete=complete_patches)
@click.argument("spec", required=False, metavar="[COMPONENT[@BASE]]", shell_complete=complete_specs)
@click.option("--reason", required=True, help="Why it goes; the line in the series' CHANGELOG.md.")
@common('  patchset drop int8-cutlass-capability --reason "not needed on the GPUs that we have"', specs=False)
@click.pass_obj
def drop_command(context: Context, patch: str, spec: str | None, reason: str, as_json: bool) -> int:
    """Take a patch out of a series; the later ones are merged onto what is left."""
    if not reason.strip():
        raise UsageError("--reason is empty", remedy="say why the patch goes")
    workspace, name = context.workspace_with(patch, spec)
    _print_edit(editing.drop(workspace, name, reason.strip()), as_json)
    return 0


def _print_edit(report: EditReport, as_json: bool) -> None:
    from toolkit.console import print_json

    if as_json:
        print_json(report.as_json())
        return
    click.echo(f"{report.component} {report.base}: {report.patch}: {report.what}")
    if report.later:
        click.echo(f"  written anew: {', '.join(report.later)}")
    if report.followed:
        click.echo("  extern/ follows")
