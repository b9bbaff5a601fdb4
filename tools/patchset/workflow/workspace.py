"""A workspace: the component and base that a command works on, with access to their upstream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from patchset.model.component import Base, Component
from patchset.model.series import Series, load
from patchset.project.project import Project
from patchset.sources.acquire import Acquisition, StoredBase
from patchset.sources.kinds import AUTO
from patchset.store.git import clear_scratch, require
from patchset.worktree import journal, lock
from patchset.worktree.location import Location, locate
from toolkit.finding import refuse
from toolkit.progress import Quiet, Reporter


def read_series(component: Component, base: Base) -> Series:
    """Read a series, and refuse it with every breach of its `series` file.

    Raises:
        SeriesError: an entry is missing, doubled, outside the folder, or a patch is not listed.
    """
    series, findings = load(component, base)
    refuse(findings, component.title(base))
    assert series is not None
    return series


@dataclass(frozen=True)
class Workspace:
    """A component at a base in a project; `source` is the kind of source to take bases from, or `auto`."""

    project: Project
    component: Component
    base: Base
    reporter: Reporter = field(default_factory=Quiet)
    source: str = AUTO
    offline: bool = False

    @property
    def root(self) -> Path:
        return self.project.root

    @cached_property
    def series(self) -> Series:
        """The series of the base.

        Raises:
            SeriesError: see `read_series`.
        """
        return read_series(self.component, self.base)

    @property
    def location(self) -> Location:
        """The place of the component's work tree and repository.

        Raises:
            LocalChanges: something that is not a git work tree stands in its place.
        """
        return locate(self.root, self.component)

    def at(self, base: Base) -> Workspace:
        """Return the workspace with another base."""
        return replace(self, base=base)

    @contextmanager
    def lock(self) -> Iterator[Location]:
        """Hold the component's lock; finish or remove what a killed run has left behind.

        Raises:
            EnvironmentProblem: git is missing or too old.
            Locked: another run works on the component.
        """
        require()
        with lock.hold(self.location.lock_file, self.component.name):
            location = self.location
            if location.populated:
                journal.recover(location)
            clear_scratch(location.private)
            yield location

    @contextmanager
    def open(self) -> Iterator[tuple[Location, Series]]:
        """Read the series, all of its patches too, then hold the lock.

        Raises:
            SeriesError: the series breaks its format; every finding is named.
            PatchsetError: see `lock`.
        """
        refuse(self.series.findings, self.series.title)
        with self.lock() as location:
            yield location, self.series

    def acquire(self, base: Base | None = None, kind: str | None = None) -> StoredBase:
        """Bring the base, or another release, into the component's repository; see `sources.acquire`."""
        return self._acquisition.one(base or self.base, kind or self.source)

    def acquire_alike(self, bases: Sequence[Base]) -> tuple[StoredBase, ...]:
        """Bring several releases into the repository, all from one kind of source; see `sources.acquire`."""
        return self._acquisition.alike(bases, self.source)

    @property
    def _acquisition(self) -> Acquisition:
        return Acquisition(self.root, self.component, self.location.git, self.reporter, self.offline)
