"""Shell completion of components, bases and patches, from the project of the current folder."""

from __future__ import annotations

import click

from patchset.cli.context import Context
from patchset.model.series import read_entries
from patchset.project.project import Project, default_base, read
from toolkit.errors import PatchsetError


def complete_specs(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Complete COMPONENT and COMPONENT@BASE."""
    project = _project(ctx)
    if project is None:
        return []
    names = [item.name for item in project.components]
    names += [f"{item.name}@{base.name}" for item in project.components for base in item.bases if base.name]
    return [name for name in names if name.startswith(incomplete)]


def complete_patches(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Complete the name of a patch of a pinned series."""
    project = _project(ctx)
    names: list[str] = []
    for component in project.components if project else ():
        try:
            names += [entry.patch_name for entry in read_entries(default_base(component).folder / "series")[0]]
        except (PatchsetError, OSError):
            continue
    return [name for name in names if name.startswith(incomplete)]


def _project(ctx: click.Context) -> Project | None:
    """Return the project of the current folder, valid or not, or None if there is none."""
    root = ctx.find_root()
    context = root.obj if isinstance(root.obj, Context) else Context(root.params.get("root"))
    try:
        return read(context.find_root())[0]
    except PatchsetError:
        return None
