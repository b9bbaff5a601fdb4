"""A component's work tree in `extern/`: its HEAD, the series that it holds, and the user's own work there."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from patchset.model.component import Base
from patchset.model.series import Series
from patchset.sources.acquire import StoredBase, present
from patchset.sources.kinds import AUTO, KINDS
from patchset.store.difference import diff
from patchset.store.git import Git
from patchset.store.superproject import recorded_commit
from patchset.store.text import records
from patchset.workflow.compute import PatchedTree, base_commit_of
from patchset.workflow.workspace import Workspace
from patchset.worktree import journal, switch
from patchset.worktree.location import Location
from patchset.worktree.state import WorktreeState, head, load, stats
from toolkit.errors import IntegrityError, LocalChanges
from toolkit.text import count_of

_BRANCHES = "refs/heads/patchset/"


def branch_of(base: Base) -> str:
    """Return the full name of the branch that `extern/` is on while the series of a base is applied."""
    return f"{_BRANCHES}{base.name or 'series'}"


def stored_bases(location: Location, base: Base) -> list[StoredBase]:
    """Return a base from every kind of source that the component's repository has it from."""
    if not (location.gitdir / "HEAD").exists():
        return []
    return [stored for kind in KINDS if (stored := present(location.git, base, kind)) is not None]


@dataclass(frozen=True)
class Checkout:
    """The work tree of a component, read once: after a change it takes a new one."""

    location: Location

    @cached_property
    def state(self) -> WorktreeState | None:
        """The state that the tool keeps of the work tree, None if there is none that can be read."""
        return load(self.location.state_file)

    @cached_property
    def head(self) -> tuple[str | None, str]:
        """HEAD as (full name of the branch, None if detached; commit).

        Raises:
            LocalChanges: HEAD has no commit yet.
        """
        git = self.location.git
        branch, commit = head(self.location.gitdir)
        if commit is None:
            commit = git.resolve("HEAD")
            code, out, _ = git.attempt("symbolic-ref", "--quiet", "HEAD")
            branch = out.decode().strip() if code == 0 else None
        if commit is None:
            raise LocalChanges(f"{self.location.work_tree} has no commit yet", remedy="commit the upstream tree first")
        return branch, commit

    @property
    def commit(self) -> str:
        """The commit of HEAD.

        Raises:
            LocalChanges: it has none yet.
        """
        return self.head[1]

    @property
    def on_our_branch(self) -> bool:
        return (self.head[0] or "").startswith(_BRANCHES)

    def exact_state(self, series: Series, source: str = AUTO) -> WorktreeState | None:
        """Return the state if the work tree holds exactly this series, by its files' lstat(2) alone: no git is run."""
        location, state = self.location, self.state
        if not location.populated or journal.left_over(location):
            return None
        if state is None or state.digest != series.digest or source not in (AUTO, state.source):
            return None
        if head(location.gitdir) != (branch_of(series.base), state.tip):
            return None
        return state if stats(location.work_tree, state.stats) == state.stats else None

    def state_of(self, series: Series) -> WorktreeState | None:
        """Return the state if the work tree is at this series' base, with or without the patches."""
        state = self.state if self.location.populated else None
        return state if state is not None and state.base == series.base.name else None

    def patched_state(self, series: Series) -> WorktreeState | None:
        """Return the state if this series is applied, whatever the user has changed or committed since."""
        state = self.state_of(series)
        # `unapply` leaves the digest of no series. An empty series, once applied, has a digest.
        return state if state is not None and state.digest else None

    def unapplied_error(self, series: Series) -> LocalChanges:
        """Return the error for a series that is not in the work tree."""
        path, title = series.component.path, series.title
        message = f"{title} is not applied to {path}" if self.location.populated else f"{path} is empty"
        return LocalChanges(message, remedy=f"run `patchset apply {title}` first")

    def local_changes(self) -> tuple[str, ...]:
        """Return the paths at which the work tree has work that is not committed."""
        git = Git(self.location.gitdir, self.location.work_tree)
        out = git.run("status", "--porcelain", "-z", "--untracked-files=normal", "--no-renames")
        return tuple(line[3:] for line in records(out) if len(line) > 3)

    def worktree_base(self) -> StoredBase:
        """Return the base of a series that records none: the commit below what the tool has applied."""
        commit, state = self.commit, self.state
        if state is not None and commit == state.tip:
            commit = state.base_commit
        else:
            commit = base_commit_of(self.location, commit) or commit
        tree = self.location.git.tree_of(commit) or ""
        return StoredBase("worktree", commit, tree, "base.toml records none: the work tree's HEAD is the base")

    def base_of(self, series: Series) -> StoredBase:
        """Return the base of a series: from the source that is applied, or any that the repository has.

        Raises:
            IntegrityError: the repository has none.
        """
        if not series.base.recorded:
            return self.worktree_base()
        bases = stored_bases(self.location, series.base)
        if not bases:
            raise IntegrityError(
                f"{series.title} is not in the component's repository",
                remedy=f"patchset apply {series.title} brings it",
            )
        state = self.state
        return next((base for base in bases if state is not None and base.kind == state.source), bases[0])

    def bring(
        self, series: Series, base: StoredBase, patched: PatchedTree, message: str, home: str | None
    ) -> WorktreeState:
        """Bring the work tree to a patched tree in one step, and return its new state.

        Files that do not differ are left alone. `home` is the branch to return to when the series is taken away.

        Raises:
            LocalChanges: the user's work is in the way; nothing was changed.
            EnvironmentProblem: the disk is full, or a file cannot be replaced.
        """
        location, branch = self.location, branch_of(series.base)
        series_changes = diff(location.git, base.commit, patched.tip)
        state = WorktreeState(
            base=series.base.name,
            source=base.kind,
            digest=series.digest,
            base_commit=base.commit,
            tip=patched.tip,
            tree=patched.tree,
            patches=patched.patches,
            branch=home,
            stats=dict.fromkeys(series_changes),
        )
        if not location.populated:
            switch.populate(location, patched.tip, branch, state, message)
            return state
        changes = series_changes if self.commit == base.commit else diff(location.git, self.commit, patched.tip)
        switch.switch(location, self.head, patched.tip, branch, state, message, changes=changes)
        return state

    def refuse_foreign(self, workspace: Workspace, base_commit: str) -> None:
        """Raise `LocalChanges` if HEAD, or a branch of our name, holds commits that are not the tool's."""
        self.refuse_foreign_head(workspace, base_commit)
        self.refuse_foreign_branch(workspace.base)

    def refuse_foreign_head(self, workspace: Workspace, base_commit: str) -> None:
        """Raise `LocalChanges` if HEAD is at a commit of the user's; names the commits."""
        component, state = workspace.component, self.state
        branch, commit = self.head
        known = {base_commit, *(base.commit for base in component.bases)}
        if state is not None:
            known |= {state.tip, state.base_commit}
        if commit in known | self._our_commits() or commit == recorded_commit(workspace.root, component.path):
            return
        git, tip = self.location.git, state.tip if state is not None else base_commit
        code, out, _ = git.attempt("log", "--format=%h %s", "-n", "20", f"{tip}..{commit}")
        commits = tuple(out.decode(errors="replace").splitlines()) if code == 0 else ()
        name = (branch or "a detached HEAD").removeprefix("refs/heads/")
        what = f"{count_of(len(commits), 'commit')} of yours" if commits else f"commit {commit[:12]}"
        raise LocalChanges(
            f"{self.location.work_tree} has {what} on {name}",
            details=commits,
            remedy=f"keep them (git -C {component.path} branch my-work), then "
            f"git -C {component.path} checkout --detach {tip[:12]}, and run again",
        )

    def refuse_foreign_branch(self, base: Base) -> None:
        """Raise `LocalChanges` if the branch that `apply` would move holds commits of the user's."""
        location, state = self.location, self.state
        if not (location.gitdir / "HEAD").exists():
            return
        commit = location.git.resolve(branch_of(base))
        if commit is None or (state is not None and commit == state.tip) or commit in self._our_commits():
            return
        short = branch_of(base).removeprefix("refs/heads/")
        raise LocalChanges(
            f"the branch {short} in {location.work_tree} has commits of yours",
            remedy=f"rename it (git branch -m {short} my-work), then run again",
        )

    def _our_commits(self) -> set[str]:
        """Return every commit that the tool itself has written into the component's repository and needs."""
        return set(self.location.git.run("for-each-ref", "--format=%(objectname)", "refs/patchset/").decode().split())
