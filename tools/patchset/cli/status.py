"""`patchset status`, `patchset list` and `patchset show`."""

from __future__ import annotations

import click

from patchset.cli.context import Context
from patchset.cli.options import common
from patchset.model.series import Series, source_only, status_of
from patchset.model.trailers import trailers
from patchset.workflow.status import Status, status
from toolkit.finding import refuse


@click.command("status")
@common(
    """  patchset status
  patchset status vllm --json"""
)
@click.pass_obj
def status_command(context: Context, specs: tuple[str, ...], as_json: bool) -> int:
    """Tell which base and patches are in extern/, whether the tree is the recorded one, what apply would do.

    Changes nothing and asks no network. Exit code 0 whatever the answer.
    """
    statuses = [status(workspace) for workspace in context.workspaces(specs)]
    if as_json:
        from toolkit.console import print_json

        print_json([item.as_json() for item in statuses])
        return 0
    for item in statuses:
        _print_status(item)
    return 0


_COLOURS = {"applied": "green", "not applied": "dim", "outside": "yellow"}


def _print_status(item: Status) -> None:
    from toolkit.console import console, escape

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
        shown = ", ".join(item.local[:5]) + (f" and {len(item.local) - 5} more" if len(item.local) > 5 else "")
        out.print(f"  yours    {escape(shown)}")
    out.print(f"  apply    would {escape(item.would)}")
    if item.refused:
        out.print(f"           [red]{escape(str(item.refused['message']))}[/]")
        details = item.refused["details"]
        for line in details if isinstance(details, list) else []:
            out.print("           " + escape(str(line)).replace("\n", "\n           "))
        if item.refused["remedy"]:
            out.print(f"           remedy: {escape(str(item.refused['remedy']))}")


@click.command("list")
@click.option("--all", "everything", is_flag=True, help="Every base, not just the pinned ones.")
@common(
    """  patchset list
  patchset list vllm --all"""
)
@click.pass_obj
def list_command(context: Context, specs: tuple[str, ...], everything: bool, as_json: bool) -> int:
    """List components, their bases and the patches of each series, in order."""
    from toolkit.console import escape, print_json, table

    chosen = context.workspaces(specs)
    if everything:
        chosen = [workspace.at(base) for workspace in chosen for base in workspace.component.bases]
    rows, values = [], []
    for workspace in chosen:
        component, base, series = workspace.component, workspace.base, workspace.series
        pinned = base.name == component.pinned
        patches = [_patch_json(series, name) for name in (patch.name for patch in series.patches)]
        disabled = list(series.disabled)
        values.append(
            {
                "component": component.name,
                "base": base.name,
                "pinned": pinned,
                "patches": patches,
                "disabled": disabled,
            }
        )
        for number, patch in enumerate(patches):
            title = f"{component.name} {base.name}{' (pinned)' if pinned else ''}" if number == 0 else ""
            rows.append((escape(title), *(escape(str(patch[key])) for key in ("name", "upstream_status", "files"))))
        if not patches:
            rows.append((escape(f"{component.name} {base.name}"), "[dim]no patches[/]", "", ""))
        rows += [("", f"[yellow]{escape(name)}[/]", "[yellow]commented out[/]", "") for name in disabled]
    if as_json:
        print_json(values)
    else:
        table("", ("series", "patch", "upstream", "files"), rows)
    return 0


def _patch_json(series: Series, name: str) -> dict[str, object]:
    patch = next(item for item in series.patches if item.name == name)
    found = status_of(patch)
    return {
        "name": patch.name,
        "subject": _subject(patch.header),
        "sha256": patch.sha256,
        "upstream_status": found.status if found else "unknown",
        "upstream_reason": found.reason if found else "",
        "source_only": source_only(patch),
        "files": len(patch.touched),
        "touches": list(patch.touched),
        "trailers": [{"key": item.key, "value": item.value} for item in trailers(patch.header)],
    }


def _subject(header: str) -> str:
    import re

    match = re.search(r"^Subject: (.*(?:\n[ \t].*)*)", header, re.MULTILINE)
    return re.sub(r"^(?:\[[^\]]*\]\s*)+", "", " ".join(match[1].split())) if match else ""


@click.command("show")
@click.argument("patch")
@click.argument("spec", required=False, metavar="[COMPONENT[@BASE]]")
@common(
    """  patchset show int8-cutlass-capability
  patchset show local-coco-captions modelopt@0.46.0 --json""",
    specs=False,
)
@click.pass_obj
def show_command(context: Context, patch: str, spec: str | None, as_json: bool) -> int:
    """Show one patch: why it exists, where it stands upstream, what it touches."""
    workspace, name = context.workspace_with(patch, spec)
    series = workspace.series
    text = dict(zip((entry.patch_name for entry in series.entries), series.files, strict=True))[name]
    if as_json:
        from toolkit.console import print_json

        refuse(series.findings, series.title)
        title = {"component": workspace.component.name, "base": workspace.base.name}
        print_json({**title, **_patch_json(series, name)})
    elif _colour():
        from rich.syntax import Syntax

        from toolkit.console import console

        console().print(Syntax(text.decode("utf-8", "replace"), "diff", background_color="default"))
    else:
        click.echo(text.decode("utf-8", "replace"), nl=False)
    return 0


def _colour() -> bool:
    import os
    import sys

    return sys.stdout.isatty() and "NO_COLOR" not in os.environ
