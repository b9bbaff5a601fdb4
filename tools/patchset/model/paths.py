"""Paths in patches: git's quoting, leading components, and the paths that a patch must not touch."""

from __future__ import annotations

import re

from patchset.store.text import decode


def breach(path: str) -> str | None:
    """Return why `path` must not be touched by a patch, or None where it may.

    The rules are git's own `verify_path` (read-cache.c), applied on every platform: relative, no empty, `.`
    or `..` component, and no spelling of `.git`, NTFS's short name and trailing dots or blanks included.
    """
    if not path:
        return "the path is empty"
    if path.startswith("/") or path[1:3] == ":\\" or path[1:3] == ":/":
        return "the path is absolute"
    if "\0" in path or "\n" in path:
        return "the path holds a control character"
    for part in path.replace("\\", "/").split("/"):
        if part in ("", "."):
            return "the path has an empty component"
        if part == "..":
            return "the path leaves the tree"
        if part.rstrip(". ").casefold() in (".git", "git~1"):
            return "the path is inside git's own directory"
    return None


def strip_components(path: str, count: int) -> str:
    """Return a path of a patch without its first components, as `patch -p` does.

    Raises:
        ValueError: it is absolute, or has no more components than that.
    """
    path = unquote(path)
    if path.startswith("/"):
        raise ValueError(f"the path is absolute: {path}")
    parts = path.split("/")
    if len(parts) <= count:
        raise ValueError(f"the path {path!r} has no {count} leading components to drop")
    return "/".join(parts[count:])


_ESCAPE = re.compile(rb"\\([0-7]{3}|.?)", re.DOTALL)
_ESCAPED = dict(zip(b'abtnvfr"\\', b'\a\b\t\n\v\f\r"\\', strict=True))


def unquote(path: str) -> str:
    """Return a path without git's C-style quoting (`core.quotePath`); `path` holds its bytes as latin-1.

    Raises:
        ValueError: the quoting holds an unknown escape.
    """
    raw = path.encode("latin-1")
    if len(raw) >= 2 and raw[:1] == raw[-1:] == b'"':
        raw = _ESCAPE.sub(_escaped, raw[1:-1])
    return decode(raw)


def _escaped(match: re.Match[bytes]) -> bytes:
    code = match[1]
    value = int(code, 8) if len(code) == 3 else _ESCAPED.get(code[0] if code else 0)
    if value is None or value > 255:
        raise ValueError(f"the quoted path has an unknown escape {match[0].decode('latin-1')}")
    return bytes((value,))
