"""The submodule's commit in the project's index: what a series makes of it is no commit to record there."""

from __future__ import annotations

from pathlib import Path

from patchset.store.git import Git
from patchset.worktree.location import superproject_gitdir


def guard(root: Path, path: str, commit: str) -> None:
    """Keep `git add -A` and `git commit -a` from recording the submodule at `path`, if it stands at another commit.

    Its entry gets the skip-worktree bit (git-update-index(1)): `ignore = all` in .gitmodules keeps it out of git
    status, and those two take it all the same. At the recorded commit the bit goes again. A project that is not in
    git, or has no such submodule, is left alone; so is an index that somebody else is writing (`lint` still tells).
    """
    gitdir = superproject_gitdir(root)
    if gitdir is None:
        return
    git = Git(gitdir, root)
    # `S 160000 <commit> 0<TAB><path>`, the letter is H without the bit.
    _, out, _ = git.attempt("ls-files", "-v", "-z", "--stage", "--", path)
    fields = out.split(b"\t")[0].decode().split()
    if len(fields) != 4 or fields[1] != "160000":
        return
    guarded, wanted = fields[0] == "S", fields[2] != commit
    if guarded != wanted:
        git.attempt("update-index", "--skip-worktree" if wanted else "--no-skip-worktree", "--", path)
