"""`record`: a series' trees, computed and written into its base.toml."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from patchset.model.component import Base, Component
from patchset.model.project import Project
from patchset.model.series import Series
from patchset.sources.acquire import Acquired, Mode, acquire, present
from patchset.store.git import require
from patchset.workflow.apply import read_series
from patchset.workflow.compute import compute
from patchset.worktree import lock
from patchset.worktree.location import Location, locate
from toolkit.errors import SeriesError
from toolkit.progress import Reporter


@dataclass(frozen=True)
class Recorded:
    """The trees of one source of a base; `changed` tells whether base.toml said otherwise."""

    component: str
    base: str
    source: str
    tree: str
    patched_tree: str
    changed: bool

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def record(
    project: Project,
    component: Component,
    base: Base,
    mode: Mode,
    reporter: Reporter,
    *,
    offline: bool = False,
) -> list[Recorded]:
    """Compute a series on every source that can be had, and write the trees into base.toml.

    With `mode` `auto` the sources are those that are in the store already, or the one that `acquire` takes.

    Raises:
        SeriesError: there is no base.toml to write into.
        PatchConflict: the series does not apply.
    """
    require()
    series = read_series(component, base)
    if not base.recorded:
        raise SeriesError(
            f"{series.title} has no base.toml",
            remedy="write one with a commit or an archive (docs/formats.md)",
        )
    location = locate(project.root, component)
    with lock.hold(location.lock_file, component.name):
        sources = here(location, base) if mode == "auto" else []
        if not sources:
            sources = [acquire(project.root, component, base, location.git, mode, reporter, offline=offline)]
        done = trees(location, series, sources)
    if any(item.changed for item in done):
        _write(base, done)
    return done


def here(location: Location, base: Base) -> list[Acquired]:
    """Return every source of a base that the component's repository has."""
    if not (location.gitdir / "HEAD").exists():
        return []
    found = (present(location.git, base, kind) for kind in ("submodule", "archive"))
    return [item for item in found if item is not None]


def trees(location: Location, series: Series, sources: list[Acquired]) -> list[Recorded]:
    """Compute a series on every source; the component's lock is held."""
    done = []
    for source in sources:
        # What is recorded is just what is to be found out.
        made = compute(location, series, replace(source, patched_tree=None))
        tree = location.git.tree_of(source.commit) or ""
        changed = (source.tree, source.patched_tree) != (tree, made.tree)
        done.append(Recorded(series.component.name, series.base.name, source.kind, tree, made.tree, changed))
    return done


def _write(base: Base, done: list[Recorded]) -> None:
    file = base.folder / "base.toml"
    temporary = file.with_suffix(".toml.new")
    temporary.write_text(updated(file.read_text("utf-8"), done), "utf-8")
    temporary.replace(file)


def updated(text: str, done: list[Recorded]) -> str:
    """Return the text of a base.toml with the trees that were recorded."""
    # tomlkit keeps the comments and the order of what people wrote.
    import tomlkit

    document = tomlkit.parse(text)
    for item in done:
        if item.source == "archive":
            table = document["archive"]
            assert isinstance(table, dict)
            table["tree"], table["patched-tree"] = item.tree, item.patched_tree
        else:
            _set(document, "tree", item.tree)
            _set(document, "patched-tree", item.patched_tree)
    return tomlkit.dumps(document)


def _set(document: object, key: str, value: str) -> None:
    """Set a top-level key; a new one goes before the first table, where TOML wants it."""
    import tomlkit

    assert isinstance(document, tomlkit.TOMLDocument)
    if key in document:
        document[key] = value
        return
    after = "tree" if key == "patched-tree" and "tree" in document else "commit"
    body = document.body
    at = next(index for index, (name, _) in enumerate(body) if name is not None and name.key == after)
    document._insert_at(at + 1, tomlkit.key(key), value)
