"""A project: the folder that holds `patches/`, and its components, as `component.toml` describes them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from patchset.model.component import NEEDS, Base, Component, Packaging
from patchset.project.base_toml import NAME, parse_base
from toolkit.errors import UsageError
from toolkit.finding import Finding, refuse
from toolkit.tables import Table, locate, read_table


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
        for component in self.components:
            if component.name == name:
                return component
        known = ", ".join(item.name for item in self.components) or "none"
        raise UsageError(f"there is no component {name!r}", remedy=f"known components: {known}")

    def select(self, specs: tuple[str, ...]) -> tuple[tuple[Component, Base], ...]:
        """Return the components and bases of `vllm` or `vllm@v0.26.0`; of none, all components at their pinned bases.

        Raises:
            UsageError: a component or base does not exist, or a component is named twice.
        """
        selection: dict[str, tuple[Component, Base]] = {}
        for spec in specs or tuple(item.name for item in self.components):
            name, at, base_name = spec.partition("@")
            component = self.component(name)
            if name in selection:
                raise UsageError(f"{name} is named twice", remedy="name each component once")
            if at and not base_name:
                raise UsageError(f"{spec!r} names no base", remedy=f"write {name}, or {name}@BASE")
            selection[name] = (component, default_base(component, base_name))
        return tuple(selection.values())


def default_base(component: Component, base_name: str = "") -> Base:
    """Return the base of a name, else the pinned one, else the only one.

    Raises:
        UsageError: there is no such base, or several and none is pinned.
    """
    known = ", ".join(base.name for base in component.bases) or "none"
    if base_name:
        base = component.base(base_name)
        if base is None:
            raise UsageError(f"{component.name} has no base {base_name!r}", remedy=f"known bases: {known}")
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
    """Read the project at `root`, with every breach in its TOML files.

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
    components = tuple(_component(entry, findings) for entry in _folders(folder))
    return Project(root, tuple(item for item in components if item.bases)), findings


def load(root: Path) -> Project:
    """Read the project at `root`.

    Raises:
        SeriesError: a `component.toml` or `base.toml` breaks its format; all breaches are named.
    """
    project, findings = read(root)
    refuse(findings, "the project")
    return project


def _folders(folder: Path) -> list[Path]:
    return [entry for entry in sorted(folder.iterdir()) if entry.is_dir() and not entry.name.startswith(".")]


def _component(folder: Path, findings: list[Finding]) -> Component:
    """Read `component.toml` of a folder of `patches/`; a folder without one is a component of that name."""
    file = folder / "component.toml"
    path, url, default, packaging = f"extern/{folder.name}", None, None, None
    table = read_table(file, findings) if file.is_file() else None
    if table is not None:
        path = table.text("path", required=False) or path
        default = table.text("pinned", required=False)
        url = table.text("url", required=False)
        wheel = table.tables("wheel")
        packaging = _packaging(wheel[0]) if wheel else None
        table.finish()
        if Path(path).is_absolute() or ".." in Path(path).parts:
            findings.append(_finding(table, "path", f"path leaves the project: {path}"))
    bases = tuple(
        parse_base(entry, findings)
        for entry in _folders(folder)
        if (entry / "series").is_file() or (entry / NAME).is_file()
    )
    if not bases and (folder / "series").is_file():
        bases = (Base("", folder),)
    if default is not None and table is not None and all(base.name != default for base in bases):
        known = ", ".join(base.name for base in bases) or "none"
        findings.append(_finding(table, "pinned", f"pinned: there is no base {default}; there is {known}"))
    return Component(folder.name, path, url, default, packaging, bases)


def _finding(table: Table, key: str, message: str) -> Finding:
    line, column, text = locate(table.source, table.section, key)
    return Finding(table.file, message, line, column, max(len(text.strip()), 1), text)


def _packaging(table: Table) -> Packaging:
    project = table.text("project") or ""
    environment = table.get("environment", "table", required=False)
    pairs = environment.items() if isinstance(environment, dict) else ()
    variants = []
    for item in table.tables("variants"):
        for name in item.values:
            needs = item.strings(name)
            variants.append((name, needs))
            unknown = [need for need in needs if need not in NEEDS]
            if unknown:
                table.findings.append(_finding(item, name, f"{name}: {unknown[0]!r} is none of {', '.join(NEEDS)}"))
    packaging = Packaging(
        project=project,
        packages=table.strings("packages"),
        compiled=table.strings("compiled"),
        version_file=table.text("version-file", required=False),
        environment=tuple((str(key), str(value)) for key, value in pairs),
        build_files=table.strings("build-files"),
        variant_variable=table.text("variant-variable", required=False),
        variants=tuple(variants),
        job_memory=table.integer("job-memory"),
    )
    table.finish()
    return packaging
