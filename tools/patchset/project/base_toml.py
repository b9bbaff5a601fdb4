"""`base.toml`: which upstream release a series is for, where its tree comes from, and its official wheels."""

from __future__ import annotations

from pathlib import Path

from patchset.model.component import Base, Wheel
from patchset.sources.kinds import kinds
from toolkit.errors import SourceUnavailable
from toolkit.finding import Finding
from toolkit.tables import read_table

NAME = "base.toml"


def parse_base(folder: Path, findings: list[Finding]) -> Base:
    """Read `base.toml` of a series folder; a folder without one is a base of that name, with no recorded source."""
    file = folder / NAME
    table = read_table(file, findings) if file.is_file() else None
    if table is None:
        return Base(folder.name, folder)
    sources = tuple(source for kind in kinds() if (source := kind.parse(table)) is not None)
    wheels = []
    for item in table.tables("wheel"):
        wheels.append(
            Wheel(
                variant=item.text("variant") or "",
                platform=item.text("platform") or "",
                project=item.text("project") or "",
                filename=item.text("file") or "",
                sha256=item.text("sha256", "hex64") or "",
            )
        )
        item.finish()
    table.finish()
    return Base(folder.name, folder, sources, tuple(wheels))


def read_text(base: Base) -> str:
    """Return the text of a base's file, "" where it has none."""
    file = base.folder / NAME
    return file.read_text("utf-8") if file.is_file() else ""


def base_text(base: Base, text: str = "") -> str:
    """Return base.toml of a base; `text` is the file that it follows, comments and order included.

    Raises:
        SourceUnavailable: the base has no source.
    """
    if not base.recorded:
        raise SourceUnavailable(f"{base.name} has no {' and no '.join(kind.record for kind in kinds())}")
    before = text
    for kind in kinds():
        if base.source(kind.kind) is None:
            text = kind.erase(text)
    text = _without_other_wheels(text, base)
    if text != before:
        # The comment above a table that is gone.
        lines = text.strip("\n").split("\n")
        while lines and (not lines[-1] or lines[-1].startswith("#")):
            lines.pop()
        text = "\n".join([*lines, ""])
    for source in base.sources:
        text = source.write(text)
    return text


def _without_other_wheels(text: str, base: Base) -> str:
    """Return a text whose [[wheel]] tables are those of the base, with its file names and hashes."""
    import tomlkit

    document = tomlkit.parse(text)
    tables = document.get("wheel")
    if tables is None:
        return text
    wheels = {(wheel.project, wheel.variant, wheel.platform): wheel for wheel in base.wheels}
    for at in range(len(tables) - 1, -1, -1):
        table = tables[at]
        wheel = wheels.get((table["project"], table["variant"], table["platform"]))
        if wheel is None:
            del tables[at]
        else:
            table["file"], table["sha256"] = wheel.filename, wheel.sha256
    if not len(tables):
        document.pop("wheel")
    return tomlkit.dumps(document)
