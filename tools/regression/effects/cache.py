"""Finished steps are kept under a name derived from everything that they depend on, so that a second run goes on."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import platformdirs

from toolkit.errors import EnvironmentProblem
from toolkit.files import replace_file, sha256_of

ANSWER = "answer.json"
LONG = 90 * 24 * 3600  # seconds without a use
# Folders that versions up to this one named so: no step is kept under such a name.
OLD_NAMES = ("kit", "own", "overlays")


def default_folder() -> Path:
    """Return the user's cache, unless `REGRESSION_CACHE` names another folder."""
    folder = os.environ.get("REGRESSION_CACHE")
    return Path(folder) if folder else Path(platformdirs.user_cache_dir("patchset")) / "regression"


def named_files(*paths: Path) -> Iterator[tuple[str, Path]]:
    """Yield files, and all files below folders, each with its name from there on."""
    for path in paths:
        files = sorted(item for item in path.rglob("*") if item.is_file()) if path.is_dir() else [path]
        yield from ((str(file.relative_to(path.parent)), file) for file in files if "__pycache__" not in file.parts)


def digest(*paths: Path, sha256: Callable[[Path], str] = sha256_of) -> str:
    """Return the sha256 of files, and of all files below folders, with their names; `sha256` reads one."""
    total = hashlib.sha256()
    for name, file in named_files(*paths):
        total.update(f"{name}\0{sha256(file)}\n".encode())
    return total.hexdigest()


class StepCache:
    """A folder of finished steps; each has a folder with the files of its work, and its answer in `answer.json`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str, inputs: Mapping[str, object]) -> Path:
        """Return the folder of the step `name` with these inputs, finished or not."""
        key = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]
        return self.folder / f"{name}-{key}"

    def run(self, name: str, inputs: Mapping[str, object], work: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
        """Return the answer of a step; `work` computes it, in the folder that it is given, if it is not there.

        Raises:
            EnvironmentProblem: the disk is full.

        An error of `work` leaves the folder with its logs as it is; the next run starts it anew.
        """
        answer = self.answer(name, inputs)
        if answer is not None:
            return answer
        with self.whole_disk():
            answer = work(self.begin(name, inputs))
            self.keep(name, inputs, answer)
            return answer

    def answer(self, name: str, inputs: Mapping[str, object]) -> dict[str, Any] | None:
        """Return the answer of a finished step, or None; its file's time is that of the last use."""
        file = self.path(name, inputs) / ANSWER
        if not file.is_file():
            return None
        with suppress(OSError):
            os.utime(file)
        answer: dict[str, Any] = json.loads(file.read_text())
        return answer

    def begin(self, name: str, inputs: Mapping[str, object]) -> Path:
        """Return a step's folder, emptied."""
        folder = self.path(name, inputs)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "inputs.json").write_text(json.dumps(inputs, indent=1, sort_keys=True) + "\n")
        return folder

    def keep(self, name: str, inputs: Mapping[str, object], answer: Mapping[str, Any]) -> None:
        """Keep the answer of a step."""
        replace_file(self.path(name, inputs) / ANSWER, json.dumps(answer, indent=1) + "\n")

    @contextmanager
    def whole_disk(self) -> Iterator[None]:
        """Turn the system's error of a full disk into one with a remedy."""
        try:
            yield
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            remedy = "free some, and run again: finished steps are kept"
            raise EnvironmentProblem(f"{self.folder}: no space left on the disk", remedy=remedy) from None

    def forget(self, *names: str) -> None:
        """Remove all finished steps of these names."""
        for name in names:
            for folder in self.folder.glob(f"{name}-*"):
                shutil.rmtree(folder)

    def unused(self) -> list[Path]:
        """Return the folders that an earlier version left, and those of steps that were not used for LONG.

        Nothing here removes them: a folder of `make-model` may be the user's model.
        """
        before = time.time() - LONG
        return [
            folder
            for folder in sorted(self.folder.glob("*"))
            if folder.name.partition("-")[0] in OLD_NAMES
            or ((folder / ANSWER).is_file() and (folder / ANSWER).stat().st_mtime < before)
        ]
