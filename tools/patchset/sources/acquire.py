"""Choosing where a base comes from, and bringing it into the component's repository."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from patchset.model.component import Base, Component, Destination, NotObtained, Source
from patchset.sources import submodule
from patchset.sources.kinds import AUTO, chosen, kinds
from patchset.store.git import Git
from toolkit.errors import SourceUnavailable
from toolkit.progress import Reporter


@dataclass(frozen=True)
class StoredBase:
    """A base in the store: its commit and tree, the kind of source it is from, and why from there.

    `source` is None for a base that no base.toml records (kind `worktree`): what the work tree held before the tool
    came. With `proven` False the recorded patched tree is left out of account.
    """

    kind: str
    commit: str
    tree: str
    why: str
    source: Source | None = None
    proven: bool = True

    @property
    def covers(self) -> tuple[str, ...]:
        """Globs of the paths that the source has at all; empty: all."""
        return self.source.covers if self.source is not None else ()

    @property
    def recorded_tree(self) -> str | None:
        """The tree that base.toml records for the base, None where it records none."""
        return self.source.tree if self.source is not None else None

    @property
    def patched_tree(self) -> str | None:
        """The tree that base.toml records for the patched base, None where it records none."""
        return self.source.patched_tree if self.source is not None and self.proven else None

    @property
    def has_history(self) -> bool:
        return self.source is not None and self.source.has_history

    @property
    def comparable(self) -> str:
        """The kind of source whose trees can be compared with this one's."""
        return self.kind if self.source is not None else next(item.kind for item in kinds() if item.has_history)

    def unproven(self) -> StoredBase:
        """Return the same base without a recorded patched tree: it is to be computed."""
        return replace(self, proven=False)

    @classmethod
    def of(cls, source: Source, git: Git, commit: str, why: str = "") -> StoredBase:
        """Return the base that a source has brought into the store as `commit`."""
        return cls(source.kind, commit, git.tree_of(commit) or "", why, source)


def present(git: Git, base: Base, kind: str = AUTO) -> StoredBase | None:
    """Return the base if the store has it already; uses no network."""
    for item in chosen(kind):
        source = base.source(item.kind)
        commit = source.commit_in(git) if source is not None else None
        if source is not None and commit is not None:
            return StoredBase.of(source, git, commit, source.stored_why)
    return None


@dataclass(frozen=True)
class Acquisition:
    """Brings bases of a component into its repository `git`; with `offline` only from this machine."""

    root: Path
    component: Component
    git: Git
    reporter: Reporter
    offline: bool = False

    def one(self, base: Base, kind: str) -> StoredBase:
        """Bring a base into the store, from one kind of source, or with `auto` from the first kind that has it.

        Raises:
            SourceUnavailable: no source gives it; `details` name each refusal.
            IntegrityError: a source, or its content, is not the recorded one.
        """
        stored = present(self.git, base, kind)
        if stored is not None:
            return stored
        destination = self._destination(base)
        refusals: list[NotObtained] = []
        for item in chosen(kind):
            source = base.source(item.kind)
            if source is None:
                refusals.append(NotObtained(f"base.toml records no {item.record}"))
                continue
            if refusals:
                self.reporter.note(f"{destination.label}: {refusals[0].message}; taking {source.title}")
            try:
                commit = source.fetch(destination)
            except NotObtained as error:
                refusals.append(error)
                continue
            return StoredBase.of(source, self.git, commit, refusals[-1].why if refusals else source.fetched_why)
        if kind != AUTO and refusals[0].remedy:
            raise refusals[0]
        raise SourceUnavailable(
            f"{destination.label} cannot be had from {kind if kind != AUTO else 'anywhere'}",
            details=tuple(refusal.message for refusal in refusals),
            remedy="check the network, or try the other --source",
        )

    def alike(self, bases: Sequence[Base], kind: str) -> tuple[StoredBase, ...]:
        """Bring bases into the store, all from one kind of source: an archive is not all of a commit's tree.

        `auto` takes the first kind of which all have one that is in the store or can be fetched.

        Raises:
            SourceUnavailable: there is no kind of which all can be had.
        """
        refusals: list[str] = []
        candidates = chosen(kind)
        for number, item in enumerate(candidates, 1):
            missing = [base.name for base in bases if base.source(item.kind) is None]
            if missing:
                refusals.append(f"no {item.record} is known of {', '.join(missing)}")
                continue
            try:
                acquired = [self.one(base, item.kind) for base in bases]
                return tuple(replace(base, why=refusals[0]) if refusals else base for base in acquired)
            except SourceUnavailable as error:
                refusals += [error.message, *error.details]
                if number < len(candidates):
                    reason = error.details[0] if error.details else error.message
                    self.reporter.note(f"{self.component.name}: {reason}; each {candidates[number].record} then")
        names = " and ".join(base.name for base in bases)
        raise SourceUnavailable(
            f"{self.component.name} {names} cannot be had from one kind of source",
            details=tuple(refusals),
            remedy="check the network, or name another --source",
        )

    def _destination(self, base: Base) -> Destination:
        root, component, git = self.root, self.component, self.git
        url = submodule.registered_url(root, component.path) or component.url

        def prepare() -> None:
            git.init()
            if url is not None:
                submodule.register(root, component.path, git, url)

        label = f"{component.name} {base.name}"
        return Destination(label, component.path, url, git, self.reporter, self.offline, prepare)


def common_kind(git: Git, bases: Sequence[Base], kind: str) -> str:
    """Return the kind of source by which bases can be compared: the first of which the store has all.

    Without such a kind, it is the first base's kind with a package index, since that has every release; else its
    preferred kind.
    """
    if kind != AUTO:
        return kind
    for item in kinds():
        if all(present(git, base, item.kind) is not None for base in bases):
            return item.kind
    recorded = [source for item in kinds() if (source := bases[0].source(item.kind)) is not None]
    indexed = [source for source in recorded if source.index_project is not None]
    return next((source.kind for source in (*indexed, *recorded)), kinds()[0].kind)
