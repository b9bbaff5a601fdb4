"""Edits of a TOML text: single values and tables; comments, order and everything else stay as people wrote them.

Start-up imports no tomlkit: only the commands that write a TOML file edit one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from toolkit.tables import locate

TomlValue = str | list[str] | None


def write_values(text: str, values: Mapping[str, str | None]) -> str:
    """Return a text with top-level string values; None takes a key away.

    A new key goes below the one that precedes it in `values`, the first one to the top.
    """
    import tomlkit

    previous = ""
    for key, value in values.items():
        document = tomlkit.parse(text)
        if key in document:
            if value is None:
                del document[key]
            else:
                document[key] = value
            text = tomlkit.dumps(document)
        elif value is not None:
            lines = text.splitlines(keepends=True)
            at = locate(text, "", previous)[0] if previous else 0
            lines.insert(at, f"{key} = {tomlkit.item(value).as_string()}\n")
            text = "".join(lines)
        if value is not None:
            previous = key
    return text


def write_table(text: str, name: str, values: Mapping[str, TomlValue]) -> str:
    """Return a text with values in the table `name`, which goes to the end if it is new; None takes a key away."""
    import tomlkit

    document = tomlkit.parse(text)
    table = document.setdefault(name, tomlkit.table())
    for key, value in values.items():
        if value is None:
            table.pop(key, None)
        elif table.get(key) != value:
            table[key] = value
    return tomlkit.dumps(document)


def erase_table(text: str, name: str) -> str:
    """Return a text without a table."""
    import tomlkit

    document = tomlkit.parse(text)
    document.pop(name, None)
    return tomlkit.dumps(document)


def edit_tables(text: str, name: str, edit: Callable[[Mapping[str, Any]], Mapping[str, str] | None]) -> str:
    """Return a text whose tables of the array `name` have the values that `edit` gives; None takes a table away."""
    import tomlkit

    document = tomlkit.parse(text)
    tables = document.get(name)
    if tables is None:
        return text
    for at in range(len(tables) - 1, -1, -1):
        values = edit(tables[at])
        if values is None:
            del tables[at]
        else:
            tables[at].update(values)
    if not len(tables):
        document.pop(name)
    return tomlkit.dumps(document)
