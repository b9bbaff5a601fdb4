"""`patchset status`, `patchset list` and `patchset show`."""

from __future__ import annotations

import os
import sys

import click

from patchset.cli.complete import complete_patches, complete_specs
from patchset.cli.context import Context
from patchset.cli.options import common, print_reports
from patchset.engine.message import author_and_message
from patchset.model.patch import Patch, subject_of
from patchset.model.series import source_only, status_of
from patchset.model.trailers import trailers
from patchset.workflow.status import ComponentStatus, status
from toolkit.console import console, escape, print_json, table
from toolkit.finding import refuse
from toolkit.text import first_of


@click.command("status")
@common(
    """  patchset status
  patchset status vllm --json"""
)
@click.pass_obj
def status_command(context: Context, specs: tuple[str, ...], as_json: bool) -> int:
    """Show the base and patches in extern/, a comparison of its tree with the recorded one, and what apply would do.

    It changes nothing and uses no network. The exit code is always 0.
    """
    return print_reports([status(workspace) for workspace in context.workspaces(specs)], _print_status, as_json)


_COLOURS = {"applied": "green", "not applied": "dim", "outside": "yellow"}


def _print_status(item: ComponentStatus) -> None:
    out = console()
    out.print(f"[bold]{escape(f'{item.component} {item.base}'.strip())}[/]  {escape(item.path)}")
    if item.applied_base is not None and item.applied_base != item.base:
        out.print(f"  [yellow]holds {escape(item.applied_base)}[/]")
    if item.head:
        branch = (item.branch or "detached").removeprefix("refs/heads/")
        out.print(f"  source   {item.source or 'not known'}, base {(item.base_commit or '?')[:12]}")
        out.print(f"  head     {item.head[:12]} ({escape(branch)})")
    for patch in item.patches:
        colour = _COLOURS.get(patch.state, "yellow")
        where = f": {', '.join(patch.outside)}" if patch.outside else ""
        out.print(f"  [{colour}]{patch.state:<12}[/] {escape(patch.name + where)}")
    if item.tree:
        verdict = {True: "[green]as recorded[/]", False: "[red]not the recorded one[/]", None: ""}
        out.print(f"  tree     {item.tree} {verdict[item.tree_is_recorded]}".rstrip())
    if item.local:
        out.print(f"  yours    {escape(first_of(item.local))}")
    out.print(f"  apply    would {escape(item.would)}")
    if item.refused:
        out.print(f"           [red]{escape(str(item.refused['message']))}[/]")
        details = item.refused["details"]
        for line in details if isinstance(details, list) else []:
            out.print("           " + escape(str(line)).replace("\n", "\n           "))
        if item.refused["remedy"]:
            out.print(f"           remedy: {escape(str(item.refused['remedy']))}")


@click.command("list")
@click.option("--all", "everything", is_flag=True, help="Every base, not only the pinned ones.")
@common(
    """  patchset list
  patchset list vllm --all"""
)
@click.pass_obj
def list_command(context: Context, specs: tuple[str, ...], everything: bool, as_json: bool) -> int:
    """List components, their bases and the patches of each series, in order."""
    workspaces = context.workspaces(specs)
    if everything:
        workspaces = [workspace.at(base) for workspace in workspaces for base in workspace.component.bases]
    rows, values = [], []
    for workspace in workspaces:
        component, base, series = workspace.component, workspace.base, workspace.series
        pinned = base.name == component.pinned
        if as_json:
            title = {"component": component.name, "base": base.name, "pinned": pinned}
            patches = [_patch_json(patch) for patch in series.patches]
            values.append({**title, "patches": patches, "disabled": list(series.disabled)})
            continue
        for number, patch in enumerate(series.patches):
            first = f"{component.name} {base.name}{' (pinned)' if pinned else ''}" if number == 0 else ""
            rows.append((escape(first), escape(patch.name), _upstream(patch)[0], str(len(patch.touched))))
        if not series.patches:
            rows.append((escape(f"{component.name} {base.name}"), "[dim]no patches[/]", "", ""))
        rows += [("", f"[yellow]{escape(name)}[/]", "[yellow]commented out[/]", "") for name in series.disabled]
    if as_json:
        print_json(values)
    else:
        table("", ("series", "patch", "upstream", "files"), rows)
    return 0


def _upstream(patch: Patch) -> tuple[str, str]:
    """Return a patch's upstream status, and the reason for it."""
    upstream = status_of(patch)
    return (upstream.status, upstream.reason) if upstream else ("unknown", "")


def _patch_json(patch: Patch) -> dict[str, object]:
    upstream_status, reason = _upstream(patch)
    return {
        "name": patch.name,
        "subject": subject_of(author_and_message(patch)[1]),
        "sha256": patch.sha256,
        "upstream_status": upstream_status,
        "upstream_reason": reason,
        "source_only": source_only(patch),
        "files": len(patch.touched),
        "touches": list(patch.touched),
        "trailers": [{"key": item.key, "value": item.value} for item in trailers(patch.header)],
    }


@click.command("show")
@click.argument("patch", shell_complete=complete_patches)
@click.argument("spec", required=False, metavar="[COMPONENT[@BASE]]", shell_complete=complete_specs)
@common(
    """  patchset show int8-cutlass-capability
  patchset show local-coco-captions modelopt@0.46.0 --json""",
    specs=False,
)
@click.pass_obj
def show_command(context: Context, patch: str, spec: str | None, as_json: bool) -> int:
    """Show one patch: its reason, its upstream status, and the files that it touches."""
    workspace, name = context.workspace_with(patch, spec)
    series = workspace.series
    if as_json:
        refuse(series.findings, series.title)
        title = {"component": workspace.component.name, "base": workspace.base.name}
        print_json({**title, **_patch_json(series.patch(name))})
        return 0
    text = next(data for entry, data in series.patch_files if entry.patch_name == name).decode("utf-8", "replace")
    if sys.stdout.isatty() and "NO_COLOR" not in os.environ:
        from rich.syntax import Syntax

        console().print(Syntax(text, "diff", background_color="default"))
    else:
        click.echo(text, nl=False)
    return 0
