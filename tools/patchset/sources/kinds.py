"""The kinds of sources. A new kind is one class in a file of its own beside this one, and one line in `KINDS`."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from patchset.model.component import Source

# kind -> module:class, the preferred kind first. Classes are imported when a base.toml is read: `--help` needs none.
KINDS = {
    "submodule": "patchset.sources.submodule:Submodule",
    "archive": "patchset.sources.archive:Archive",
}
AUTO = "auto"


@cache
def kinds() -> tuple[type[Source], ...]:
    """Return the classes of all kinds, the preferred one first."""
    places = (place.split(":") for place in KINDS.values())
    return tuple(getattr(import_module(module), name) for module, name in places)


def chosen(kind: str) -> tuple[type[Source], ...]:
    """Return the classes that a value of `--source` stands for: one kind, or with `auto` all of them in order."""
    return tuple(item for item in kinds() if kind in (AUTO, item.kind))
