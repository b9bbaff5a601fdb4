"""The remembered state of a work tree: the series that was applied there, and lstat(2) of its files then.

The state is a cache of proofs, never an authority: where it is lost or old, everything is computed again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

SCHEMA = 1
Stat = tuple[int, int, int, int]


@dataclass(frozen=True)
class AppliedPatch:
    """A patch of the applied series: its commit (None where it is outside the source) and its `engine.apply.Match`."""

    name: str
    commit: str | None
    match: str
    outside: tuple[str, ...] = ()


@dataclass(frozen=True)
class WorktreeState:
    """One application of a series.

    `digest` is the series', `base_commit` and `tip` the commits before and after it, `tree` the tree after it,
    `stats` the lstat(2) of every touched file (None: it is not there) when it had just been written,
    `branch` the one that the work tree was on before, to go back to.
    """

    base: str
    source: str
    digest: str
    base_commit: str
    tip: str
    tree: str
    patches: tuple[AppliedPatch, ...]
    branch: str | None = None
    stats: dict[str, Stat | None] = field(default_factory=dict)


def load(file: Path) -> WorktreeState | None:
    """Read the state, or return None where there is none that can be used."""
    try:
        values: dict[str, Any] = json.loads(file.read_bytes())
        if values.pop("schema") != SCHEMA:
            return None
        patches = parse_patches(values.pop("patches"))
        stats = {path: tuple(stat) if stat else None for path, stat in values.pop("stats").items()}
        return WorktreeState(patches=patches, stats=stats, **values)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def parse_patches(items: Iterable[dict[str, Any]]) -> tuple[AppliedPatch, ...]:
    """Return the patches of a file that `dump` or an earlier version wrote; `match` was called `placement` there.

    Raises:
        KeyError: a key is missing.
    """
    return tuple(
        AppliedPatch(item["name"], item["commit"], item.get("match") or item["placement"], tuple(item["outside"]))
        for item in items
    )


def dump(state: WorktreeState) -> bytes:
    return json.dumps({"schema": SCHEMA, **asdict(state)}, indent=1).encode()


def stat_of(path: Path) -> Stat | None:
    """Return mtime (ns), size, inode and mode of a file, or None where there is none."""
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return (status.st_mtime_ns, status.st_size, status.st_ino, status.st_mode)


def stats(work_tree: Path, paths: Iterable[str]) -> dict[str, Stat | None]:
    return {path: stat_of(work_tree / path) for path in paths}


def head(gitdir: Path) -> tuple[str | None, str | None]:
    """Return HEAD's branch (None if detached) and commit, from loose files alone.

    The commit is None where only git can tell (a packed ref, another ref storage).
    """
    try:
        text = (gitdir / "HEAD").read_text("ascii").strip()
        if not text.startswith("ref: "):
            return None, text
        branch = text.removeprefix("ref: ")
        return branch, (gitdir / branch).read_text("ascii").strip()
    except (OSError, ValueError):
        return None, None
