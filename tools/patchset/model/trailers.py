"""The trailers of a patch: where it stands upstream, which releases it is for, which test it has.

`Upstream-Status` uses the vocabulary of the Yocto Project's "Patch Upstream Status" recommendation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.version import InvalidVersion, Version

from toolkit.finding import Finding

# status -> what must stand in brackets after it: None (may), or what is missing without it
STATUSES: dict[str, str | None] = {
    "Pending": None,
    "Submitted": "where, as a link",
    "Backport": "the commit or release that has it",
    "Denied": "the reason or a link",
    "Inactive-Upstream": "the last commit or release",
    "Inappropriate": "the reason",
}
REQUIRED = ("Upstream-Status", "Applies-To", "Tested-By")
_TRAILER = re.compile(r"^([A-Z][A-Za-z]*(?:-[A-Za-z]+)*): ?(.*)$")
_STATUS = re.compile(r"^([A-Za-z-]+)(?:\s+\[(.*)\])?\s*$")
_RANGE = re.compile(r"^\[\s*(\S+?)\s*,\s*(\S*?)\s*\)$")


@dataclass(frozen=True)
class Trailer:
    """One trailer; `line` counts from 1 in the patch file."""

    key: str
    value: str
    line: int


@dataclass(frozen=True)
class UpstreamStatus:
    """A status of Yocto's vocabulary with what stands in brackets after it."""

    status: str
    reason: str


@dataclass(frozen=True)
class ReleaseRange:
    """Releases from `first` up to, not including, `end`; no end where it is None."""

    first: str
    end: str | None

    def __contains__(self, release: str) -> bool:
        version = release_version(release)
        after = version >= release_version(self.first)
        return after and (self.end is None or version < release_version(self.end))


def release_version(release: str) -> Version:
    """Return a release's name (`v0.30.0`, `0.46.0`) as an ordered version.

    Raises:
        packaging.version.InvalidVersion: it is none.
    """
    return Version(release)


def trailers(header: str) -> Iterator[Trailer]:
    """Yield the trailers of a patch's header, wherever they stand in the message's last paragraph."""
    lines = header.split("\n")
    end = next((at for at, line in enumerate(lines) if line == "---"), len(lines))
    while end and not lines[end - 1].strip():
        end -= 1
    start = end
    while start and lines[start - 1].strip():
        start -= 1
    for at in range(start, end):
        if match := _TRAILER.match(lines[at]):
            yield Trailer(match[1], match[2].strip(), at + 1)


def upstream_status(value: str) -> UpstreamStatus:
    """Parse the value of `Upstream-Status`.

    Raises:
        ValueError: the status is unknown, or lacks the reason that it wants.
    """
    match = _STATUS.match(value)
    name = match[1] if match else value.split("[")[0].strip()
    if match is None or name not in STATUSES:
        raise ValueError(f"unknown status {name!r}; one of {', '.join(STATUSES)}")
    reason = (match[2] or "").strip()
    if (wanted := STATUSES[name]) and not reason:
        raise ValueError(f"{name} wants {wanted} in brackets: {name} [...]")
    return UpstreamStatus(name, reason)


def release_range(value: str) -> ReleaseRange:
    """Parse the value of `Applies-To`, a half-open range such as `[v0.26.0, v0.34.0)`.

    Raises:
        ValueError: it is no such range, or it is empty.
    """
    match = _RANGE.match(value)
    if match is None:
        raise ValueError("not a half-open range of releases such as [v0.26.0, v0.34.0)")
    found = ReleaseRange(match[1], match[2] or None)
    try:
        first = release_version(found.first)
        end = release_version(found.end) if found.end else None
    except InvalidVersion as error:
        raise ValueError(f"{error}".replace("Invalid version", "not a release")) from None
    if end is not None and first >= end:
        raise ValueError(f"the range is empty: {found.first} is not before {found.end}")
    return found


def lint_trailers(file: Path, header: str, base: str | None, root: Path | None) -> list[Finding]:
    """Return every breach in a patch's trailers.

    `base` is the release that the series is for (it must lie in `Applies-To`), `root` the project in which
    the tests that `Tested-By` names must exist; either may be None where it is not known.
    """
    findings: list[Finding] = []
    seen: dict[str, Trailer] = {}
    lines = header.split("\n")

    def add(trailer: Trailer, message: str) -> None:
        text = lines[trailer.line - 1]
        column = len(trailer.key) + 3
        findings.append(Finding(file, f"{trailer.key}: {message}", trailer.line, column, len(trailer.value), text))

    for trailer in trailers(header):
        if trailer.key in seen and trailer.key != "Tested-By":
            add(trailer, f"stands twice, first on line {seen[trailer.key].line}")
            continue
        seen[trailer.key] = trailer
        try:
            if trailer.key == "Upstream-Status":
                upstream_status(trailer.value)
            elif trailer.key == "Applies-To":
                found = release_range(trailer.value)
                if base is not None and base not in found:
                    add(trailer, f"leaves out {base}, the base of this series")
            elif trailer.key == "Tested-By":
                _lint_test(trailer, root, add)
            elif trailer.key == "Build-Route" and trailer.value != "source":
                add(trailer, "the only value is `source`")
        except (ValueError, InvalidVersion) as error:
            add(trailer, str(error))
    for key in REQUIRED:
        if key not in seen:
            findings.append(Finding(file, f"has no {key} trailer"))
    return findings


def _lint_test(trailer: Trailer, root: Path | None, add: Callable[[Trailer, str], None]) -> None:
    path, _, name = trailer.value.partition("::")
    if not path or not name:
        add(trailer, "names no test; the form is tests/file.py::test_name")
        return
    if root is None:
        return
    test = root / path
    if not test.is_file():
        add(trailer, f"there is no file {path}")
    elif name.split("::")[-1].split("[")[0] not in test.read_text("utf-8"):
        add(trailer, f"{path} holds no {name}")
