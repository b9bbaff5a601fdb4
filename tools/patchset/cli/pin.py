"""`patchset pin`."""

from __future__ import annotations

import click

from patchset.cli.main import Context, common, complete_components
from patchset.model.project import load, pinned
from patchset.rebasing.pin import Pinned, pin
from toolkit.errors import UsageError


@click.command("pin")
@click.argument("component", shell_complete=complete_components)
@click.argument("base")
@common("  patchset pin vllm v0.33.0\n  patchset pin modelopt 0.47.0 --json", specs=False)
@click.pass_obj
def pin_command(context: Context, component: str, base: str, as_json: bool) -> int:
    """Make BASE the one that is meant when none is named: the submodule's commit, the default and the docs.

    They go into one commit of the project; what else is staged or changed there is left alone.
    """
    from toolkit.console import print_json

    project = load(context.find_root())
    found = project.component(component)
    if not base:
        raise UsageError("there is no base", remedy="name one")
    done = pin(project, found, pinned(found, base))
    if as_json:
        print_json(done.as_json())
    else:
        _print(done)
    return 0


def _print(done: Pinned) -> None:
    if not done.files:
        click.echo(f"{done.component} is pinned to {done.base} already")
        return
    commit = f", commit {done.commit[:12]}" if done.commit else ""
    click.echo(f"{done.component} is pinned to {done.base}{commit}: {', '.join(done.files)}")
    if done.mentions:
        click.echo(f"  {done.before} is named, and left, in {', '.join(done.mentions)}")
    click.echo(f"  patchset apply {done.component} brings extern/ there")
