"""A rebase that waits for its user: what is kept of it, and how it is opened again and ended."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from patchset.model.component import Component
from patchset.rebasing import conflicts
from patchset.workflow.workspace import Workspace
from patchset.worktree.location import Location
from toolkit.errors import UsageError
from toolkit.files import replace_file


@dataclass(frozen=True)
class RebaseSession:
    """An unfinished rebase: its bases, kind of source (`mode`), skipped patches with reasons, and conflicting patch."""

    from_base: str
    base: str
    mode: str
    skips: dict[str, str]
    conflict: str | None


@contextmanager
def open_session(workspace: Workspace) -> Iterator[tuple[Location, RebaseSession]]:
    """Hold the component's lock and give the rebase that is under way.

    Raises:
        UsageError: there is none.
    """
    with workspace.lock() as location:
        session = load(location)
        if session is None:
            name = workspace.component.name
            raise UsageError(f"no rebase of {name} is under way", remedy=f"patchset rebase {name} RELEASE starts one")
        yield location, session


def _file(location: Location) -> Path:
    return location.private / "rebase/session.json"


def load(location: Location) -> RebaseSession | None:
    """Return the rebase that is under way, or None."""
    try:
        return RebaseSession(**json.loads(_file(location).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def save(location: Location, session: RebaseSession) -> None:
    """Keep a rebase on the disk."""
    replace_file(_file(location), json.dumps(asdict(session), indent=1))


def under_way(component: Component, session: RebaseSession) -> UsageError:
    """Return the error for a component of which another rebase is under way."""
    return UsageError(
        f"a rebase of {component.name} from {session.from_base} to {session.base} is under way",
        remedy=f"patchset rebase {component.name} --continue, --skip REASON or --abort",
    )


def clean(root: Path, location: Location) -> None:
    """Remove what a rebase keeps while it waits."""
    private = location.private / "rebase"
    _file(location).unlink(missing_ok=True)
    tree = conflicts.conflict_tree(root, location)
    if tree.folder.exists():
        conflicts.remove(tree)
    if private.exists():
        location.git.run("update-ref", "-d", "refs/patchset/rebase")
        shutil.rmtree(private)
