"""A rebase that waits for its user: kept in a file, opened again from it, and ended."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from patchset.project.base_toml import NAME as BASE_TOML
from patchset.project.base_toml import base_text, parse_base, read_text
from patchset.rebasing import conflicts
from patchset.rebasing.job import RebaseJob
from patchset.workflow.workspace import Workspace
from patchset.worktree.location import Location
from toolkit.errors import UsageError
from toolkit.files import replace_file
from toolkit.finding import Finding, refuse


@dataclass(frozen=True)
class RebaseSession:
    """An unfinished rebase: its bases, kind of source (`mode`), skipped patches with reasons, and conflicting patch.

    `conflict` is None until the conflict's work tree is complete. Its fields are the keys of `session.json`.
    """

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


def load(location: Location) -> RebaseSession | None:
    """Return the rebase that is under way, or None."""
    try:
        return RebaseSession(**json.loads(_file(location).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def save(job: RebaseJob, conflict: str | None = None) -> None:
    """Keep a rebase on the disk: the new base's base.toml, then the session."""
    old = job.series.base
    replace_file(job.private / job.base.name / BASE_TOML, base_text(job.base, read_text(old)))
    session = RebaseSession(old.name, job.base.name, job.workspace.source, dict(job.skips), conflict)
    replace_file(_file(job.location), json.dumps(asdict(session), indent=1))


def resume(workspace: Workspace, location: Location, session: RebaseSession) -> RebaseJob:
    """Return the job of a rebase that is under way.

    Raises:
        UsageError: the project has no series for its old base any more.
        SeriesError: that series breaks its format.
    """
    old = workspace.component.base(session.from_base)
    if old is None:
        raise UsageError(
            f"{workspace.component.name} has no base {session.from_base} any more",
            remedy="--abort, then start anew",
        )
    workspace = replace(workspace, base=old, source=session.mode)
    refuse(workspace.series.findings, workspace.series.title)
    findings: list[Finding] = []
    draft = parse_base(location.private / "rebase" / session.base, findings)
    return RebaseJob(workspace, location, replace(draft, folder=old.folder.parent / session.base), session.skips)


def clean(root: Path, location: Location) -> None:
    """Remove everything that a rebase keeps while it waits."""
    private = location.private / "rebase"
    _file(location).unlink(missing_ok=True)
    tree = conflicts.conflict_tree(root, location)
    if tree.folder.exists():
        conflicts.remove(tree)
    if private.exists():
        location.git.run("update-ref", "-d", "refs/patchset/rebase")
        shutil.rmtree(private)


def _file(location: Location) -> Path:
    return location.private / "rebase/session.json"
