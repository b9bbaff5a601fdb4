"""The folder of a series on disk, written whole: the new one appears in one step, or replaces the old one so."""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

_AT_FDCWD = -100
_EXCHANGE = 2


def write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Make `folder` hold just `files` (name -> content); everything else in it is removed.

    A file whose content does not change keeps its times. Killed at any moment, the folder is the old or the new one.
    """
    stage = folder.parent / f".{folder.name}.new"
    if stage.exists():
        shutil.rmtree(stage)
    stage.mkdir(parents=True)
    for name, data in files.items():
        file = stage / name
        file.parent.mkdir(parents=True, exist_ok=True)
        old = folder / name
        if old.is_file() and not old.is_symlink() and old.read_bytes() == data:
            os.link(old, file)
        else:
            file.write_bytes(data)
    if not folder.exists():
        os.rename(stage, folder)
        return
    if not _exchange(stage, folder):
        # Without an exchange of names there is a moment in which neither is there.
        away = folder.parent / f".{folder.name}.old"
        os.rename(folder, away)
        os.rename(stage, folder)
        stage = away
    shutil.rmtree(stage)


def read(folder: Path) -> dict[str, bytes]:
    """Return every file of a folder, by its name relative to it."""
    if not folder.is_dir():
        return {}
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step by renameat2(2); return False where the system does not support it."""
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    return bool(call(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _EXCHANGE) == 0)
