"""`component.toml`: how a component is read from its folder in `patches/`."""

from __future__ import annotations

from pathlib import Path

from patchset.model.component import NEEDS, Base, Component, Packaging
from patchset.project.base_toml import parse_base
from toolkit.finding import Finding
from toolkit.tables import Table, locate, read_table


def parse_component(folder: Path, findings: list[Finding]) -> Component:
    """Read `component.toml` of a folder of `patches/`; a folder without one is a component of that name."""
    file = folder / "component.toml"
    name = folder.name
    path, url, pinned, packaging = f"extern/{name}", None, None, None
    table = read_table(file, findings) if file.is_file() else None
    if table is not None:
        path = table.text("path", required=False) or path
        pinned = table.text("pinned", required=False)
        url = table.text("url", required=False)
        wheel = table.tables("wheel")
        packaging = _packaging(wheel[0]) if wheel else None
        table.finish()
        if Path(path).is_absolute() or ".." in Path(path).parts:
            findings.append(_at(table, "path", f"path leaves the project: {path}"))
    bases = tuple(
        parse_base(entry, findings)
        for entry in sorted(folder.iterdir())
        if entry.is_dir()
        and not entry.name.startswith(".")
        and ((entry / "series").is_file() or (entry / "base.toml").is_file())
    )
    if not bases and (folder / "series").is_file():
        bases = (Base("", folder),)
    if pinned is not None and table is not None and all(base.name != pinned for base in bases):
        known = ", ".join(base.name for base in bases) or "none"
        findings.append(_at(table, "pinned", f"pinned: there is no base {pinned}; there is {known}"))
    return Component(name, path, url, pinned, packaging, bases)


def _at(table: Table, key: str, message: str) -> Finding:
    line, column, text = locate(table.source, table.section, key)
    return Finding(table.file, message, line, column, max(len(text.strip()), 1), text)


def _packaging(table: Table) -> Packaging:
    project = table.text("project") or ""
    environment = table.get("environment", "table", required=False)
    variants = []
    for item in table.tables("variants"):
        for name in item.values:
            needs = item.strings(name)
            variants.append((name, needs))
            unknown = [need for need in needs if need not in NEEDS]
            if unknown:
                table.findings.append(_at(item, name, f"{name}: {unknown[0]!r} is none of {', '.join(NEEDS)}"))
    packaging = Packaging(
        project=project,
        packages=table.strings("packages"),
        compiled=table.strings("compiled"),
        version_file=table.text("version-file", required=False),
        environment=tuple((str(key), str(value)) for key, value in environment.items())
        if isinstance(environment, dict)
        else (),
        build_files=table.strings("build-files"),
        variant_variable=table.text("variant-variable", required=False),
        variants=tuple(variants),
        job_memory=table.integer("job-memory"),
    )
    table.finish()
    return packaging
