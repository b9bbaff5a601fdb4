"""Shell completion of components, bases and patches, from the project that the shell stands in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from patchset.cli.context import Context
from toolkit.errors import PatchsetError

if TYPE_CHECKING:
    from patchset.project.project import Project


def complete_components(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Complete one COMPONENT or COMPONENT@BASE."""
    return complete_specs(ctx, parameter, incomplete)


def complete_patches(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Complete the name of a patch of a pinned series."""
    return [name for name in _patches(ctx) if name.startswith(incomplete)]


def complete_specs(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Complete COMPONENT and COMPONENT@BASE from the project that the shell stands in."""
    project = _project(ctx)
    if project is None:
        return []
    names = [item.name for item in project.components]
    names += [f"{item.name}@{base.name}" for item in project.components for base in item.bases if base.name]
    return [name for name in names if name.startswith(incomplete)]


def _project(ctx: click.Context) -> Project | None:
    """Return the project that the shell stands in, whatever is wrong with it."""
    from patchset.project.project import read

    root = ctx.find_root()
    context = root.obj if isinstance(root.obj, Context) else Context(root.params.get("root"))
    try:
        return read(context.find_root())[0]
    except PatchsetError:
        return None


def _patches(ctx: click.Context) -> list[str]:
    from patchset.model.series import read_entries
    from patchset.project.project import pinned

    project = _project(ctx)
    names: list[str] = []
    for component in project.components if project else ():
        try:
            base = pinned(component)
            names += [entry.patch_name for entry in read_entries(base.folder / "series")[0]]
        except (PatchsetError, OSError):
            continue
    return names
