"""Choosing where a base comes from, and bringing it into the component's repository."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from patchset.model.component import Base, Component, Destination, NotObtained, Source
from patchset.sources import submodule
from patchset.sources.kinds import AUTO, KINDS, chosen
from patchset.store.git import Git
from toolkit.errors import SourceUnavailable
from toolkit.progress import Reporter


@dataclass(frozen=True)
class StoredBase:
    """A base in the store: its commit, where it is from, and why from there.

    `source` is None for a base that no base.toml records (kind `worktree`): what the work tree held before the tool
    came. `proven` is False where the patched tree is yet to be found out: then none is recorded for it.
    """

    kind: str
    commit: str
    why: str
    source: Source | None = None
    proven: bool = True

    @property
    def covers(self) -> tuple[str, ...]:
        """Globs of the paths that the source has at all; empty: all."""
        return self.source.covers if self.source is not None else ()

    @property
    def tree(self) -> str | None:
        """The tree that is recorded for the base, None where none is."""
        return self.source.tree if self.source is not None else None

    @property
    def patched_tree(self) -> str | None:
        """The tree that is recorded for the patched base, None where none is."""
        return self.source.patched_tree if self.source is not None and self.proven else None

    @property
    def has_history(self) -> bool:
        return self.source is not None and self.source.has_history

    @property
    def comparable(self) -> str:
        """The kind of source whose trees can be compared with this one's."""
        return self.kind if self.source is not None else next(iter(KINDS))

    def unproven(self) -> StoredBase:
        """Return the same base, whose patched tree is yet to be found out."""
        return replace(self, proven=False)


def present(git: Git, base: Base, kind: str = AUTO) -> StoredBase | None:
    """Return the base if the store has it already; uses no network."""
    for item in chosen(kind):
        source = base.source(item.kind)
        commit = source.commit_in(git) if source is not None else None
        if source is not None and commit is not None:
            return StoredBase(source.kind, commit, source.stored_why, source)
    return None


def destination(
    root: Path, component: Component, base: Base, git: Git, reporter: Reporter, *, offline: bool
) -> Destination:
    """Return where a base of a component is brought."""
    url = submodule.registered_url(root, component.path) or component.url

    def prepare() -> None:
        git.init()
        if url is not None:
            submodule.register(root, component.path, git, url)

    return Destination(f"{component.name} {base.name}", component.path, url, git, reporter, offline, prepare)


def acquire(
    root: Path, component: Component, base: Base, git: Git, kind: str, reporter: Reporter, *, offline: bool = False
) -> StoredBase:
    """Bring a base into the store, from one kind of source, or with `auto` from the first kind that has it.

    Raises:
        SourceUnavailable: it cannot be had; `details` say what was tried.
        IntegrityError: a source, or what it holds, is not what is recorded.
    """
    stored = present(git, base, kind)
    if stored is not None:
        return stored
    place = destination(root, component, base, git, reporter, offline=offline)
    refusals: list[NotObtained] = []
    kinds = chosen(kind)
    for item in kinds:
        source = base.source(item.kind)
        if source is None:
            refusals.append(NotObtained(f"base.toml records no {item.record}"))
            continue
        if refusals:
            reporter.note(f"{place.label}: {refusals[0].message}; taking {source.title}")
        try:
            commit = source.fetch(place)
        except NotObtained as error:
            refusals.append(error)
            continue
        return StoredBase(source.kind, commit, refusals[-1].why if refusals else source.fetched_why, source)
    if len(kinds) == 1 and refusals[0].remedy:
        raise refusals[0]
    raise SourceUnavailable(
        f"{place.label} cannot be had from {kind if kind != AUTO else 'anywhere'}",
        details=tuple(refusal.message for refusal in refusals),
        remedy="check the network, or try the other --source",
    )


def acquire_alike(
    root: Path,
    component: Component,
    bases: Sequence[Base],
    git: Git,
    kind: str,
    reporter: Reporter,
    *,
    offline: bool = False,
) -> tuple[StoredBase, ...]:
    """Bring several bases into the store, all from the same kind of source: an archive is not all of a commit's tree.

    `auto` takes the first kind of which all have one that is in the store or can be fetched.

    Raises:
        SourceUnavailable: there is no kind of which all can be had.
    """
    refusals: list[str] = []
    kinds = chosen(kind)
    for number, item in enumerate(kinds, 1):
        missing = [base.name for base in bases if base.source(item.kind) is None]
        if missing:
            refusals.append(f"no {item.record} is known of {', '.join(missing)}")
            continue
        stored = [present(git, base, item.kind) for base in bases]
        if all(stored):
            return tuple(
                replace(base, why=refusals[0] if refusals else base.why) for base in stored if base is not None
            )
        try:
            acquired = [acquire(root, component, base, git, item.kind, reporter, offline=offline) for base in bases]
            return tuple(replace(base, why=refusals[0]) if refusals else base for base in acquired)
        except SourceUnavailable as error:
            refusals += [error.message, *error.details]
            if number < len(kinds):
                reason = error.details[0] if error.details else error.message
                reporter.note(f"{component.name}: {reason}; each {kinds[number].record} then")
    names = " and ".join(base.name for base in bases)
    raise SourceUnavailable(
        f"{component.name} {names} cannot be had from one kind of source",
        details=tuple(refusals),
        remedy="check the network, or name another --source",
    )


def common_kind(git: Git, bases: Sequence[Base], kind: str) -> str:
    """Return the kind of source by which bases can be compared: the first of which the store has all.

    Where there is none, it is the last kind that the first base has a source of: archives rather than commits, since
    every release has one on the package index.
    """
    if kind != AUTO:
        return kind
    kinds = chosen(kind)
    complete = (item for item in kinds if all(present(git, base, item.kind) is not None for base in bases))
    recorded = [item for item in kinds if bases[0].source(item.kind) is not None]
    return next(complete, (recorded or [kinds[0]])[-1]).kind
