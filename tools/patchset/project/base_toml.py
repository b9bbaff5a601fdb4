"""`base.toml`: the upstream release of a series, the sources of its tree, and its official wheels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from patchset.model.component import Base, Wheel
from patchset.sources.kinds import kinds
from toolkit.errors import SourceUnavailable
from toolkit.finding import Finding
from toolkit.tables import Table, read_table
from toolkit.toml_edit import edit_tables

NAME = "base.toml"


def parse_base(folder: Path, findings: list[Finding]) -> Base:
    """Read `base.toml` of a series folder; a folder without one is a base of that name, with no recorded source."""
    file = folder / NAME
    table = read_table(file, findings) if file.is_file() else None
    if table is None:
        return Base(folder.name, folder)
    sources = tuple(source for kind in kinds() if (source := kind.parse(table)) is not None)
    wheels = tuple(_wheel(item) for item in table.tables("wheel"))
    table.finish()
    return Base(folder.name, folder, sources, wheels)


def _wheel(table: Table) -> Wheel:
    wheel = Wheel(
        variant=table.text("variant") or "",
        platform=table.text("platform") or "",
        project=table.text("project") or "",
        filename=table.text("file") or "",
        sha256=table.text("sha256", "hex64") or "",
    )
    table.finish()
    return wheel


def read_text(base: Base) -> str:
    """Return the text of a base's file, "" if it has none."""
    file = base.folder / NAME
    return file.read_text("utf-8") if file.is_file() else ""


def base_text(base: Base, text: str = "") -> str:
    """Return base.toml of a base; `text` is the one to change, whose comments and order stay.

    Raises:
        SourceUnavailable: the base has no source.
    """
    if not base.recorded:
        raise SourceUnavailable(f"{base.name} has no {' and no '.join(kind.record for kind in kinds())}")
    before = text
    for kind in kinds():
        if base.source(kind.kind) is None:
            text = kind.erase(text)
    text = _with_wheels(text, base)
    if text != before:
        # A comment above a table that is gone goes too.
        lines = text.strip("\n").split("\n")
        while lines and (not lines[-1] or lines[-1].startswith("#")):
            lines.pop()
        text = "\n".join([*lines, ""])
    for source in base.sources:
        text = source.write(text)
    return text


def _with_wheels(text: str, base: Base) -> str:
    """Return a text whose [[wheel]] tables are those of the base, with its file names and hashes."""
    wheels = {(wheel.project, wheel.variant, wheel.platform): wheel for wheel in base.wheels}

    def edit(table: Mapping[str, Any]) -> dict[str, str] | None:
        wheel = wheels.get((table["project"], table["variant"], table["platform"]))
        return None if wheel is None else {"file": wheel.filename, "sha256": wheel.sha256}

    return edit_tables(text, "wheel", edit)
