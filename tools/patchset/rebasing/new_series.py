"""The new series of a rebase: the outcome and the new file of each patch, and the folder that holds them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from patchset.engine import export
from patchset.engine.outcome import DROPPED, PatchDifference, compare
from patchset.engine.renames import pair
from patchset.engine.replay import PatchStep, ReplayedStep, merger
from patchset.model.patch import Patch, parse
from patchset.model.series import SeriesEntry
from patchset.project.base_toml import NAME as BASE_TOML
from patchset.project.base_toml import base_text, read_text
from patchset.rebasing.job import RebaseJob
from patchset.sources.acquire import StoredBase
from patchset.store.difference import Changes, Comparer, patch_text
from patchset.store.git import Git
from patchset.store.merge import Triple
from patchset.store.objects import blobs
from patchset.workflow import changelog, folder
from patchset.workflow.compute import compute
from patchset.workflow.series_file import series_text
from patchset.workflow.steps import Stack
from toolkit.errors import IntegrityError
from toolkit.finding import refuse


@dataclass(frozen=True)
class PatchOutcome:
    """The outcome of one patch, see `engine.outcome.PatchDifference`.

    `release` is the first stored release that has what upstream took over, `applies_to` the new range of releases
    where that had to be widened. `resolved` is True where a conflict was resolved by hand, now or before;
    `intermediate_releases` are those along which the patch was merged, because it conflicts in a single merge.
    """

    name: str
    outcome: str
    detail: str = ""
    moved: Mapping[str, str] = field(default_factory=dict)
    landed: tuple[str, ...] = ()
    interdiff: str = ""
    release: str | None = None
    applies_to: str | None = None
    resolved: bool = False
    intermediate_releases: tuple[str, ...] = ()

    @property
    def changelog_line(self) -> str:
        what = f"dropped, {self.outcome}" if self.outcome in DROPPED else self.outcome
        parts = [f"{self.name}: {what}"]
        if self.release:
            parts.append(f"first in {self.release} of the local releases")
        if self.detail:
            parts.append(self.detail)
        if self.intermediate_releases:
            parts.append(f"merged along the intermediate releases {', '.join(self.intermediate_releases)}")
        if self.resolved:
            parts.append("a conflict was resolved by hand")
        if self.applies_to:
            parts.append(f"Applies-To is {self.applies_to} now")
        return "; ".join(parts)


@dataclass(frozen=True)
class NewPatch:
    """A patch of the old series at the new release.

    `entry` and `data` are its line in the new `series` and its file, None where it is dropped. With `parked` it cannot
    be evaluated and its Applies-To leaves the new release out: it is carried over, commented out in `series`.
    """

    outcome: PatchOutcome
    entry: SeriesEntry
    data: bytes | None
    parked: bool = False


def new_patches(
    job: RebaseJob, stack: Stack, git: Git, compare: Comparer, steps: Sequence[ReplayedStep]
) -> list[NewPatch]:
    """Return the patches in the order of the series, up to the first that is not replayed yet."""
    replayed = {item.step.name: item for item in steps}
    evaluation = _Evaluation(job, stack, git, compare)
    patches = []
    for entry, patch in zip(job.series.entries, job.series.patches, strict=True):
        if patch.name in replayed:
            outcome, data = evaluation.outcome(patch, replayed[patch.name])
            # Git's diffs have one leading component, whatever the old patch had.
            patches.append(NewPatch(outcome, entry if data == patch.data else replace(entry, strip=1), data))
        elif stack.is_outside(patch.name):
            patches.append(_outside(job, stack, entry, patch))
        else:
            break
    return patches


def write_series(job: RebaseJob, new: StoredBase, tree: str, patches: Sequence[NewPatch]) -> None:
    """Write the folder of the new series, in one step, after its patches have given `tree` on the new base.

    Raises:
        IntegrityError: they give another tree.
        SeriesError: a new patch cannot be parsed.
    """
    old, source = job.series, new.source
    assert source is not None
    base = job.base.with_source(source.with_trees(new.tree, tree))
    files = [(item.entry, item.data) for item in patches if item.data is not None and not item.parked]
    series = replace(old, base=base, folder=base.folder, patch_files=tuple(files))
    refuse(series.findings, series.title)
    patched = compute(job.location, series, new.unproven())
    if patched.tree != tree:
        raise IntegrityError(
            f"the exported patches give tree {patched.tree}, the merge gave {tree}",
            remedy="report this: the patches of the new series were not written",
        )
    parked = [item.entry for item in patches if item.parked]
    carried = [*old.disabled, *(entry.name for entry in parked)]
    contents = {BASE_TOML: base_text(base, read_text(old.base)).encode()}
    contents["series"] = series_text(old, series.entries, frozenset(entry.patch_name for entry in parked)).encode()
    contents[changelog.NAME] = _changelog(job, patches).encode()
    contents |= {name: (old.folder / name).read_bytes() for name in carried}
    contents |= {entry.name: content for entry, content in files}
    folder.write(base.folder, contents)


def _changelog(job: RebaseJob, patches: Sequence[NewPatch]) -> str:
    old = job.series
    lines = [item.outcome.changelog_line for item in patches]
    lines += [f"{name}: commented out in `series`, and carried over as it is" for name in old.disabled]
    heading = f"Rebased from {old.base.name}" if old.base.name else "Rebased"
    return changelog.title(job.workspace.component.name, job.base.name) + "\n" + changelog.section(heading, lines)


def _outside(job: RebaseJob, stack: Stack, entry: SeriesEntry, patch: Patch) -> NewPatch:
    """Return a patch of which the archive has no file: it is carried over as it is."""
    detail = f"not evaluated: the archive has none of {', '.join(stack.outside[patch.name])}"
    parked = bool(job.base.name) and export.widened(patch.data, job.base.name)[1] is not None
    detail += "; commented out, as Applies-To leaves this release out" if parked else ""
    return NewPatch(PatchOutcome(patch.name, "outside", detail), entry, patch.data, parked)


@dataclass(frozen=True)
class _Evaluation:
    """The context in which the outcomes of a rebase's patches are computed."""

    job: RebaseJob
    stack: Stack
    git: Git
    comparer: Comparer

    def outcome(self, old: Patch, item: ReplayedStep) -> tuple[PatchOutcome, bytes | None]:
        """Return the outcome of a patch, and its new file, None where it is dropped."""
        if item.skipped:
            return PatchOutcome(old.name, "skipped", self.job.skips[old.name]), None
        if item.after == item.before:
            return self._dropped(item), None
        before = self.comparer.compare(item.step.before, item.step.after)
        after = self.comparer.compare(item.before, item.after)
        data, difference = old.data, PatchDifference("unmodified")
        if before != after:
            data, difference = self._rewritten(old, item, before, after)
        data, applies_to = export.widened(data, self.job.base.name) if self.job.base.name else (data, None)
        release = None
        if difference.outcome == "partly upstreamed":
            release = self._first_release(item.step, partial(self._has_some, old))
        along = item.chain.releases if item.chain is not None else ()
        outcome = PatchOutcome(old.name, **vars(difference), release=release, applies_to=applies_to)
        return replace(outcome, resolved=item.resolved, intermediate_releases=along), data

    def _dropped(self, item: ReplayedStep) -> PatchOutcome:
        name, chain = item.step.name, item.chain
        if chain is not None and chain.landed is not None:
            detail = f"merged into {chain.landed} it leaves that release's own tree; upstream has changed it since"
            return PatchOutcome(name, "upstreamed", detail, release=chain.landed, intermediate_releases=chain.releases)
        if item.resolved:
            return PatchOutcome(name, "empty", "its resolution leaves upstream's tree as it is", resolved=True)
        release = self._first_release(item.step, lambda tree, merged: tree == merged)
        return PatchOutcome(name, "upstreamed", f"the merged tree is upstream's own ({item.after})", release=release)

    def _rewritten(
        self, old: Patch, item: ReplayedStep, before: Changes, after: Changes
    ) -> tuple[bytes, PatchDifference]:
        kept = frozenset(self.stack.outside.get(old.name, ()))
        data = export.rewrite(old, partial(self.comparer.text, item.before, item.after), kept)
        new, findings = parse(old.file, data)
        refuse(findings, f"the new {old.name}")
        assert new is not None
        moved = pair(before, after, lambda oid: blobs(self.git, [oid])[oid])
        return data, compare(old, new, moved)

    def _first_release(self, step: PatchStep, has: Callable[[str, str], bool]) -> str | None:
        """Return the first stored release for which `has` is true of its tree and the merge of the step into it.

        None where a release before it conflicts: what that one has cannot be known.
        """
        merge = merger(self.git)
        for base, tree in self.job.stored_releases(self.stack.base.comparable):
            (merged,) = merge([Triple(step.before, tree, step.after)])
            if not merged.clean:
                return None
            if has(tree, merged.tree):
                return base.name
        return None

    def _has_some(self, patch: Patch, tree: str, merged: str) -> bool:
        """Return True where a release's tree has all of a patch, or some of it."""
        if merged == tree:
            return True
        new, _ = parse(patch.file, patch_text(self.git, tree, merged, export.context_of([patch])))
        return new is not None and bool(compare(patch, new, {}).landed)
