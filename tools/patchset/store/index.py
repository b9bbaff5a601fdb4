"""Git's index: its entries read, written by update-index(1), and trees written from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from patchset.store.git import Git
from patchset.store.objects import TreeEntry
from patchset.store.text import encode, records

_NO_OBJECT = "0" * 40
_LITERAL = {"GIT_LITERAL_PATHSPECS": "1"}


@dataclass(frozen=True)
class Stage:
    """A conflicted path as the index holds it: 1 is the base's, 2 ours, 3 theirs."""

    path: str
    number: int
    entry: TreeEntry


def index_entries(git: Git, paths: Iterable[str]) -> dict[str, TreeEntry]:
    """Return the entries of the index at `paths`; that of an unmerged path has the object id `unmerged`."""
    paths = list(paths)
    if not paths:
        return {}
    entries = {}
    for record in records(git.run("ls-files", "-z", "--stage", "--", *paths, env=_LITERAL)):
        head, _, path = record.partition("\t")
        mode, oid, number = head.split()
        entries[path] = TreeEntry(int(mode, 8), oid if number == "0" else "unmerged")
    return {path: entries[path] for path in paths if path in entries}


def update_index(
    git: Git, files: Mapping[str, TreeEntry | None], stages: Iterable[Stage] = (), *, index: Path | None = None
) -> None:
    """Put entries into the index, or take them out of it (None), and add the `stages` of conflicts.

    `index` is another file than the repository's own index.
    """
    # Removals come first: a file may take the place of a folder whose files go, and the other way round.
    lines = [f"0 {_NO_OBJECT}\t{path}\0" for path, entry in files.items() if entry is None]
    lines += [f"{entry.mode:o} {entry.oid}\t{path}\0" for path, entry in files.items() if entry is not None]
    lines += [f"{stage.entry.mode:o} {stage.entry.oid} {stage.number}\t{stage.path}\0" for stage in stages]
    git.run("update-index", "-z", "--index-info", stdin=encode("".join(lines)), env=_environment(index))


def write_tree(git: Git, tree: str, files: Mapping[str, TreeEntry | None], index: Path) -> str:
    """Return the id of `tree` with `files` changed, as `update_index` takes them; `index` is a file to work in."""
    git.run("read-tree", tree, env=_environment(index))
    update_index(git, files, index=index)
    return git.run("write-tree", env=_environment(index)).decode().strip()


def edit_tree(git: Git, tree: str, files: Mapping[str, tuple[int, bytes] | None]) -> str:
    """Return the id of `tree` with files (mode, content) put in place of its own, or taken out of it (None).

    The objects go into the git's scratch folder.
    """
    assert git.scratch is not None
    entries = {path: None if file is None else _write(git, *file) for path, file in files.items()}
    return write_tree(git, tree, entries, git.scratch / "index")


def _write(git: Git, mode: int, data: bytes) -> TreeEntry:
    oid = git.run("hash-object", "-w", "--no-filters", "--stdin", stdin=data)
    return TreeEntry(mode, oid.decode().strip())


def _environment(index: Path | None) -> dict[str, str]:
    return {} if index is None else {"GIT_INDEX_FILE": str(index)}
