"""The patches of a rebase: the new file of each, and its outcome."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

from patchset.engine import export, outcome
from patchset.engine.outcome import PatchDifference
from patchset.engine.renames import pair
from patchset.engine.replay import ReplayedStep
from patchset.model.patch import Patch, parse
from patchset.model.series import PatchFile
from patchset.rebasing.explain import first_release
from patchset.rebasing.job import RebaseJob
from patchset.store.difference import Changes, Comparer, patch_text
from patchset.store.git import Git
from patchset.store.objects import blobs
from patchset.workflow.steps import Stack
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
        what = f"dropped, {self.outcome}" if self.outcome in outcome.DROPPED else self.outcome
        parts = [f"{self.name}: {what}"]
        if self.release:
            parts.append(f"first in {self.release} of the stored releases")
        if self.detail:
            parts.append(self.detail)
        if self.intermediate_releases:
            parts.append(f"merged along the intermediate releases {', '.join(self.intermediate_releases)}")
        if self.resolved:
            parts.append("a conflict was resolved by hand")
        if self.applies_to:
            parts.append(f"Applies-To is {self.applies_to} now")
        return "; ".join(parts)


class NewSeries:
    """The series that a rebase gives, as far as its steps are replayed: outcomes and files, patch by patch."""

    def __init__(self, job: RebaseJob, stack: Stack, git: Git, compare: Comparer, steps: list[ReplayedStep]) -> None:
        self._job = job
        self._stack = stack
        self._git = git
        self._compare = compare
        self._patches = {patch.name: patch for patch in job.series.patches}
        self._results = {step.step.name: self._result(step) for step in steps}

    def outcomes(self) -> tuple[PatchOutcome, ...]:
        """Return the outcomes in the order of the series, up to the first patch that is not replayed yet."""
        outcomes = []
        for entry in self._job.series.entries:
            name = entry.patch_name
            if name in self._results:
                outcomes.append(self._results[name][0])
            elif self._stack.is_outside(name):
                detail = f"not evaluated: the archive has none of {', '.join(self._stack.outside[name])}"
                detail += "; commented out, as Applies-To leaves this release out" if name in self.parked else ""
                outcomes.append(PatchOutcome(name, "outside", detail))
            else:
                break
        return tuple(outcomes)

    def files(self) -> list[PatchFile]:
        """Return the entries of the new series with their files; `parked` patches are not among them."""
        files = []
        for entry, data in self._job.series.patch_files:
            if entry.patch_name in self.parked:
                continue
            new = self._results[entry.patch_name][1] if entry.patch_name in self._results else data
            if new is not None:
                # What git writes has one leading component, whatever the old patch had.
                files.append((entry if new == data else replace(entry, strip=1), new))
        return files

    @cached_property
    def parked(self) -> frozenset[str]:
        """The patches that cannot be evaluated, and whose Applies-To leaves the new release out."""
        release = self._job.base.name
        return frozenset(
            name
            for name, patch in self._patches.items()
            if release and self._stack.is_outside(name) and export.widened(patch.data, release)[1] is not None
        )

    def _result(self, item: ReplayedStep) -> tuple[PatchOutcome, bytes | None]:
        """Return the outcome of a patch, and its new file, None where it is dropped."""
        old = self._patches[item.step.name]
        if item.skipped:
            return PatchOutcome(old.name, "skipped", self._job.skips[old.name]), None
        if item.after == item.before:
            return self._dropped(item), None
        before = self._compare.compare(item.step.before, item.step.after)
        after = self._compare.compare(item.before, item.after)
        data, difference = old.data, PatchDifference("unmodified")
        if before != after:
            data, difference = self._rewritten(old, item, before, after)
        data, applies_to = export.widened(data, self._job.base.name) if self._job.base.name else (data, None)
        release = None
        if difference.outcome == "partly upstreamed":
            release = first_release(self._job, self._stack, self._git, item.step, partial(self._has_some, old))
        patch_outcome = PatchOutcome(
            old.name,
            difference.outcome,
            difference.detail,
            dict(difference.moved),
            difference.landed,
            difference.interdiff,
            release,
            applies_to,
            item.resolved,
            item.chain.releases if item.chain is not None else (),
        )
        return patch_outcome, data

    def _dropped(self, item: ReplayedStep) -> PatchOutcome:
        name, chain = item.step.name, item.chain
        if chain is not None and chain.landed is not None:
            detail = f"merged into {chain.landed} it leaves that release's own tree; upstream has changed it since"
            return PatchOutcome(name, "upstreamed", detail, release=chain.landed, intermediate_releases=chain.releases)
        if item.resolved:
            return PatchOutcome(name, "empty", "its resolution leaves upstream's tree as it is", resolved=True)
        release = first_release(self._job, self._stack, self._git, item.step, lambda tree, merged: tree == merged)
        return PatchOutcome(name, "upstreamed", f"the merged tree is upstream's own ({item.after})", release=release)

    def _has_some(self, patch: Patch, tree: str, merged: str) -> bool:
        """Return True where a release's tree has all of a patch, or some of it."""
        if merged == tree:
            return True
        new, _ = parse(patch.file, patch_text(self._git, tree, merged, export.context_of([patch])))
        return new is not None and bool(outcome.compare(patch, new, {}).landed)

    def _rewritten(
        self, old: Patch, item: ReplayedStep, before: Changes, after: Changes
    ) -> tuple[bytes, PatchDifference]:
        kept = frozenset(self._stack.outside.get(old.name, ()))
        data = export.rewrite(old, partial(self._compare.text, item.before, item.after), kept)
        new, findings = parse(old.file, data)
        refuse(findings, f"the new {old.name}")
        assert new is not None
        moved = pair(before, after, lambda oid: blobs(self._git, [oid])[oid])
        return data, outcome.compare(old, new, moved)
