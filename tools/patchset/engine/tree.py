"""A tree in memory: the base's entries, the files that patches have left, and the folders that both give.

git's rules (apply.c): the changes of one patch are of one moment. A rename or copy reads its source as it was before
the patch, a file may take a name that the patch frees, and folders and links are judged by what the patch leaves.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain

from patchset.store.objects import DIRECTORY, GITLINK, SYMLINK, File, TreeEntry

Files = dict[str, File | None]
_KINDS = {SYMLINK: "a symbolic link", GITLINK: "a submodule"}


class _Layer:
    """Files that stand over a tree (None: the path is free), and their paths by the folders above them."""

    def __init__(self) -> None:
        self.files: Files = {}
        self.below: defaultdict[str, set[str]] = defaultdict(set)

    def put(self, path: str, file: File | None) -> None:
        self.files[path] = file
        for folder in folders_above(path):
            self.below[folder].add(path)


class Tree:
    """The base's `entries` under the patches so far.

    `read` returns a blob's content by id, `below` the files of the base below a folder. Without `below`, every folder
    of the base is taken to hold some.
    """

    def __init__(
        self,
        entries: Mapping[str, TreeEntry],
        read: Callable[[str], bytes],
        below: Callable[[str], Iterable[str]] | None = None,
    ) -> None:
        self._entries = entries
        self._read = read
        self._below = below
        self._layer = _Layer()

    def mode(self, path: str) -> int | None:
        """Return the mode of what stands at `path`, None for nothing and for a folder."""
        if path in self._layer.files:
            file = self._layer.files[path]
            return None if file is None else file.mode
        entry = self._entries.get(path)
        return None if entry is None or entry.mode == DIRECTORY else entry.mode

    def get(self, path: str) -> File | None:
        """Return the file or link at `path`."""
        if path in self._layer.files:
            return self._layer.files[path]
        if self.mode(path) in (None, GITLINK):
            return None
        entry = self._entries[path]
        return File(entry.mode, entry.oid, self._read(entry.oid))

    def below(self, folder: str) -> Iterator[str]:
        """Yield the files below a folder; the folder itself if the base has it and its files are not known."""
        yield from (path for path in self._layer.below.get(folder, ()) if self._layer.files[path] is not None)
        entry = self._entries.get(folder)
        if entry is not None and entry.mode == DIRECTORY:
            base = [folder] if self._below is None else self._below(folder)
            yield from (path for path in base if path == folder or path not in self._layer.files)

    def update(self, files: Mapping[str, File | None]) -> None:
        for path, file in files.items():
            self._layer.put(path, file)


class Draft:
    """The tree while one patch changes it; `leaving` are the paths that the patch removes or renames."""

    def __init__(self, tree: Tree, leaving: frozenset[str]) -> None:
        self.before = tree
        self._layer = _Layer()
        self._leaving = leaving

    @property
    def files(self) -> Files:
        """The changes of the patch (None: the file goes)."""
        return self._layer.files

    def get(self, path: str) -> File | None:
        return self.files[path] if path in self.files else self.before.get(path)

    def is_free(self, path: str) -> bool:
        """Return True if the patch may put a new file at `path`."""
        return self._mode(path) is None or path in self._leaving

    def put(self, path: str, file: File | None) -> None:
        self._layer.put(path, file)

    def free(self, path: str) -> None:
        """Take away the source of a rename, unless the patch has put another file there."""
        if self.files.get(path) is None:
            self.put(path, None)

    def obstacle(self, path: str) -> str | None:
        """Return why no file can stand at `path` after the patch: a file or link above it, a folder in its place."""
        for above in folders_above(path):
            if (mode := self._mode(above)) is not None:
                return f"{above} is {_KINDS.get(mode, 'a file')}"
        if self.before.mode(path) == GITLINK:
            return f"{path} is {_KINDS[GITLINK]}"
        own = (other for other in self._layer.below.get(path, ()) if self.files[other] is not None)
        kept = (other for other in self.before.below(path) if other == path or not self._changes(other))
        other = next(chain(own, kept), None)
        if other is not None:
            return f"{path} is a folder" + (f" that holds {other}" if other != path else "")
        return None

    def _mode(self, path: str) -> int | None:
        if path in self.files:
            file = self.files[path]
            return None if file is None else file.mode
        return None if path in self._leaving else self.before.mode(path)

    def _changes(self, path: str) -> bool:
        return path in self.files or path in self._leaving


def folders_above(path: str) -> list[str]:
    """Return the folders that hold `path`, the outermost first."""
    parts = path.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts))]
