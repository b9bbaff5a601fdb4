"""The header of a file in git's format: whose paths it names.

Source: git's documentation, "Generating patch text with -p", and apply.c (`git_header_name`).
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass

from patchset.model.paths import strip_components

NULL = "/dev/null"
# A file's header in git's format: up to its first hunk, or to the next header.
_GIT_HEADER = re.compile(
    r"^diff --git (.*)\n(?:(?!diff --git |@@ -|GIT binary patch|Binary files ).*\n)*", re.MULTILINE
)
_FILE_LINES = re.compile(r"^--- ([^\t\n]*)(.*\n)\+\+\+ ([^\t\n]*)", re.MULTILINE)


@dataclass(frozen=True)
class GitHeader:
    """A file's header in git's format, with the text up to the next one; `files` are its `---` and `+++` paths."""

    names: str
    files: tuple[str, str] | None
    block: str


def without_paths(body: str) -> tuple[list[GitHeader], str]:
    """Return the headers in git's format, and the text with their numbers in place of the paths.

    Which of the blanks in `diff --git a/x b/x b/x b/x` stands between two paths depends on the rest of the header and
    on the series' `-p`: unidiff reads the hunks, and need not know.
    """
    matches = list(_GIT_HEADER.finditer(body))
    headers, text, end = [], [], 0
    for number, match in enumerate(matches):
        following = matches[number + 1].start() if number + 1 < len(matches) else len(body)
        lines = body[match.end(1) : match.end()]
        files = _FILE_LINES.search(lines)
        if files is not None:
            old, new = (
                NULL if name == NULL else f"{side}/{number}" for side, name in zip("ab", files.group(1, 3), strict=True)
            )
            lines = f"{lines[: files.start()]}--- {old}{files[2]}+++ {new}{lines[files.end() :]}"
        text += [body[end : match.start()], f"diff --git a/{number} b/{number}", lines]
        end = match.end()
        headers.append(GitHeader(match[1], files and (files[1], files[3]), body[match.start() : following]))
    return headers, "".join((*text, body[end:]))


def names_of(header: GitHeader, strip: int) -> tuple[str, str]:
    """Return the two paths of a header that renames nothing, with all of their components.

    Raises:
        ValueError: its lines name different files.
    """
    if header.files is None:
        return _split(header.names, strip)
    try:
        names = _split(header.names, strip)
    except ValueError:
        return header.files
    for name, other in zip(header.files, names, strict=True):
        if name != NULL and strip_components(name, strip) != strip_components(other, strip):
            raise ValueError("`diff --git` and `---` name different files")
    return header.files


def _split(names: str, count: int) -> tuple[str, str]:
    """Return the two paths of a `diff --git` line, which are one path but for their first `count` components.

    Raises:
        ValueError: it does not hold one path twice.
    """
    if quoted := re.match(r'("(?:[^"\\]|\\.)*") ', names):
        old, new = quoted[1], names[quoted.end() :]
        if strip_components(old, count) == strip_components(new, count):
            return old, new
    for blank in re.finditer(" ", names):
        old, new = names[: blank.start()], names[blank.end() :]
        with suppress(ValueError):
            if old and new and strip_components(old, count) == strip_components(new, count):
                return old, new
    raise ValueError("the header does not name one file, and no rename")
