"""Applying a series to the files of a tree, in memory.

Law: a patch applies textually only where every blob that it touches equals the blob that it is based on.
A patch that names no blobs (quilt's) is located by its context, every line of it, and only where there is no
doubt; the result says so.
"""

from __future__ import annotations

import fnmatch
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from patchset.engine import binary
from patchset.engine.hunks import HunkNotLocated, apply_hunks
from patchset.engine.tree import Draft, Files, Tree, folders_above
from patchset.model.patch import FileChange, Patch
from patchset.store.objects import File, TreeEntry, blob_id, new_file
from toolkit.errors import IntegrityError, PatchConflict, PatchsetError

Match = Literal["exact", "context", "outside"]


@dataclass(frozen=True)
class PatchResult:
    """The result of one patch.

    `files` are its changes (None: the file goes). `outside` names the paths that the source does not cover; with
    `match == "outside"` they are all there is, and the patch makes no commit. `offsets` are of the hunks that were
    not at the line they name: path, hunk number, lines off.
    """

    patch: Patch
    match: Match
    files: Mapping[str, File | None]
    outside: tuple[str, ...] = ()
    offsets: tuple[tuple[str, int, int], ...] = ()


def read_paths(patches: Iterable[Patch]) -> tuple[str, ...]:
    """Return every path that has to be known before `apply`: what is touched, and all folders above."""
    paths: dict[str, None] = {}
    for patch in patches:
        for change in patch.changes:
            for path in filter(None, (change.old_path, change.new_path)):
                paths |= dict.fromkeys((*folders_above(path), path))
    return tuple(paths)


def apply(
    patches: Sequence[Patch],
    entries: Mapping[str, TreeEntry],
    read: Callable[[str], bytes],
    *,
    below: Callable[[str], Iterable[str]] | None = None,
    covers: Sequence[str] = (),
    recorded: bool = True,
    label: str = "",
) -> tuple[PatchResult, ...]:
    """Apply patches in order to a tree that is known by its `entries` (see `read_paths`).

    `read` gives a blob's content by id. `below` gives the files of the tree below a folder: it is called where a patch
    puts a file in a folder's place; without it, that is a conflict. `covers` are globs of the paths that the source
    has at all (empty: all). A `recorded` series is held to the blobs that its patches name; a foreign one is located
    by context where they are not those of the tree. `label` names the series in errors.

    Raises:
        PatchConflict: a patch does not match; names patch, file and hunk.
        IntegrityError: a patch's text does not give the blob that it says it gives.
    """
    tree = Tree(entries, read, below)
    results = []
    for patch in patches:
        outside = tuple(path for path in patch.touched if not _covered(path, covers))
        if outside and len(outside) == len(patch.touched):
            results.append(PatchResult(patch, "outside", {}, outside))
            continue
        draft = Draft(tree, _leaving(patch))
        offsets: list[tuple[str, int, int]] = []
        exact = True
        changes = [change for change in patch.changes if not any(path in outside for path in change.touched)]
        for change in changes:
            try:
                exact &= _change(draft, change, offsets, recorded)
            except _NoMatchError as error:
                raise (_blocked(draft, change) or error).conflict(patch, change, label) from None
        # What stands in the way can be judged after the last change: a later one may take it away.
        for change in changes:
            if blocked := _blocked(draft, change):
                raise blocked.conflict(patch, change, label)
        tree.update(draft.files)
        results.append(PatchResult(patch, "exact" if exact else "context", draft.files, outside, tuple(offsets)))
    return tuple(results)


def combined(results: Iterable[PatchResult]) -> dict[str, File | None]:
    """Return the files that a whole series leaves changed, in the order of their first change."""
    files: Files = {}
    for result in results:
        files |= result.files
    return files


class _NoMatchError(Exception):
    def __init__(self, why: str, hunk: str = "", kind: type[PatchsetError] = PatchConflict) -> None:
        super().__init__(why)
        self.why = why
        self.hunk = hunk
        self.kind = kind

    def conflict(self, patch: Patch, change: FileChange, label: str) -> PatchsetError:
        where = f"{change.path}{': hunk ' + self.hunk if self.hunk else ''}"
        series = f" of {label}" if label else ""
        return self.kind(
            f"patch {patch.name}{series} does not apply to {where}",
            details=(self.why,),
            remedy=f"check that {patch.file} is for this base; nothing was changed",
        )


def _covered(path: str, covers: Sequence[str]) -> bool:
    return not covers or any(fnmatch.fnmatchcase(path, pattern) for pattern in covers)


def _blocked(draft: Draft, change: FileChange) -> _NoMatchError | None:
    obstacle = draft.obstacle(change.new_path) if change.new_path is not None else None
    return None if obstacle is None else _NoMatchError(obstacle)


def _leaving(patch: Patch) -> frozenset[str]:
    """Return the paths that a patch frees."""
    freed = (change.old_path for change in patch.changes if change.operation in ("delete", "rename"))
    return frozenset(path for path in freed if path is not None)


def _change(draft: Draft, change: FileChange, offsets: list[tuple[str, int, int]], recorded: bool) -> bool:
    """Apply one file's change to the draft; return True if the blob was the one that the patch names."""
    old: File | None = None
    source = change.old_path
    if source is not None:
        old = (draft.before if change.operation in ("rename", "copy") else draft).get(source)
        if old is None and not change.may_create:
            raise _NoMatchError(draft.obstacle(source) or f"the tree has no file {source}")
    if change.new_path is not None and change.new_path != source and not draft.is_free(change.new_path):
        raise _NoMatchError(f"{change.new_path} exists already")
    if change.operation == "rename" and source is not None:
        draft.free(source)
    exact = _proved(change, old, recorded)
    try:
        data = _content(change, old, exact, offsets)
        _held_to_its_blob(change, data, exact)
    except _NoMatchError:
        # A foreign patch that was edited by hand, as quilt users do, keeps the index line that it once had.
        if recorded or not exact or not change.hunks:
            raise
        exact = False
        data = _content(change, old, exact, offsets)
    if change.operation == "delete":
        if data:
            raise _NoMatchError("the file holds more than the patch removes")
        draft.put(change.path, None)
        return exact
    mode = change.new_mode
    if old is not None and mode in (None, change.old_mode):
        # The mode of an index line is what the file had: another executable bit in the tree stays.
        mode = old.mode
    draft.put(change.path, new_file(mode or 0o100644, data))
    return exact


def _proved(change: FileChange, old: File | None, recorded: bool) -> bool:
    """Return whether the file is the one that the patch is based on, by its blob id."""
    if old is None:
        return True
    if change.old_mode is not None and change.old_mode != old.mode and recorded:
        raise _NoMatchError(f"the patch is for mode {change.old_mode:o}, the file has {old.mode:o}")
    for mode in filter(None, (change.old_mode, change.new_mode)):
        if stat.S_IFMT(mode) != stat.S_IFMT(old.mode):
            raise _NoMatchError(f"the patch is for {_kind(mode)}, the tree has {_kind(old.mode)}")
    if change.old_blob is None:
        # A pure rename or mode change has no index line: there is no text that could land wrongly.
        return not change.hunks and change.payload is None
    if old.blob.startswith(change.old_blob):
        return True
    if recorded or change.payload is not None:
        raise _NoMatchError(f"the patch is based on blob {change.old_blob}, the tree has {old.blob}")
    return False


def _kind(mode: int) -> str:
    return "a symbolic link" if stat.S_ISLNK(mode) else "a file"


def _held_to_its_blob(change: FileChange, data: bytes, exact: bool) -> None:
    """A patch that says which blob it gives must give it."""
    if change.operation == "delete" or not exact or not change.new_blob:
        return
    blob = blob_id(data)
    if not blob.startswith(change.new_blob):
        why = f"the patch says that it gives blob {change.new_blob}, its text gives {blob}"
        raise _NoMatchError(why, kind=IntegrityError)


def _content(change: FileChange, old: File | None, exact: bool, offsets: list[tuple[str, int, int]]) -> bytes:
    before = old.data if old else b""
    if change.payload is not None:
        try:
            return b"" if change.operation == "delete" else binary.new_content(change.payload, before)
        except (ValueError, IndexError) as error:
            raise _NoMatchError(str(error)) from None
    try:
        result = apply_hunks(before, change.hunks, exact=exact)
    except HunkNotLocated as error:
        raise _NoMatchError(error.why, f"{error.hunk.number} ({error.hunk.header})") from None
    offsets += [
        (change.path, hunk.number, offset) for hunk, offset in zip(change.hunks, result.offsets, strict=True) if offset
    ]
    return result.data
