"""A project root: the folder that holds `patches/`, and what is in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from patchset.model.component import Base, Component
from patchset.project.component_toml import parse_component
from toolkit.errors import UsageError
from toolkit.finding import Finding, refuse


@dataclass(frozen=True)
class Project:
    """The components of one root, in the order of their names."""

    root: Path
    components: tuple[Component, ...]

    def component(self, name: str) -> Component:
        """Return a component by name.

        Raises:
            UsageError: there is none of that name.
        """
        found = next((item for item in self.components if item.name == name), None)
        if found is None:
            known = ", ".join(item.name for item in self.components) or "none"
            raise UsageError(f"there is no component {name!r}", remedy=f"known components: {known}")
        return found

    def select(self, specs: tuple[str, ...]) -> tuple[tuple[Component, Base], ...]:
        """Return what `specs` name: `vllm`, `vllm@v0.26.0`; everything at its pinned base if empty.

        Raises:
            UsageError: a component or base does not exist, or a component is named twice.
        """
        chosen: dict[str, tuple[Component, Base]] = {}
        for spec in specs or tuple(item.name for item in self.components):
            name, at, wanted = spec.partition("@")
            component = self.component(name)
            if name in chosen:
                raise UsageError(f"{name} is named twice", remedy="name each component once")
            if at and not wanted:
                raise UsageError(f"{spec!r} names no base", remedy=f"write {name}, or {name}@BASE")
            chosen[name] = (component, pinned(component, wanted))
        return tuple(chosen.values())


def pinned(component: Component, wanted: str = "") -> Base:
    """Return the base named `wanted`, or the pinned one, or the only one.

    Raises:
        UsageError: there is no such base, or several and none is pinned.
    """
    known = ", ".join(base.name for base in component.bases) or "none"
    if wanted:
        base = component.base(wanted)
        if base is None:
            raise UsageError(f"{component.name} has no base {wanted!r}", remedy=f"known bases: {known}")
        return base
    if component.pinned is not None:
        base = component.base(component.pinned)
        if base is not None:
            return base
    if len(component.bases) == 1:
        return component.bases[0]
    raise UsageError(
        f"{component.name} pins no base",
        remedy=f"name one ({component.name}@BASE; known: {known}) or set `pinned` in component.toml",
    )


def find_root(start: Path) -> Path:
    """Return the nearest folder, from `start` upwards, that holds a `patches/` folder.

    Raises:
        UsageError: there is none.
    """
    for folder in (start, *start.parents):
        if (folder / "patches").is_dir():
            return folder
    raise UsageError(f"no patches/ folder in {start} or above it", remedy="change into a project, or give --root DIR")


def read(root: Path) -> tuple[Project, list[Finding]]:
    """Read the project at `root` with everything that is wrong in its TOML files.

    Layouts: `patches/<component>/<base>/series`; `patches/<component>/series` for a component of one base; a
    plain quilt project, `patches/series`, whose tree is the root itself.

    Raises:
        UsageError: `root` has no `patches/` folder.
    """
    folder = root / "patches"
    if not folder.is_dir():
        raise UsageError(f"{root} has no patches/ folder", remedy="give the project's root with --root DIR")
    findings: list[Finding] = []
    if (folder / "series").is_file():
        base = Base("", folder)
        return Project(root, (Component(root.name, ".", None, None, None, (base,)),)), findings
    components = tuple(
        parse_component(entry, findings)
        for entry in sorted(folder.iterdir())
        if entry.is_dir() and not entry.name.startswith(".")
    )
    components = tuple(item for item in components if item.bases)
    return Project(root, components), findings


def load(root: Path) -> Project:
    """Read the project at `root`.

    Raises:
        SeriesError: a `component.toml` or `base.toml` breaks its format; all breaches are named.
    """
    project, findings = read(root)
    refuse(findings, "the project")
    return project
