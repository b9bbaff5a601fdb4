"""What all steps share: environments, kept stages, overlays, and how a process is run and judged."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

from patchset.model.series import Series
from regression.effects.machine import Hardware, Python
from regression.effects.overlay import Overlay, build
from regression.effects.process import Ended, environment
from regression.effects.stages import Stages, digest, named_files, sha256_of
from regression.model.scenario import Edit
from toolkit.errors import EnvironmentProblem, PatchsetError
from toolkit.progress import Reporter

INSIDE = Path(__file__).parents[1] / "inside"
SITE = INSIDE / "site"


class Unfinished(PatchsetError):
    """A step that came to no result: out of time or memory. It is not kept."""

    exit_code = 14
    slug = "unfinished"


_ERROR = re.compile(r"\w(Error|Exception|Interrupt): |^the quantized model")


@dataclass(frozen=True)
class Variant:
    """How an upstream is changed: not at all, by its series, by all but one patch, with a planted defect."""

    series: Series | None = None
    without: str | None = None
    edits: tuple[Edit, ...] = ()

    @property
    def words(self) -> str:
        """What it is, for people."""
        if self.series is None:
            return "as released"
        if self.edits:
            return "with the series and a planted defect"
        return f"without {self.without}" if self.without else "with the series"


@dataclass
class Bench:
    """Where scenarios run: `parallel` processes at a time. `spent` is what each process took."""

    stages: Stages
    reporter: Reporter
    quantize: Python
    serve: Python
    hardware: Hardware
    parallel: int = 1
    spent: list[dict[str, Any]] = field(default_factory=list)
    _overlays: dict[str, Overlay] = field(default_factory=dict)
    _contents: dict[Path, str] = field(default_factory=dict)

    def digest(self, *paths: Path) -> str:
        """Return the sha256 of files, and of finished folders; each file is read once in a session."""
        unread = [file for _, file in named_files(*paths) if file not in self._contents]
        read = list(accumulate(file.stat().st_size for file in unread))
        with self.reporter.task(f"read {paths[0].name}", read[-1] if read else 0, "bytes") as task:
            for file, done in zip(unread, read, strict=True):
                self._contents[file] = sha256_of(file)
                task.update(done)
        return digest(*paths, sha256=self._contents.__getitem__)

    def overlay(self, package: str, python: Python, variant: Variant) -> Overlay | None:
        """Return the changed package, made once in a session; None where it is as released.

        Raises:
            EnvironmentProblem: it is not in the environment.
        """
        if variant.series is None:
            return None
        if package not in python.sites:
            raise EnvironmentProblem(f"{python.path} has no {package}", remedy="name an environment that it is in")
        planted = hashlib.sha256(repr(variant.edits).encode()).hexdigest()[:8] if variant.edits else "none"
        key = f"{package}-without-{variant.without or 'none'}-planted-{planted}"
        if key not in self._overlays:
            folder = self.stages.folder / "overlays" / key
            made = build(folder, python.sites[package], package, variant.series, variant.without, variant.edits)
            self._overlays[key] = made
        return self._overlays[key]

    def inputs(self, python: Python, changed: Overlay | None, *scripts: str) -> dict[str, object]:
        """Return what a step depends on beside its job: versions, changed files, our own scripts, the machine."""
        return {
            "versions": python.versions,
            "changed": dict(changed.blobs) if changed is not None else {},
            "scripts": digest(*(INSIDE / f"{name}.py" for name in ("asking", "telling", *scripts))),
            "hardware": [self.hardware.cpu, *self.hardware.gpus],
        }

    def environment(self, changed: Overlay | None, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the environment of an upstream's process."""
        paths = [str(SITE), *([str(changed.folder)] if changed is not None else [])]
        threads = str(self.hardware.cores)
        # Threads that wait by spinning take the processor from those that work, where several processes run.
        common = {"PYTHONPATH": ":".join(paths), "OMP_NUM_THREADS": threads, "OMP_WAIT_POLICY": "PASSIVE"}
        return environment(**common, **(more or {}))


def raise_unfinished(title: str, ended: Ended, timeout: float, log: Path) -> None:
    """Raise where a process came to no result of its own."""
    if ended.cause == "timeout":
        remedy = f"raise `timeout` in the scenario, or look into {log}"
        raise Unfinished(f"{title}: not done within {timeout:.0f} s", remedy=remedy)
    if ended.cause == "memory":
        raise Unfinished(f"{title}: out of memory at {ended.peak / 2**30:.1f} GiB", remedy="free some, and run again")
    if ended.cause == "disk":
        raise EnvironmentProblem(f"{title}: no space left on the disk", remedy="free some, and run again: it goes on")


def read_said(folder: Path) -> dict[str, Any]:
    """Return what a script wrote down."""
    found: dict[str, Any] = json.loads((folder / "said.json").read_text())
    return found


def last_error(tail: str) -> str:
    """Return the line of a Python traceback that says what was wrong: the last one that names an exception."""
    lines = [line.strip() for line in tail.splitlines()]
    # Worker processes prefix their words.
    named = [number for number, line in enumerate(lines) if _ERROR.search(line)]
    if not named:
        return next((line for line in reversed(lines) if line), "nothing was said")
    found = lines[named[-1]]
    # pydantic says what is wrong on the line after.
    more = lines[named[-1] + 1] if "validation error" in found and named[-1] + 1 < len(lines) else ""
    return f"{found}: {more.partition(' [type=')[0]}" if more else found
