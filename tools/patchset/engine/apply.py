"""Applying a series to the files of a tree, in memory.

Law: a patch applies textually only where every blob that it touches equals the blob that it is based on.
A patch that names no blobs (quilt's) is located by its context, every line of it, and only where there is no
doubt; the result says so.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from patchset.engine import binary
from patchset.engine.hunks import HunkNotLocated, apply_hunks
from patchset.model.patch import FileChange, Patch
from patchset.store.objects import DIRECTORY, SYMLINK, File, TreeEntry, blob_id, new_file
from toolkit.errors import IntegrityError, PatchConflict, PatchsetError

Match = Literal["exact", "context", "outside"]
Files = dict[str, File | None]


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
                parts = path.split("/")
                for depth in range(1, len(parts) + 1):
                    paths["/".join(parts[:depth])] = None
    return tuple(paths)


def apply(
    patches: Sequence[Patch],
    entries: Mapping[str, TreeEntry],
    read: Callable[[str], bytes],
    *,
    covers: Sequence[str] = (),
    recorded: bool = True,
    label: str = "",
) -> tuple[PatchResult, ...]:
    """Apply patches in order to a tree that is known by its `entries` (see `read_paths`).

    `read` gives a blob's content by id. `covers` are globs of the paths that the source has at all (empty:
    all). A `recorded` series is held to the blobs that its patches name; a foreign one is located by context
    where they are not those of the tree. `label` names the series in errors.

    Raises:
        PatchConflict: a patch does not match; names patch, file and hunk.
        IntegrityError: a patch's text does not give the blob that it says it gives.
    """
    tree = _Tree(entries, read)
    results = []
    for patch in patches:
        outside = tuple(path for path in patch.touched if not _covered(path, covers))
        if outside and len(outside) == len(patch.touched):
            results.append(PatchResult(patch, "outside", {}, outside))
            continue
        files: Files = {}
        offsets: list[tuple[str, int, int]] = []
        exact = True
        for change in patch.changes:
            if any(path in outside for path in change.touched):
                continue
            try:
                exact &= _change(tree, change, files, offsets, recorded)
            except _NoMatchError as error:
                raise error.conflict(patch, change, label) from None
        tree.update(files)
        results.append(PatchResult(patch, "exact" if exact else "context", files, outside, tuple(offsets)))
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


class _Tree:
    """The base's entries, with the files that the patches so far have left."""

    def __init__(self, entries: Mapping[str, TreeEntry], read: Callable[[str], bytes]) -> None:
        self._entries = entries
        self._read = read
        self._files: Files = {}

    def get(self, path: str, pending: Files) -> File | None:
        for files in (pending, self._files):
            if path in files:
                return files[path]
        entry = self._entries.get(path)
        if entry is None or entry.mode == DIRECTORY:
            return None
        return File(entry.mode, entry.oid, self._read(entry.oid))

    def obstacle(self, path: str, pending: Files) -> str | None:
        """Return why nothing can be written at `path`: a file or link above it, a folder in its place."""
        parts = path.split("/")
        for depth in range(1, len(parts)):
            above = "/".join(parts[:depth])
            file = self.get(above, pending)
            if file is not None:
                return f"{above} is a symbolic link" if file.mode == SYMLINK else f"{above} is a file"
        entry = self._entries.get(path)
        if entry is not None and entry.mode == DIRECTORY:
            return f"{path} is a folder"
        return None

    def update(self, files: Files) -> None:
        self._files |= files


def _covered(path: str, covers: Sequence[str]) -> bool:
    return not covers or any(fnmatch.fnmatchcase(path, pattern) for pattern in covers)


def _change(tree: _Tree, change: FileChange, files: Files, offsets: list[tuple[str, int, int]], recorded: bool) -> bool:
    """Apply one file's change into `files`; return whether the blob was the one the patch names."""
    old: File | None = None
    source = change.old_path
    if source is not None:
        old = tree.get(source, files)
        if old is None:
            obstacle = tree.obstacle(source, files)
            raise _NoMatchError(obstacle or f"the tree has no file {source}")
    if change.new_path is not None and change.new_path != source:
        if tree.get(change.new_path, files) is not None:
            raise _NoMatchError(f"{change.new_path} exists already")
        if obstacle := tree.obstacle(change.new_path, files):
            raise _NoMatchError(obstacle)
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
        files[change.old_path or ""] = None
        return exact
    mode = change.new_mode or (old.mode if old else 0o100644)
    new = new_file(mode, data)
    if change.operation == "rename":
        files[change.old_path or ""] = None
    files[change.path] = new
    return exact


def _proved(change: FileChange, old: File | None, recorded: bool) -> bool:
    """Return whether the file is the one that the patch is based on, by its blob id."""
    if old is None:
        return True
    if change.old_mode is not None and change.old_mode != old.mode and recorded:
        raise _NoMatchError(f"the patch is for mode {change.old_mode:o}, the file has {old.mode:o}")
    if change.old_blob is None:
        # A pure rename or mode change has no index line: there is no text that could land wrongly.
        return not change.hunks and change.payload is None
    if old.blob.startswith(change.old_blob):
        return True
    if recorded or change.payload is not None:
        raise _NoMatchError(f"the patch is based on blob {change.old_blob}, the tree has {old.blob}")
    return False


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
