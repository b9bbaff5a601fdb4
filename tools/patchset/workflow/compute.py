"""From a base in the store to the commits of its patched tree, proved against what is recorded."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from patchset.engine.apply import PatchResult, apply, read_paths
from patchset.engine.message import author_and_message
from patchset.model.series import Series
from patchset.sources.acquire import StoredBase
from patchset.store.git import Git
from patchset.store.objects import NewCommit, blobs, entries, write_commits
from patchset.worktree.location import Location
from patchset.worktree.state import AppliedPatch, parse_patches
from toolkit.errors import IntegrityError
from toolkit.finding import refuse


@dataclass(frozen=True)
class Computed:
    """A patched tree that is in the store; `tip` is its commit, one commit a patch above `base_commit`."""

    base_commit: str
    tip: str
    tree: str
    patches: tuple[AppliedPatch, ...]


def results(git: Git, series: Series, commit: str, covers: tuple[str, ...] = ()) -> tuple[PatchResult, ...]:
    """Apply a series to the tree of `commit`, in memory.

    Raises:
        SeriesError: a patch cannot be parsed; all findings are named.
        PatchConflict, IntegrityError: a patch does not match.
    """
    refuse(series.findings, series.title)
    patches = series.patches
    known = entries(git, commit, read_paths(patches))
    wanted = {path for patch in patches for change in patch.changes if (path := change.old_path)}
    contents = blobs(git, (known[path].oid for path in sorted(wanted) if path in known))
    read = partial(_read, contents, git)
    recorded = series.base.recorded
    return apply(patches, known, read, covers=covers, recorded=recorded, label=series.title)


def _read(contents: dict[str, bytes], git: Git, oid: str) -> bytes:
    if oid not in contents:
        contents |= blobs(git, [oid])
    return contents[oid]


def compute(location: Location, series: Series, source: StoredBase) -> Computed:
    """Write the commits of a series, or find them where an earlier run has written them.

    Raises:
        SeriesError, PatchConflict: see `results`.
        IntegrityError: the base's or the patched tree is not the recorded one.
    """
    git = location.git
    if source.recorded_tree is not None and source.tree != source.recorded_tree:
        raise IntegrityError(
            f"{series.title}: the base's tree is {source.tree}, base.toml records {source.recorded_tree}",
            remedy="check commit, archive and tree in base.toml",
        )
    key = hashlib.sha256(f"{series.digest}\0{source.commit}\0{source.covers}".encode()).hexdigest()
    ref = f"refs/patchset/series/{key}"
    file = location.private / "made" / f"{key}.json"
    made = _known(git, file, ref)
    if made is None:
        made = _write(git, series, source, ref)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(asdict(made)))
    if source.patched_tree is not None and made.tree != source.patched_tree:
        raise IntegrityError(
            f"{series.title}: the series gives tree {made.tree}, base.toml records {source.patched_tree}",
            remedy=f"if you changed the series on purpose, run `patchset record {series.title}`",
        )
    return made


def base_of(location: Location, tip: str) -> str | None:
    """Return the commit that a series was computed on, by the tip of that series, or None."""
    for file in sorted((location.private / "made").glob("*.json")):
        made = _known(location.git, file, f"refs/patchset/series/{file.stem}")
        if made is not None and made.tip == tip:
            return made.base_commit
    return None


def _known(git: Git, file: Path, ref: str) -> Computed | None:
    try:
        values = json.loads(file.read_bytes())
        patches = parse_patches(values["patches"])
        made = Computed(values["base_commit"], values["tip"], values["tree"], patches)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    # The ref keeps the commits from git's garbage collection; the tree id is asked of git, not believed.
    return made if git.resolve(ref) == made.tip and git.tree_of(made.tip) == made.tree else None


def _write(git: Git, series: Series, source: StoredBase, ref: str) -> Computed:
    applied = results(git, series, source.commit, source.covers)
    inside = [item for item in applied if item.match != "outside"]
    if not inside:
        patches = tuple(AppliedPatch(item.patch.name, None, item.match, item.outside) for item in applied)
        git.run("update-ref", ref, source.commit)
        return Computed(source.commit, source.commit, source.tree, patches)
    commits = [NewCommit(*author_and_message(item.patch), item.files) for item in inside]
    written = write_commits(git, ref, source.commit, commits)
    ids = iter(written)
    patches = tuple(
        AppliedPatch(
            item.patch.name,
            None if item.match == "outside" else next(ids).commit,
            item.match,
            item.outside,
        )
        for item in applied
    )
    return Computed(source.commit, written[-1].commit, written[-1].tree, patches)
