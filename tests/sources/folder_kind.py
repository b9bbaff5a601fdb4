"""A kind of source for a test: a folder of files, `[folder] path = "..."` in base.toml, imported as one commit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from patchset.model.component import Base, Destination, NotObtained, Release, Source
from patchset.store.git import Git
from patchset.store.objects import Signature, import_files
from toolkit.tables import Table
from toolkit.toml_edit import erase_table, write_table

REFS = "refs/patchset/folder/"


@dataclass(frozen=True)
class Folder(Source):
    """A folder named after component and release; `path` is relative to the folder of base.toml."""

    kind: ClassVar[str] = "folder"
    record: ClassVar[str] = "folder"
    stored_why: ClassVar[str] = "its folder is imported already"
    fetched_why: ClassVar[str] = "its folder is there"

    path: str
    place: Path
    tree: str | None = None
    patched_tree: str | None = None
    covers: tuple[str, ...] = ()

    @classmethod
    def parse(cls, table: Table) -> Self | None:
        for item in table.tables("folder"):
            path = item.text("path") or ""
            tree, patched = (item.text(key, "hex40", required=False) for key in ("tree", "patched-tree"))
            item.finish()
            return cls(path, table.file.parent / path, tree, patched)
        return None

    def write(self, text: str) -> str:
        return write_table(text, "folder", {"path": self.path, "tree": self.tree, "patched-tree": self.patched_tree})

    @classmethod
    def erase(cls, text: str) -> str:
        return erase_table(text, "folder")

    @classmethod
    def of_release(cls, release: Release) -> Self | None:
        model = release.model.source(cls.kind)
        if not isinstance(model, cls):
            return None
        source = model._at(release.renamed(model.place.name))
        return source if source.place.is_dir() else None

    @classmethod
    def stored_releases(cls, git: Git, model: Base) -> Iterator[tuple[str, Self]]:
        source = model.source(cls.kind)
        if isinstance(source, cls):
            head = source.place.name.removesuffix(model.name)
            for ref in git.run("for-each-ref", "--format=%(refname)", REFS).decode().split():
                yield ref.removeprefix(REFS).removeprefix(head), source._at(ref.removeprefix(REFS))

    def _at(self, name: str) -> Self:
        return type(self)(str(Path(self.path).with_name(name)), self.place.with_name(name))

    def commit_in(self, git: Git) -> str | None:
        return git.resolve(f"{REFS}{self.place.name}")

    def fetch(self, destination: Destination) -> str:
        if not self.place.is_dir():
            raise NotObtained(f"there is no folder {self.place}", why="its folder is missing")
        destination.prepare()
        files = [file for file in sorted(self.place.rglob("*")) if file.is_file()]
        contents = ((file.relative_to(self.place).as_posix(), 0o100644, file.read_bytes()) for file in files)
        author = Signature("test", "test@localhost", "0 +0000")
        return import_files(destination.git, f"{REFS}{self.place.name}", author, self.place.name, contents).commit

    @property
    def title(self) -> str:
        return f"the folder {self.path}"
