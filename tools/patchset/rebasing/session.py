"""A rebase that waits for its user: what is kept of it, and how it is opened again and ended."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from patchset.model.component import Component
from patchset.model.project import Project
from patchset.rebasing import conflicts
from patchset.sources.acquire import Mode
from patchset.store import merge as merging
from patchset.store.git import require
from patchset.worktree import lock
from patchset.worktree.location import Location, locate
from toolkit.errors import UsageError


@dataclass(frozen=True)
class Session:
    """A rebase that waits for its user: the two bases, what is skipped and why, and the patch that conflicts."""

    from_base: str
    base: str
    mode: Mode
    skips: dict[str, str]
    conflict: str | None


class Opened:
    """The lock and the session of a rebase that is under way."""

    def __init__(self, project: Project, component: Component) -> None:
        require()
        self._location = locate(project.root, component)
        self._component = component
        self._lock = lock.hold(self._location.lock_file, component.name)

    def __enter__(self) -> tuple[Location, Session]:
        self._lock.__enter__()
        merging.clear(self._location.private)
        session = load(self._location)
        if session is None:
            self._lock.__exit__(None, None, None)
            name = self._component.name
            raise UsageError(f"no rebase of {name} is under way", remedy=f"patchset rebase {name} RELEASE starts one")
        return self._location, session

    def __exit__(self, *error: object) -> None:
        self._lock.__exit__(None, None, None)


def load(location: Location) -> Session | None:
    """Return the rebase that is under way, or None."""
    try:
        values = json.loads((location.private / "rebase/session.json").read_bytes())
        return Session(**values)
    except (OSError, ValueError, TypeError):
        return None


def save(location: Location, session: Session) -> None:
    file = location.private / "rebase/session.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(".new")
    temporary.write_text(json.dumps(asdict(session), indent=1))
    os.replace(temporary, file)


def under_way(component: Component, session: Session) -> UsageError:
    name = component.name
    return UsageError(
        f"a rebase of {name} from {session.from_base} to {session.base} is under way",
        remedy=f"patchset rebase {name} --continue, --skip REASON or --abort",
    )


def clean(root: Path, location: Location) -> None:
    """Remove what a rebase leaves while it waits."""
    private = location.private / "rebase"
    (private / "session.json").unlink(missing_ok=True)
    place = conflicts.place_of(root, location)
    if place.folder.exists():
        conflicts.remove(place)
    if private.exists():
        location.git.run("update-ref", "-d", "refs/patchset/rebase")
        shutil.rmtree(private)
