"""Components and bases: `component.toml` and `base.toml`, parsed at the border into frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from toolkit.finding import Finding
from toolkit.tables import Table, locate, read_table


@dataclass(frozen=True)
class Archive:
    """The registry file that stands in for the base's commit.

    `exclude` are globs of members that the archive's maker generated and that upstream's tree does not
    have; `covers` are globs of what it holds of that tree (all of it where empty): a patch to other files
    is outside the archive. `tree` and `patched_tree` are git tree ids of what is left, before and after the
    series.
    """

    project: str
    filename: str
    sha256: str
    exclude: tuple[str, ...]
    covers: tuple[str, ...]
    tree: str | None
    patched_tree: str | None


@dataclass(frozen=True)
class Wheel:
    """An official prebuilt wheel that an overlay may start from; `platform` is its platform tag."""

    variant: str
    platform: str
    project: str
    filename: str
    sha256: str


@dataclass(frozen=True)
class Base:
    """One upstream release; `tree` and `patched_tree` are those of its commit, None where not known."""

    name: str
    folder: Path
    commit: str | None
    tree: str | None
    patched_tree: str | None
    archive: Archive | None
    wheels: tuple[Wheel, ...]

    @property
    def recorded(self) -> bool:
        """Whether the folder has a `base.toml` that names its upstream."""
        return self.commit is not None or self.archive is not None


# What a source build can ask of the machine.
NEEDS = ("compiler", "cuda", "memory")


@dataclass(frozen=True)
class Packaging:
    """How the component becomes a wheel.

    `packages` are the globs of files that the wheel ships, `compiled` those that decide compiled or generated
    content, `version_file` the file inside the wheel that knows the version, if any. `environment` is set for
    a source build, with `{version}` replaced, and needs `build_files` in the tree. `variants` are what can be
    built from source, the first by default, each with what has to be there before it starts; the variable
    `variant_variable` tells upstream's build which one is meant. `job_memory` is what one compile job is taken to
    need, in GiB.
    """

    project: str
    packages: tuple[str, ...]
    compiled: tuple[str, ...]
    version_file: str | None
    environment: tuple[tuple[str, str], ...]
    build_files: tuple[str, ...]
    variant_variable: str | None
    variants: tuple[tuple[str, tuple[str, ...]], ...]
    job_memory: int


@dataclass(frozen=True)
class Component:
    """An upstream project; `path` is where its tree stands, relative to the project's root."""

    name: str
    path: str
    url: str | None
    pinned: str | None
    packaging: Packaging | None
    bases: tuple[Base, ...]

    def base(self, name: str) -> Base | None:
        """Return the base of that name; a leading `v` may be left out or added."""
        wanted = name.removeprefix("v")
        return next((base for base in self.bases if base.name.removeprefix("v") == wanted), None)


def parse_component(root: Path, folder: Path, findings: list[Finding]) -> Component:
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
        bases = (Base("", folder, None, None, None, None, ()),)
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


def parse_base(folder: Path, findings: list[Finding]) -> Base:
    """Read `base.toml` of a series folder; a folder without one is a base of that name, with no proof."""
    file = folder / "base.toml"
    table = read_table(file, findings) if file.is_file() else None
    if table is None:
        return Base(folder.name, folder, None, None, None, None, ())
    commit = table.text("commit", "hex40", required=False)
    tree = table.text("tree", "hex40", required=False)
    patched = table.text("patched-tree", "hex40", required=False)
    archives = []
    for item in table.tables("archive"):
        archives.append(
            Archive(
                project=item.text("project") or "",
                filename=item.text("file") or "",
                sha256=item.text("sha256", "hex64") or "",
                exclude=item.strings("exclude"),
                covers=item.strings("covers"),
                tree=item.text("tree", "hex40", required=False),
                patched_tree=item.text("patched-tree", "hex40", required=False),
            )
        )
        item.finish()
    wheels = []
    for item in table.tables("wheel"):
        wheels.append(
            Wheel(
                variant=item.text("variant") or "",
                platform=item.text("platform") or "",
                project=item.text("project") or "",
                filename=item.text("file") or "",
                sha256=item.text("sha256", "hex64") or "",
            )
        )
        item.finish()
    table.finish()
    if len(archives) > 1:
        findings.append(Finding(file, "has more than one [archive]"))
    return Base(folder.name, folder, commit, tree, patched, archives[0] if archives else None, tuple(wheels))
