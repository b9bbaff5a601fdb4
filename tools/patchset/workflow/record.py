"""`record`: a series' trees, computed and written into its base.toml."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

from patchset.model.component import Base
from patchset.model.series import Series
from patchset.project import base_toml
from patchset.sources.acquire import StoredBase
from patchset.sources.kinds import AUTO
from patchset.workflow.checkout import stored_bases
from patchset.workflow.compute import compute
from patchset.workflow.workspace import Workspace
from patchset.worktree.location import Location
from toolkit.errors import SeriesError
from toolkit.files import replace_file


@dataclass(frozen=True)
class RecordedTrees:
    """The trees of one source of a base; `changed` is True if base.toml recorded other ones."""

    component: str
    base: str
    source: str
    tree: str
    patched_tree: str
    changed: bool


def record(workspace: Workspace) -> list[RecordedTrees]:
    """Compute a series on every available source, and write the trees into base.toml.

    With `auto` the sources are those that are in the store already, or the one that `acquire` takes.

    Raises:
        SeriesError: there is no base.toml to write into.
        PatchConflict: the series does not apply.
    """
    base, series = workspace.base, workspace.series
    if not base.recorded:
        raise SeriesError(
            f"{series.title} has no base.toml",
            remedy="write one with a commit or an archive (docs/formats.md)",
        )
    with workspace.lock() as location:
        bases = stored_bases(location, base) if workspace.source == AUTO else []
        trees = compute_trees(location, series, bases or [workspace.acquire()])
    if any(item.changed for item in trees):
        replace_file(base.folder / base_toml.NAME, with_trees(base, trees))
    return trees


def compute_trees(location: Location, series: Series, bases: Sequence[StoredBase]) -> list[RecordedTrees]:
    """Compute a series on every source of its base; the component's lock is held."""
    trees = []
    for base in bases:
        patched, tree = compute(location, series, base.unproven()).tree, base.tree
        changed = (base.recorded_tree, base.patched_tree) != (tree, patched)
        trees.append(RecordedTrees(series.component.name, series.base.name, base.kind, tree, patched, changed))
    return trees


def with_trees(base: Base, trees: Sequence[RecordedTrees]) -> str:
    """Return the text of a base's base.toml with these trees recorded."""
    sources = [
        source.with_trees(item.tree, item.patched_tree) for item in trees if (source := base.source(item.source))
    ]
    return base_toml.base_text(reduce(Base.with_source, sources, base), base_toml.read_text(base))
