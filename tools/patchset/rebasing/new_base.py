"""A base that is new to the project: found on the git host and the package index, and written as base.toml."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from patchset.model.component import Base, Component
from patchset.sources import releases, submodule
from patchset.worktree.location import Location
from toolkit.errors import SourceUnavailable, UsageError
from toolkit.progress import Reporter


def find(
    root: Path, component: Component, model: Base, wanted: str, location: Location, reporter: Reporter, *, offline: bool
) -> Base:
    """Return release `wanted` as a base: its commit where a tag names one, its archive and wheels where listed.

    `model` is the base that it is described after.

    Raises:
        UsageError: there is no such release; names those that there are.
    """
    version = releases.version_of(wanted)
    git = location.git
    if version is None:
        commit = git.resolve(f"{wanted}^{{commit}}") if (git.gitdir / "HEAD").exists() else None
        if commit is None:
            raise UsageError(f"{wanted!r} is no release and no commit in {component.path}", remedy="name a release")
        return Base(wanted, model.folder.parent / wanted.replace("/", "-"), commit, None, None, None, ())
    name = releases.named(model, version)
    commit = commit_of(root, component, location, name, offline)
    files: dict[str, dict[str, str]] = {}
    for project in _projects(model):
        files[project] = dict(releases.list_files(project, location.private, reporter, offline=offline).files)
    listed = files.get(model.archive.project, {}) if model.archive else {}
    base = releases.describe(model, version, listed, commit)
    if base is None:
        base = next((item for item in releases.here(component, model, git) if item.name == name), None)
    if base is None:
        known = [item.name for item in releases.published(component, model, listed)]
        raise UsageError(
            f"{component.name} has no release {name} that can be had",
            details=(f"the index lists {', '.join(known[-12:])}",) if known else (),
            remedy="name one that there is" if known else "check the network",
        )
    return replace(base, wheels=releases.wheels_of(model, version, files))


def _projects(model: Base) -> list[str]:
    projects = [model.archive.project] if model.archive else []
    return list(dict.fromkeys([*projects, *(wheel.project for wheel in model.wheels)]))


def commit_of(root: Path, component: Component, location: Location, name: str, offline: bool) -> str | None:
    """Return the commit of a release's tag, from the repository or its remote, or None where neither tells."""
    git = location.git
    if (git.gitdir / "HEAD").exists():
        plain = name.removeprefix("v")
        for tag in (f"v{plain}", plain):
            if found := git.resolve(f"refs/tags/{tag}^{{commit}}"):
                return found
    if offline:
        return None
    url = submodule.registered_url(root, component.path) or component.url
    return releases.tagged_commit(url, name) if url is not None else None


def write_toml(base: Base, model: Base | None = None) -> str:
    """Return base.toml of a base; with `model`, its file is followed, comments and order included.

    Raises:
        SourceUnavailable: the base has neither commit nor archive.
    """
    import tomlkit

    if not base.recorded:
        raise SourceUnavailable(f"{base.name} has neither commit nor archive")
    source = model.folder / "base.toml" if model is not None else None
    document = (
        tomlkit.parse(source.read_text("utf-8")) if source is not None and source.is_file() else tomlkit.document()
    )
    for key, value in (("commit", base.commit), ("tree", base.tree), ("patched-tree", base.patched_tree)):
        _put(document, key, value)
    if base.archive is None:
        document.pop("archive", None)
    else:
        if "archive" not in document:
            document["archive"] = tomlkit.table()
        table = document["archive"]
        assert isinstance(table, dict)
        for key, text in (
            ("project", base.archive.project),
            ("file", base.archive.filename),
            ("sha256", base.archive.sha256),
            ("tree", base.archive.tree),
            ("patched-tree", base.archive.patched_tree),
        ):
            if text is None:
                table.pop(key, None)
            else:
                table[key] = text
        for key, globs in (("exclude", base.archive.exclude), ("covers", base.archive.covers)):
            if globs and list(table.get(key, [])) != list(globs):
                table[key] = list(globs)
    _wheels(document, base)
    lines = tomlkit.dumps(document).strip("\n").split("\n")
    # A comment that introduced what is not there any more.
    while lines and (not lines[-1] or lines[-1].startswith("#")):
        lines.pop()
    return "\n".join([*lines, ""])


def _put(document: object, key: str, value: str | None) -> None:
    import tomlkit

    assert isinstance(document, tomlkit.TOMLDocument)
    if value is None:
        document.pop(key, None)
    elif key in document:
        document[key] = value
    else:
        order = ["commit", "tree", "patched-tree"]
        present = [at for at, (name, _) in enumerate(document.body) if name is not None and name.key in order]
        at = present[-1] + 1 if present else 0
        if at < len(document.body):
            document._insert_at(at, tomlkit.key(key), value)
        else:
            document.add(key, value)


def _wheels(document: object, base: Base) -> None:
    import tomlkit

    assert isinstance(document, tomlkit.TOMLDocument)
    known = {(wheel.project, wheel.variant, wheel.platform): wheel for wheel in base.wheels}
    tables = document.get("wheel")
    if tables is None:
        return
    for at in range(len(tables) - 1, -1, -1):
        table = tables[at]
        wheel = known.get((table["project"], table["variant"], table["platform"]))
        if wheel is None:
            del tables[at]
        else:
            table["file"], table["sha256"] = wheel.filename, wheel.sha256
    if not len(tables):
        document.pop("wheel")
