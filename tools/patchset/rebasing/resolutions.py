"""Resolutions of conflicts, remembered: the same three versions of a file conflict the same way, whatever the patch.

Like git's rerere, a resolution is kept under its contents, not its place: here under the blobs of the three stages.
Changes beside the conflicted files are kept under all stages together, and used only where those files are the same.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from patchset.store.difference import diff
from patchset.store.git import Git
from patchset.store.index import Stage, edit_tree
from patchset.store.merge import MergeResult
from patchset.store.objects import DIRECTORY, TreeEntry, blobs, entries
from patchset.store.text import encode
from toolkit.files import replace_file

Resolved = dict[str, tuple[int, bytes] | None]


class Resolutions:
    """The remembered resolutions of a component, a file each in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, git: Git, merged: MergeResult) -> str | None:
        """Return the tree in which a conflicted merge is resolved, or None where a part of it is not known."""
        files: Resolved = {}
        for path in merged.paths:
            resolution = self._load(_key(stage for stage in merged.stages if stage.path == path))
            if resolution is None:
                return None
            files[path] = _file(resolution["after"])
        beside = self._load(_whole(merged))
        if beside is None and not merged.paths:
            return None
        if beside is not None:
            known = entries(git, merged.tree, beside["files"])
            for path, change in beside["files"].items():
                if _name(known.get(path)) != change["before"]:
                    return None
                files[path] = _file(change["after"])
        return edit_tree(git, merged.tree, files)

    def record(self, git: Git, merged: MergeResult, tree: str) -> None:
        """Remember `tree` as the resolution of a merge."""
        changed = diff(git, merged.tree, tree)
        beside = {path: pair for path, pair in changed.items() if path not in merged.paths}
        after = {**entries(git, tree, merged.paths), **{path: new for path, (_, new) in beside.items() if new}}
        contents = blobs(git, {entry.oid for entry in after.values()})
        for path in merged.paths:
            key = _key(stage for stage in merged.stages if stage.path == path)
            self._save(key, {"path": path, "after": _content(after.get(path), contents)})
        files = {path: {"before": _name(old), "after": _content(new, contents)} for path, (old, new) in beside.items()}
        if files or not merged.paths:
            self._save(_whole(merged), {"files": files})

    def _load(self, key: str) -> dict[str, Any] | None:
        try:
            values: dict[str, Any] = json.loads((self._folder / f"{key}.json").read_bytes())
        except (OSError, ValueError):
            return None
        return values

    def _save(self, key: str, values: dict[str, object]) -> None:
        replace_file(self._folder / f"{key}.json", json.dumps(values))


def _key(stages: Iterable[Stage]) -> str:
    named = sorted(f"{stage.number} {stage.entry.mode:o} {stage.entry.oid}" for stage in stages)
    return hashlib.sha256("\n".join(named).encode()).hexdigest()


def _whole(merged: MergeResult) -> str:
    named = sorted(f"{item.number} {item.entry.mode:o} {item.entry.oid} {item.path}" for item in merged.stages)
    text = "\n".join(["whole", *(named or [merged.tree])])
    return hashlib.sha256(encode(text)).hexdigest()


def _name(entry: TreeEntry | None) -> str | None:
    """Return mode and blob of a file; None for a folder, in whose place a file is to be."""
    return f"{entry.mode:o} {entry.oid}" if entry and entry.mode != DIRECTORY else None


def _content(entry: TreeEntry | None, contents: dict[str, bytes]) -> list[object] | None:
    return [entry.mode, base64.b64encode(contents[entry.oid]).decode()] if entry else None


def _file(value: Any) -> tuple[int, bytes] | None:
    return (int(value[0]), base64.b64decode(value[1])) if value is not None else None
