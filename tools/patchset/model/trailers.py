"""The trailers of a patch: its upstream status, the releases that it is for, and its test.

`Upstream-Status` uses the vocabulary of the Yocto Project's "Patch Upstream Status" recommendation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.version import InvalidVersion, Version

from toolkit.finding import Finding

# status -> the reason that must stand in brackets after it; None: a reason is optional
STATUSES: dict[str, str | None] = {
    "Pending": None,
    "Submitted": "where, as a link",
    "Backport": "the commit or release that has it",
    "Denied": "the reason or a link",
    "Inactive-Upstream": "the last commit or release",
    "Inappropriate": "the reason",
}
_LINE = re.compile(r"^([A-Z][A-Za-z]*(?:-[A-Za-z]+)*): ?(.*)$")
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
    """A status of Yocto's vocabulary with the reason in brackets after it."""

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


def parse_line(line: str) -> tuple[str, str] | None:
    """Return a trailer line's key and value; None for any other line."""
    match = _LINE.match(line)
    return (match[1], match[2].strip()) if match else None


def trailers(header: str) -> Iterator[Trailer]:
    """Yield the trailers of a patch's header: the trailer lines of the message's last paragraph."""
    lines = header.split("\n")
    end = next((at for at, line in enumerate(lines) if line == "---"), len(lines))
    while end and not lines[end - 1].strip():
        end -= 1
    start = end
    while start and lines[start - 1].strip():
        start -= 1
    for at in range(start, end):
        if pair := parse_line(lines[at]):
            yield Trailer(*pair, at + 1)


def current_line(line: str) -> str:
    """Return a trailer line in the current form.

    Series of earlier versions have `Tested-By: tests/file.py::name`; in git that trailer names a person.
    """
    key, value = parse_line(line) or ("", "")
    return f"Test: {value}" if key == "Tested-By" and "::" in value else line


def current(header: str) -> str:
    """Return a patch's header, or a message, with its trailers in the current form."""
    lines = header.split("\n")
    for trailer in trailers(header):
        lines[trailer.line - 1] = current_line(lines[trailer.line - 1])
    return "\n".join(lines)


def values(header: str, key: str) -> list[str]:
    """Return the values of all trailers of a patch's header that have this key; those of the old form as well."""
    return [item.value for item in trailers(current(header)) if item.key == key]


def value(header: str, key: str) -> str | None:
    """Return the value of the first trailer with this key, or None if the header has none."""
    return next(iter(values(header, key)), None)


def status_in(header: str) -> UpstreamStatus | None:
    """Return the `Upstream-Status` of a patch's header, or None if it has no valid one."""
    try:
        return upstream_status(value(header, "Upstream-Status") or "")
    except ValueError:
        return None


def upstream_status(text: str) -> UpstreamStatus:
    """Parse the value of `Upstream-Status`.

    Raises:
        ValueError: the status is unknown, or lacks its reason.
    """
    match = _STATUS.match(text)
    name = match[1] if match else text.split("[")[0].strip()
    if match is None or name not in STATUSES:
        raise ValueError(f"unknown status {name!r}; one of {', '.join(STATUSES)}")
    reason = (match[2] or "").strip()
    if (needed := STATUSES[name]) and not reason:
        raise ValueError(f"{name} wants {needed} in brackets: {name} [...]")
    return UpstreamStatus(name, reason)


def release_range(text: str) -> ReleaseRange:
    """Parse the value of `Applies-To`, a half-open range such as `[v0.26.0, v0.34.0)`.

    Raises:
        ValueError: it is no such range, or it is empty.
    """
    match = _RANGE.match(text)
    if match is None:
        raise ValueError("not a half-open range of releases such as [v0.26.0, v0.34.0)")
    releases = ReleaseRange(match[1], match[2] or None)
    try:
        first = release_version(releases.first)
        end = release_version(releases.end) if releases.end else None
    except InvalidVersion as error:
        raise ValueError(f"{error}".replace("Invalid version", "not a release")) from None
    if end is not None and first >= end:
        raise ValueError(f"the range is empty: {releases.first} is not before {releases.end}")
    return releases


@dataclass(frozen=True)
class LintContext:
    """The facts that a value is checked against: the series' release, the project with its tests; None if unknown."""

    base: str | None
    root: Path | None


@dataclass(frozen=True)
class TrailerRule:
    """One trailer of the format; `hint` is the form of the value, which `patchset new` shows at its prompt.

    `check` raises ValueError with the reason to refuse a value. A trailer stands once, unless it is `repeatable`.
    """

    key: str
    hint: str
    check: Callable[[str, LintContext], None]
    required: bool = False
    repeatable: bool = False


def _check_status(text: str, context: LintContext) -> None:
    upstream_status(text)


def _check_range(text: str, context: LintContext) -> None:
    releases = release_range(text)
    if context.base is not None and context.base not in releases:
        raise ValueError(f"leaves out {context.base}, the base of this series")


def _check_test(text: str, context: LintContext) -> None:
    path, _, name = text.partition("::")
    if not path or not name:
        raise ValueError("names no test; the form is tests/file.py::test_name")
    if context.root is None:
        return
    test = context.root / path
    if not test.is_file():
        raise ValueError(f"there is no file {path}")
    if name.split("::")[-1].split("[")[0] not in test.read_text("utf-8"):
        raise ValueError(f"{path} holds no {name}")


def _check_route(text: str, context: LintContext) -> None:
    if text != "source":
        raise ValueError("the only value is `source`")


# A new trailer is a row here, and a row of the table in docs/formats.md.
RULES = (
    TrailerRule(
        "Upstream-Status",
        "Pending, Submitted [link], Backport [release], Denied [reason], Inappropriate [reason]",
        _check_status,
        required=True,
    ),
    TrailerRule("Applies-To", "a range of releases, such as [v0.30.0, v0.31.0)", _check_range, required=True),
    TrailerRule(
        "Test", "the test that fails without it, tests/file.py::test_name", _check_test, required=True, repeatable=True
    ),
    TrailerRule("Build-Route", "source, for a patch that overlays leave out", _check_route),
)


def hint(key: str) -> str:
    """Return the form of a trailer's value, as a prompt shows it."""
    return next(rule.hint for rule in RULES if rule.key == key)


def missing(header: str) -> list[TrailerRule]:
    """Return the rules of the required trailers that a header, or a message, lacks."""
    return [rule for rule in RULES if rule.required and value(header, rule.key) is None]


def lint_trailers(file: Path, header: str, base: str | None, root: Path | None) -> list[Finding]:
    """Return every breach in a patch's trailers.

    `base` is the release of the series, which must lie in `Applies-To`. `root` is the project, which must hold the
    tests that `Test` names. Either may be None if it is not known.
    """
    findings: list[Finding] = []
    context = LintContext(base, root)
    rules = {rule.key: rule for rule in RULES}
    first: dict[str, int] = {}
    lines = header.split("\n")
    for trailer in trailers(header):
        rule = rules.get(trailer.key)
        try:
            if (line := current_line(lines[trailer.line - 1])) != lines[trailer.line - 1]:
                raise ValueError(f"names a person in git; write {line}")
            if rule is None:
                continue
            if first.setdefault(trailer.key, trailer.line) != trailer.line and not rule.repeatable:
                raise ValueError(f"stands twice, first on line {first[trailer.key]}")
            rule.check(trailer.value, context)
        except ValueError as error:
            message, column = f"{trailer.key}: {error}", len(trailer.key) + 3
            text = lines[trailer.line - 1]
            findings.append(Finding(file, message, trailer.line, column, len(trailer.value), text))
    return findings + [Finding(file, f"has no {rule.key} trailer") for rule in missing(header)]
