"""From two trees back to a patch file: fixed flags, and nothing changes that need not change.

The header of an existing patch is kept, byte for byte. So is its diff where the patch's files are the same before
and after it; only another diff is written anew.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable

from patchset.model.patch import Patch, split
from patchset.model.trailers import release_range, release_version, trailers
from patchset.store.text import decode, encode

# git's own, for a series that shows no other.
CONTEXT = 3
_STAT = re.compile(rb"^---\n(?: .*\n)* \d+ files? changed.*\n(?: .*\n)*\n?", re.MULTILINE)
# A field goes on in lines that begin with space (RFC 5322, 2.2.3): git breaks a long author so.
_FIELD = re.compile(r"^(From|Date): (.*(?:\n[ \t].*)*)", re.MULTILINE)
_DIFF = re.compile(rb"^(?=diff --git )", re.MULTILINE)

Diff = Callable[[int], bytes]


def context_of(patches: Iterable[Patch]) -> int:
    """Return the number of context lines that patches were written with: the most before or after a change."""
    counts: Counter[int] = Counter()
    for patch in patches:
        widths = [0]
        for change in patch.changes:
            for hunk in change.hunks:
                tags = "".join(tag for tag, _ in hunk.lines)
                widths += [len(tags) - len(tags.lstrip(" ")), len(tags) - len(tags.rstrip(" "))]
        if max(widths):
            counts[max(widths)] += 1
    return max(counts, key=lambda width: (counts[width], -width)) if counts else CONTEXT


def rewrite(patch: Patch, diff: Diff, kept: frozenset[str] = frozenset()) -> bytes:
    """Return the file of `patch` with another diff under its header; `diff` gives it for a context width.

    `kept` are paths outside the archive, which the new diff cannot have: their sections of the old diff stay.
    """
    header, old = split(patch.data)
    # A diffstat speaks of the old diff.
    return _STAT.sub(b"", header) + spliced(old, diff(context_of([patch])), patch, kept)


def spliced(old: bytes, new: bytes, patch: Patch, kept: frozenset[str]) -> bytes:
    """Return the diff `new` with the sections of `old` for the paths in `kept`."""
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
    return encode("\n".join([*lines, "", *([text, ""] if text else []), ""]))


def with_message(data: bytes, message: str) -> bytes:
    """Return a patch file with another message; its author and date stay."""
    header, diff = split(data)
    mail = decode(header).partition("\n\n")[0]
    fields = dict(_FIELD.findall(mail))
    return header_of(message, fields.get("From", "patchset <patchset@localhost>"), fields.get("Date", "")) + diff


def unusable(message: str) -> str | None:
    """Return the reason for which a message would be read as a part of the diff in a patch file, or None."""
    for line in message.split("\n"):
        if line.rstrip() == "---" or line.startswith(("diff --git ", "Index: ")):
            return f"its message has a line {line.strip()!r}, which would end the message in a patch file"
    return None


def widened(data: bytes, release: str) -> tuple[bytes, str | None]:
    """Return a patch whose `Applies-To` contains `release`, and the new range where that was widened.

    For a release beyond the end, the range ends at the next minor release.
    """
    header, diff = split(data)
    text = decode(header)
    for trailer in trailers(text):
        if trailer.key != "Applies-To":
            continue
        try:
            releases = release_range(trailer.value)
            version = release_version(release)
            if release in releases:
                return data, None
        except ValueError:
            return data, None
        if version < release_version(releases.first):
            first, end = release, releases.end
        else:
            prefix = "v" if release.startswith("v") else ""
            first, end = releases.first, f"{prefix}{version.major}.{version.minor + 1}.0"
        value = f"[{first}, {end or ''})"
        lines = text.split("\n")
        lines[trailer.line - 1] = f"Applies-To: {value}"
        return encode("\n".join(lines)) + diff, value
    return data, None
