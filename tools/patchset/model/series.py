"""A series folder: `series`, its patches and `base.toml`, read into frozen values."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Container
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath

from patchset.model.component import Base, Component
from patchset.model.patch import Patch, parse
from patchset.model.trailers import UpstreamStatus, status_in, values
from toolkit.finding import Finding

_STRIP = re.compile(r"^-p(\d+|ab)$")


@dataclass(frozen=True)
class SeriesEntry:
    """One line of `series`: a patch's file name and how many path components to drop."""

    name: str
    strip: int
    line: int

    @property
    def patch_name(self) -> str:
        return PurePosixPath(self.name).stem


# An entry with the bytes of its patch.
PatchFile = tuple[SeriesEntry, bytes]


@dataclass(frozen=True)
class Series:
    """The ordered patches of one component for one base; `folder` is where they stand.

    `disabled` are the patch files beside them whose line in `series` is commented out.
    """

    component: Component
    base: Base
    folder: Path
    patch_files: tuple[PatchFile, ...]
    disabled: tuple[str, ...] = ()

    @property
    def entries(self) -> tuple[SeriesEntry, ...]:
        return tuple(entry for entry, _ in self.patch_files)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the patches, without `.patch`."""
        return tuple(entry.patch_name for entry, _ in self.patch_files)

    @cached_property
    def digest(self) -> str:
        """The sha256 of everything that decides the patched tree: base, order, patches."""
        hasher = hashlib.sha256()
        hasher.update(f"{self.component.name}\0{self.base.name}\0{self.base.commit or ''}\0".encode())
        for entry, data in self.patch_files:
            hasher.update(f"{entry.name}\0{entry.strip}\0{hashlib.sha256(data).hexdigest()}\0".encode())
        return hasher.hexdigest()

    @cached_property
    def _parsed(self) -> tuple[tuple[Patch, ...], tuple[Finding, ...]]:
        patches: list[Patch] = []
        findings: list[Finding] = []
        for entry, data in self.patch_files:
            patch, breaches = parse(self.folder / entry.name, data, entry.strip)
            findings += breaches
            if patch is not None:
                patches.append(patch)
        return tuple(patches), tuple(findings)

    @property
    def patches(self) -> tuple[Patch, ...]:
        """The parsed patches; those with findings that prevent parsing are missing (see `findings`)."""
        return self._parsed[0]

    @property
    def findings(self) -> tuple[Finding, ...]:
        return self._parsed[1]

    @property
    def title(self) -> str:
        return self.component.title(self.base)

    def patch(self, name: str) -> Patch:
        """Return the parsed patch of a name.

        Raises:
            StopIteration: there is none of that name that can be parsed.
        """
        return next(patch for patch in self.patches if patch.name == name)

    def without(self, names: Container[str]) -> Series:
        """Return the series without some patches."""
        return replace(self, patch_files=tuple(item for item in self.patch_files if item[0].patch_name not in names))


def read_entries(file: Path) -> tuple[tuple[SeriesEntry, ...], tuple[str, ...], list[Finding]]:
    """Read a quilt `series` file: a patch a line, `-pN` after it, `#` for comments.

    An entry is a plain file name beside the `series` file, or below it. Every patch file there is an entry, or a
    comment begins with its name. Return the entries, the files that are commented out, and the breaches.
    """
    findings: list[Finding] = []
    entries: dict[str, SeriesEntry] = {}
    try:
        text = file.read_text("utf-8")
    except UnicodeDecodeError as error:
        return (), (), [Finding(file, f"is not UTF-8: byte {error.start}")]
    lines = text.split("\n")
    commented = {match[1].rstrip(":,;") for line in lines if (match := re.match(r"\s*#+\s*(\S+)", line))}
    for number, raw in enumerate(lines, 1):
        text = re.sub(r"(?:^|\s)#.*$", "", raw).strip()
        if not text:
            continue
        name, *options = text.split()
        strip = 1
        for option in options:
            match = _STRIP.match(option)
            if match is None:
                message = f"the option {option} is not supported; only -pN is"
                findings.append(Finding(file, message, number, raw.find(option) + 1, len(option), raw))
            else:
                strip = 1 if match[1] == "ab" else int(match[1])
        column = raw.find(name) + 1
        parts = name.split("/")
        if name.startswith("/") or ".." in parts or "\\" in name:
            findings.append(Finding(file, "a patch outside the series folder", number, column, len(name), raw))
        elif name in entries:
            message = f"{name} stands twice, first on line {entries[name].line}"
            findings.append(Finding(file, message, number, column, len(name), raw))
        elif not (file.parent / name).is_file():
            findings.append(Finding(file, f"there is no patch {name}", number, column, len(name), raw))
        else:
            entries[name] = SeriesEntry(name, strip, number)
    disabled = []
    for path in sorted(file.parent.rglob("*")):
        name = path.relative_to(file.parent).as_posix()
        if path.suffix not in (".patch", ".diff") or name in entries:
            continue
        if name in commented:
            disabled.append(name)
        else:
            findings.append(Finding(path, "is not listed in `series`; list it, or put its name there after a #"))
    return tuple(entries.values()), tuple(disabled), findings


def load(component: Component, base: Base) -> tuple[Series | None, list[Finding]]:
    """Read a series from its base's folder; the second value holds the breaches of `series` itself."""
    file = base.folder / "series"
    if not file.is_file():
        return None, [Finding(file, "there is no such file; list the patches in it, one a line")]
    entries, disabled, findings = read_entries(file)
    if findings:
        return None, findings
    files = tuple((entry, (base.folder / entry.name).read_bytes()) for entry in entries)
    return Series(component, base, base.folder, files, disabled), []


def status_of(patch: Patch) -> UpstreamStatus | None:
    """Return the patch's `Upstream-Status`, or None if it has no valid one."""
    return status_in(patch.header)


def source_only(patch: Patch) -> bool:
    """Return True if the patch is left out of an overlay, by its trailer `Build-Route: source`."""
    return "source" in values(patch.header, "Build-Route")
