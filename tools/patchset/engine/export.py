"""From two trees back to a patch file: fixed flags, and nothing changes that need not change.

The header of a patch that exists is kept as it is, byte for byte, and so is its diff where the files that it goes
from and to are the same; only then is there anything to write anew.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable

from patchset.model.patch import Patch, split
from patchset.model.trailers import ReleaseRange, release_range, release_version, trailers

# git's own, for a series that shows no other.
CONTEXT = 3
_STAT = re.compile(rb"^---\n(?: .*\n)* \d+ files? changed.*\n(?: .*\n)*\n?", re.MULTILINE)
# A field goes on in lines that begin with space (RFC 5322, 2.2.3): git breaks a long author so.
_FIELD = re.compile(r"^(From|Date): (.*(?:\n[ \t].*)*)", re.MULTILINE)
_DIFF = re.compile(rb"^(?=diff --git )", re.MULTILINE)

Diff = Callable[[int], bytes]


def context_of(patches: Iterable[Patch]) -> int:
    """Return how many lines of context patches were written with: the most that stand before or after a change."""
    found: Counter[int] = Counter()
    for patch in patches:
        widths = [0]
        for change in patch.changes:
            for hunk in change.hunks:
                tags = "".join(tag for tag, _ in hunk.lines)
                widths += [len(tags) - len(tags.lstrip(" ")), len(tags) - len(tags.rstrip(" "))]
        if max(widths):
            found[max(widths)] += 1
    return max(found, key=lambda width: (found[width], -width)) if found else CONTEXT


def rewrite(patch: Patch, diff: Diff, kept: frozenset[str] = frozenset(), *, context: int | None = None) -> bytes:
    """Return the file of `patch` with another diff under its header; `diff` gives it for a context width.

    `kept` are paths that this diff cannot tell of, as their files are outside the archive: what the patch says of
    them stays.
    """
    header, old = split(patch.data)
    width = context_of([patch]) if context is None else context
    # A diffstat speaks of the old diff.
    return _STAT.sub(b"", header) + spliced(old, diff(width), patch, kept)


def spliced(old: bytes, new: bytes, patch: Patch, kept: frozenset[str]) -> bytes:
    """Return the diff `new` with the sections of `old` that tell of the paths in `kept`."""
    if not kept:
        return new
    sections = [part for part in _DIFF.split(old) if part.startswith(b"diff --git ")]
    if len(sections) != len(patch.changes):
        raise ValueError(f"{patch.name} cannot be taken apart by files")
    stay = [part for part, change in zip(sections, patch.changes, strict=True) if kept & set(change.touched)]
    return new + b"".join(stay)


def header_of(message: str, author: str, date: str) -> bytes:
    """Return the header of a new patch, as `git format-patch --zero-commit` writes it without a number.

    `author` is `Name <email>`, `date` as RFC 5322 has it. Text beyond ASCII is left as UTF-8 (RFC 6532), which
    git-am reads as well.
    """
    subject, _, body = message.strip("\n").partition("\n")
    text = body.strip("\n")
    lines = [
        f"From {'0' * 40} Mon Sep 17 00:00:00 2001",
        f"From: {author}",
        f"Date: {date}",
        f"Subject: {subject}",
    ]
    if not f"{subject}{text}".isascii():
        lines += [
            "MIME-Version: 1.0",
            "Content-Type: text/plain; charset=UTF-8",
            "Content-Transfer-Encoding: 8bit",
        ]
    return ("\n".join([*lines, "", *([text, ""] if text else []), ""])).encode("utf-8", errors="surrogateescape")


def with_message(data: bytes, message: str) -> bytes:
    """Return a patch file with another message; who wrote it and when stays."""
    header, diff = split(data)
    mail = header.decode("utf-8", errors="surrogateescape").partition("\n\n")[0]
    fields = dict(_FIELD.findall(mail))
    made = header_of(message, fields.get("From", "patchset <patchset@localhost>"), fields.get("Date", ""))
    return made + diff


def unusable(message: str) -> str | None:
    """Return why a message cannot stand in a patch file, or None: readers would take a part of it for the diff."""
    for line in message.split("\n"):
        if line.rstrip() == "---" or line.startswith(("diff --git ", "Index: ")):
            return f"its message has a line {line.strip()!r}, which would end the message in a patch file"
    return None


def widened(data: bytes, release: str) -> tuple[bytes, str | None]:
    """Return a patch whose `Applies-To` holds `release`, and the new range where it had to be changed.

    A release beyond the end becomes the last in the range: the next one, by its minor number, ends it.
    """
    header, diff = split(data)
    text = header.decode("utf-8", errors="surrogateescape")
    for trailer in trailers(text):
        if trailer.key != "Applies-To":
            continue
        try:
            found = release_range(trailer.value)
            version = release_version(release)
            if release in found:
                return data, None
        except ValueError:
            return data, None
        if version < release_version(found.first):
            made = ReleaseRange(release, found.end)
        else:
            prefix = "v" if release.startswith("v") else ""
            following = f"{prefix}{version.major}.{version.minor + 1}.0"
            made = ReleaseRange(found.first, following)
        value = f"[{made.first}, {made.end or ''})"
        lines = text.split("\n")
        lines[trailer.line - 1] = f"Applies-To: {value}"
        return "\n".join(lines).encode("utf-8", errors="surrogateescape") + diff, value
    return data, None
