"""Finished work is kept under a name made of everything that it depends on, so that a second run goes on."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import platformdirs

from toolkit.errors import EnvironmentProblem

ANSWER = "answer.json"


def default_folder() -> Path:
    """Return where stages are kept, unless `REGRESSION_CACHE` says otherwise."""
    named = os.environ.get("REGRESSION_CACHE")
    return Path(named) if named else Path(platformdirs.user_cache_dir("patchset")) / "regression"


def named_files(*paths: Path) -> Iterator[tuple[str, Path]]:
    """Yield files, and all files below folders, each with its name from there on."""
    for path in paths:
        files = sorted(item for item in path.rglob("*") if item.is_file()) if path.is_dir() else [path]
        yield from ((str(file.relative_to(path.parent)), file) for file in files if "__pycache__" not in file.parts)


def sha256_of(file: Path) -> str:
    """Return the sha256 of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest(*paths: Path, sha256: Callable[[Path], str] = sha256_of) -> str:
    """Return the sha256 of files, and of all files below folders, with their names; `sha256` reads one."""
    made = hashlib.sha256()
    for name, file in named_files(*paths):
        made.update(f"{name}\0{sha256(file)}\n".encode())
    return made.hexdigest()


class Stages:
    """A folder of finished stages; each holds what its work wrote, and the answer in `answer.json`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str, inputs: Mapping[str, object]) -> Path:
        """Return the folder of the stage `name` with these inputs, finished or not."""
        key = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]
        return self.folder / f"{name}-{key}"

    def run(self, name: str, inputs: Mapping[str, object], work: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
        """Return the answer of a stage; `work` makes it, in the folder that it is given, if it is not there.

        Raises:
            EnvironmentProblem: the disk is full.

        An error of `work` leaves the folder as it is for a look at its logs; the next run starts it anew.
        """
        found = self.finished(name, inputs)
        if found is not None:
            return found
        with self.whole_disk():
            made = work(self.begin(name, inputs))
            self.finish(name, inputs, made)
            return made

    def finished(self, name: str, inputs: Mapping[str, object]) -> dict[str, Any] | None:
        """Return the answer of a stage that is finished."""
        answer = self.path(name, inputs) / ANSWER
        return json.loads(answer.read_text()) if answer.is_file() else None

    def begin(self, name: str, inputs: Mapping[str, object]) -> Path:
        """Return a stage's folder, emptied."""
        folder = self.path(name, inputs)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "inputs.json").write_text(json.dumps(inputs, indent=1, sort_keys=True) + "\n")
        return folder

    def finish(self, name: str, inputs: Mapping[str, object], made: Mapping[str, Any]) -> None:
        """Keep the answer of a stage."""
        answer = self.path(name, inputs) / ANSWER
        temporary = answer.with_suffix(".tmp")
        temporary.write_text(json.dumps(made, indent=1) + "\n")
        temporary.replace(answer)

    @contextmanager
    def whole_disk(self) -> Iterator[None]:
        """Turn what the system says of a full disk into our own words."""
        try:
            yield
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            remedy = "free some, and run again: finished steps are kept"
            raise EnvironmentProblem(f"{self.folder}: no space left on the disk", remedy=remedy) from None

    def forget(self, *names: str) -> None:
        """Remove all finished stages of these names."""
        for name in names:
            for folder in self.folder.glob(f"{name}-*"):
                shutil.rmtree(folder)
