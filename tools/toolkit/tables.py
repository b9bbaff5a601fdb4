"""Reading TOML tables so that every breach is a finding at its line, and none stops the reading."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from toolkit.finding import Finding

_HEX40 = re.compile(r"^[0-9a-f]{40}$")
_HEX64 = re.compile(r"^[0-9a-f]{64}$")

Kind = Literal["string", "hex40", "hex64", "strings", "table"]


@dataclass(eq=False)
class Table:
    """A TOML table being read: every breach becomes a finding at its line, none stops the reading.

    `occurrence` counts the tables of an array, from 0.
    """

    file: Path
    source: str
    values: dict[str, object]
    section: str
    findings: list[Finding]
    occurrence: int = 0
    read: set[str] = field(default_factory=set)

    def get(self, key: str, kind: Kind = "string", required: bool = True) -> object:
        """Return the value of `key`, or None after recording what is wrong with it."""
        self.read.add(key)
        if key not in self.values:
            if required:
                self.add(key, f"has no key {self._dotted(key)}", whole=True)
            return None
        value = self.values[key]
        if kind == "strings":
            good = isinstance(value, list) and all(isinstance(item, str) for item in value)
            wanted = "a list of strings"
        elif kind == "table":
            good, wanted = isinstance(value, dict), "a table"
        else:
            good, wanted = isinstance(value, str) and bool(value), "a string"
            if good and kind == "hex40":
                good, wanted = bool(_HEX40.match(str(value))), "40 lower-case hex digits"
            elif good and kind == "hex64":
                good, wanted = bool(_HEX64.match(str(value))), "64 lower-case hex digits (a sha256)"
        if not good:
            self.add(key, f"{self._dotted(key)} must be {wanted}")
            return None
        return value

    def text(self, key: str, kind: Kind = "string", required: bool = True) -> str | None:
        value = self.get(key, kind, required)
        return value if isinstance(value, str) else None

    def strings(self, key: str) -> tuple[str, ...]:
        value = self.get(key, "strings", required=False)
        return tuple(value) if isinstance(value, list) else ()

    def integer(self, key: str) -> int:
        """Return a whole number above 0, or 0 where there is none."""
        self.read.add(key)
        value = self.values.get(key, 0)
        if not isinstance(value, int) or isinstance(value, bool) or (key in self.values and value < 1):
            self.add(key, f"{self._dotted(key)} must be a whole number above 0")
            return 0
        return value

    def number(self, key: str, default: float) -> float:
        """Return a finite number that is not negative, or `default` where there is none."""
        self.read.add(key)
        if key not in self.values:
            return default
        value = self.values[key]
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
            self.add(key, f"{self._dotted(key)} must be a number, 0 or more")
            return default
        return float(value)

    def flag(self, key: str) -> bool:
        """Return true or false; false where there is neither."""
        self.read.add(key)
        value = self.values.get(key, False)
        if not isinstance(value, bool):
            self.add(key, f"{self._dotted(key)} must be true or false")
        return value is True

    def choice(self, key: str, known: Sequence[str], default: str | None = None) -> str:
        """Return one of `known`; `default` where there is none, and what stands first after a finding."""
        self.read.add(key)
        if key not in self.values and default is not None:
            return default
        value = self.text(key)
        if value is not None and value not in known:
            near = get_close_matches(value, known, n=1)
            meant = f"; did you mean {near[0]!r}?" if near else ""
            self.add(key, f"{self._dotted(key)} must be one of {', '.join(known)}{meant}")
        return value if value is not None and value in known else known[0]

    def tables(self, key: str) -> tuple[Table, ...]:
        """Return the tables of an array of tables, or the one table, named `key`."""
        self.read.add(key)
        value = self.values.get(key)
        items = value if isinstance(value, list) else [value] if value is not None else []
        tables = []
        for number, item in enumerate(items):
            if isinstance(item, dict):
                tables.append(Table(self.file, self.source, item, self._dotted(key), self.findings, number))
            else:
                self.add(key, f"{self._dotted(key)} must be a table")
        return tuple(tables)

    def finish(self) -> None:
        """Record every key that was not read."""
        for key in self.values:
            if key not in self.read:
                self.add(key, f"unknown key {self._dotted(key)}")

    def _dotted(self, key: str) -> str:
        return f"{self.section}.{key}" if self.section else key

    def add(self, key: str, message: str, whole: bool = False) -> None:
        """Record a finding at a key, or at the table as a whole, where the key is missing."""
        line, column, text = (0, 0, "") if whole else locate(self.source, self.section, key, self.occurrence)
        if whole and self.section:
            line, column, text = locate(self.source, self.section, None, self.occurrence)
        self.findings.append(Finding(self.file, message, line, column, max(len(text.strip()), 1), text))


def locate(source: str, section: str, key: str | None, occurrence: int = 0) -> tuple[int, int, str]:
    """Return line, column and text of a key, or of a section's header where `key` is None.

    `occurrence` counts the headers of that name, from 0: an array of tables has several.
    """
    current = ""
    skip = occurrence
    for number, line in enumerate(source.split("\n"), 1):
        if header := re.match(r"^\s*\[\[?\s*([^\]]+?)\s*\]\]?", line):
            current = header[1]
            if current == section and skip:
                current, skip = "", skip - 1
                continue
            if current == section and key is None:
                return number, line.find("[") + 1, line
            if key is not None and current == (f"{section}.{key}" if section else key):
                return number, line.find("[") + 1, line
        elif key is not None and current == section and re.match(rf"^\s*\"?{re.escape(key)}\"?\s*=", line):
            return number, len(line) - len(line.lstrip()) + 1, line
    return 0, 0, ""


def read_table(file: Path, findings: list[Finding]) -> Table | None:
    """Read a TOML file as a table, or record where its syntax breaks."""
    import tomllib

    source = file.read_text("utf-8")
    try:
        values = tomllib.loads(source)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        place = re.search(r"\(at line (\d+), column (\d+)\)", message)
        line, column = (int(place[1]), int(place[2])) if place else (source.count("\n") + 1, 1)
        text = [*source.split("\n"), ""][line - 1]
        message = re.sub(r"\s*\(at .*\)$", "", message)
        findings.append(Finding(file, f"not valid TOML: {message}", line, column, 1, text))
        return None
    return Table(file, source, values, "", findings)
