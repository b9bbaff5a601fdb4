"""Which paths a patch may touch: inside the tree, and never git's own files."""

from __future__ import annotations


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
