"""What the tool remembers of a work tree: which series it put there, and how the files looked then.

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
    """A patch of the applied series: its commit (None where it is outside the source) and placement."""

    name: str
    commit: str | None
    placement: str
    outside: tuple[str, ...] = ()


@dataclass(frozen=True)
class State:
    """One application of a series.

    `digest` is the series', `base_commit` and `tip` the commits before and after it, `tree` the tree after it,
    `stats` what lstat(2) said of every touched file (None: it is not there) when it had just been written,
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


def load(file: Path) -> State | None:
    """Read the state, or return None where there is none that can be used."""
    try:
        values: dict[str, Any] = json.loads(file.read_bytes())
        if values.pop("schema") != SCHEMA:
            return None
        patches = tuple(
            AppliedPatch(item["name"], item["commit"], item["placement"], tuple(item["outside"]))
            for item in values.pop("patches")
        )
        stats = {path: tuple(stat) if stat else None for path, stat in values.pop("stats").items()}
        return State(patches=patches, stats=stats, **values)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def dump(state: State) -> bytes:
    return json.dumps({"schema": SCHEMA, **asdict(state)}, indent=1).encode()


def stat_of(path: Path) -> Stat | None:
    """Return mtime (ns), size, inode and mode of a file, or None where there is none."""
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return (found.st_mtime_ns, found.st_size, found.st_ino, found.st_mode)


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
