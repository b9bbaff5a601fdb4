"""From a base in the store to the commits of its patched tree, proved against the recorded trees."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from patchset.model.series import Series
from patchset.sources.acquire import StoredBase
from patchset.store.git import Git
from patchset.store.objects import NewCommit, blobs, entries, files_below, write_commits
from patchset.worktree.location import Location
from patchset.worktree.state import AppliedPatch, parse_patches
from toolkit.errors import IntegrityError
from toolkit.files import replace_file
from toolkit.finding import refuse

if TYPE_CHECKING:
    from patchset.engine.apply import PatchResult


@dataclass(frozen=True)
class PatchedTree:
    """A patched tree in the repository; `tip` is its commit, above `base_commit` by one commit a patch."""

    base_commit: str
    tip: str
    tree: str
    patches: tuple[AppliedPatch, ...]


def tree_of(git: Git, commit: str) -> str:
    """Return the tree of a commit in the repository.

    Raises:
        IntegrityError: the repository does not have it.
    """
    tree = git.tree_of(commit)
    if tree is None:
        raise IntegrityError(f"commit {commit} is missing from {git.gitdir}", remedy="remove that folder and run again")
    return tree


def apply_in_memory(git: Git, series: Series, commit: str, covers: tuple[str, ...] = ()) -> tuple[PatchResult, ...]:
    """Apply a series to the tree of `commit`; nothing is written.

    Raises:
        SeriesError: a patch cannot be parsed; all findings are named.
        PatchConflict, IntegrityError: a patch does not match.
    """
    # Imported here: a run with nothing to do applies no patch.
    from patchset.engine.apply import apply, read_paths

    refuse(series.findings, series.title)
    patches = series.patches
    tree_entries = entries(git, commit, read_paths(patches))
    read = cache(lambda oid: blobs(git, (oid,))[oid])
    below = partial(files_below, git, commit)
    return apply(
        patches, tree_entries, read, below=below, covers=covers, recorded=series.base.recorded, label=series.title
    )


def compute(location: Location, series: Series, base: StoredBase) -> PatchedTree:
    """Write the commits of a series, or return those that an earlier run has written.

    Raises:
        SeriesError, PatchConflict: see `apply_in_memory`.
        IntegrityError: the base's or the patched tree is not the recorded one.
    """
    git = location.git
    if base.recorded_tree is not None and base.tree != base.recorded_tree:
        raise IntegrityError(
            f"{series.title}: the base's tree is {base.tree}, base.toml records {base.recorded_tree}",
            remedy="check commit, archive and tree in base.toml",
        )
    key = hashlib.sha256(f"{series.digest}\0{base.commit}\0{base.covers}".encode()).hexdigest()
    file = _folder(location) / f"{key}.json"
    patched = _read(git, file)
    if patched is None:
        patched = _write(git, series, base, _ref(file))
        replace_file(file, json.dumps(asdict(patched)))
    if base.patched_tree is not None and patched.tree != base.patched_tree:
        raise IntegrityError(
            f"{series.title}: the series gives tree {patched.tree}, base.toml records {base.patched_tree}",
            remedy=f"if you changed the series on purpose, run `patchset record {series.title}`",
        )
    return patched


def base_commit_of(location: Location, tip: str) -> str | None:
    """Return the commit that a series was computed on, by the tip of that series, or None."""
    trees = (_read(location.git, file) for file in sorted(_folder(location).glob("*.json")))
    return next((patched.base_commit for patched in trees if patched is not None and patched.tip == tip), None)


def _folder(location: Location) -> Path:
    return location.private / "made"


def _ref(file: Path) -> str:
    """Return the ref that keeps the commits of a computed tree from git's garbage collection."""
    return f"refs/patchset/series/{file.stem}"


def _read(git: Git, file: Path) -> PatchedTree | None:
    try:
        values = json.loads(file.read_bytes())
        patched = PatchedTree(values["base_commit"], values["tip"], values["tree"], parse_patches(values["patches"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    # The file is a cache: git confirms the tree.
    return patched if git.resolve(_ref(file)) == patched.tip and git.tree_of(patched.tip) == patched.tree else None


def _write(git: Git, series: Series, base: StoredBase, ref: str) -> PatchedTree:
    from patchset.engine.message import author_and_message

    results = apply_in_memory(git, series, base.commit, base.covers)
    new = [NewCommit(*author_and_message(item.patch), item.files) for item in results if item.match != "outside"]
    if new:
        commits = [ids.commit for ids in write_commits(git, ref, base.commit, new)]
    else:
        git.run("update-ref", ref, base.commit)
        commits = []
    tip, remaining = commits[-1] if commits else base.commit, iter(commits)
    patches = tuple(
        AppliedPatch(
            item.patch.name,
            None if item.match == "outside" else next(remaining),
            item.match,
            item.outside,
        )
        for item in results
    )
    return PatchedTree(base.commit, tip, tree_of(git, tip), patches)
