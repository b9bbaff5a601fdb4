"""The project's own repository, whose submodules the components are; the one reader of `.gitmodules`.

The git directory and `.gitmodules` are read from files, without git: that is done at every start.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from patchset.store.git import Git, GitError
from patchset.store.index import index_entries
from patchset.store.objects import GITLINK, entries
from patchset.store.text import decode

# The syntax of git-config(1), CONFIGURATION FILE: white space and comments, a section's head, a variable.
_BLANK = re.compile(r"(?:[ \t\r\n]|[#;][^\n]*)*")
_SECTION = re.compile(r'\[([A-Za-z0-9.-]+)(?:[ \t\r]+"((?:\\[^\n]|[^"\\\n])*)")?\]')
_ESCAPE = r'\\["\\tbn\n]'
# White space around a value does not belong to it; within it, and beside quotes, it does.
_WORD = rf'"(?:{_ESCAPE}|[^"\\\n])*+"|{_ESCAPE}|[^"\\\n#; \t\r]++|[ \t\r]++(?![\n#;])'
_VALUE = rf'(?:[ \t\r]|""|\\\n)*+((?:{_WORD})*+)[ \t\r]*+(?:[#;][^\n]*)?'
_VARIABLE = re.compile(rf"([A-Za-z][A-Za-z0-9-]*)[ \t]*(?:={_VALUE})?\n")
_QUOTING = re.compile(r'\\(.)|"', re.DOTALL)
_ESCAPED = {None: "", "t": "\t", "b": "\b", "n": "\n", "\n": ""}


@dataclass(frozen=True)
class GitModule:
    """A submodule as `.gitmodules` registers it; `url` is None where it states none."""

    name: str
    path: str
    url: str | None


def gitdir_of(work_tree: Path) -> Path | None:
    """Return the git directory of a work tree, or None where the folder is not the top of one."""
    dot_git = work_tree / ".git"
    if dot_git.is_file():
        target = dot_git.read_text("utf-8").removeprefix("gitdir:").strip()
        return (work_tree / target).resolve()
    return dot_git if dot_git.is_dir() else None


def git_of(root: Path) -> Git | None:
    """Return git in the project's own repository, or None where the project is not in git."""
    gitdir = gitdir_of(root)
    return Git(gitdir, root) if gitdir is not None else None


def submodule_at(root: Path, path: str) -> GitModule | None:
    """Return the submodule that `.gitmodules` registers at `path`, or None.

    Raises:
        GitError: the file breaks git's format, or the submodule's name is no relative path.
    """
    file = root / ".gitmodules"
    if not file.is_file():
        return None
    submodules: dict[str, dict[str, str | None]] = {}
    for variable, value in parse_config(file.read_bytes(), file):
        section, _, rest = variable.partition(".")
        name, _, key = rest.rpartition(".")
        if section == "submodule" and name:
            submodules.setdefault(name, {})[key] = value
    for name, values in submodules.items():
        if values.get("path") == path:
            # The name becomes a folder's: git refuses such a one, too (submodule-config.c, check_submodule_name).
            if name.startswith("/") or ".." in re.split(r"[/\\]", name):
                raise GitError(f"{file}: the submodule's name {name!r} leads elsewhere", remedy="give it another name")
            return GitModule(name, path, values.get("url"))
    return None


def recorded_commit(root: Path, path: str) -> str | None:
    """Return the commit that HEAD, or else the index, records for the submodule at `path`, or None."""
    git = git_of(root)
    if git is None or submodule_at(root, path) is None:
        return None
    head = entries(git, "HEAD", [path]) if git.resolve("HEAD") else {}
    entry = head.get(path) or index_entries(git, [path]).get(path)
    return entry.oid if entry is not None and entry.mode == GITLINK else None


def init_submodule(root: Path, path: str) -> None:
    """Register the submodule at `path` in the superproject's configuration, if the superproject has it.

    Raises:
        GitError: git failed.
    """
    git = git_of(root)
    if git is None or submodule_at(root, path) is None:
        return
    entry = index_entries(git, [path]).get(path)
    if entry is not None and entry.mode == GITLINK:
        git.run("submodule", "--quiet", "init", "--", path)


def guard_gitlink(root: Path, path: str, commit: str) -> None:
    """Keep `git add -A` and `git commit -a` from recording the submodule at `path`, if it stands at another commit.

    Its entry gets the skip-worktree bit (git-update-index(1)): `ignore = all` in .gitmodules keeps it out of git
    status, and those two take it all the same. At the recorded commit the bit goes again. A project that is not in
    git, or has no such submodule, is left alone; so is an index that somebody else is writing (`lint` still tells).
    """
    git = git_of(root)
    if git is None:
        return
    # `S 160000 <commit> 0<TAB><path>`, the letter is H without the bit.
    _, out, _ = git.attempt("ls-files", "-v", "-z", "--stage", "--", path)
    fields = decode(out).partition("\t")[0].split()
    if len(fields) != 4 or int(fields[1], 8) != GITLINK:
        return
    guarded, wanted = fields[0] == "S", fields[2] != commit
    if guarded != wanted:
        git.attempt("update-index", "--skip-worktree" if wanted else "--no-skip-worktree", "--", path)


def parse_config(data: bytes, file: Path) -> list[tuple[str, str | None]]:
    """Return the variables of a file in git's format, named as `git config --list` names them, with their values.

    A variable without a value has None.

    Raises:
        GitError: the file breaks the format; `file` is its name for the message.
    """
    text = decode(data).removeprefix("\ufeff").replace("\r\n", "\n") + "\n"
    variables: list[tuple[str, str | None]] = []
    section, at = "", 0
    while True:
        blank = _BLANK.match(text, at)
        at = blank.end() if blank else at
        if at == len(text):
            return variables
        if match := _SECTION.match(text, at):
            name = "" if match[2] is None else re.sub(r"\\(.)", r"\1", match[2]) + "."
            section = f"{match[1].lower()}.{name}"
        elif match := _VARIABLE.match(text, at):
            value = match[2]
            if value is not None:
                value = _QUOTING.sub(lambda quoting: _ESCAPED.get(quoting[1], quoting[1]), value)
            variables.append((section + match[1].lower(), value))
        else:
            line = text.count("\n", 0, at) + 1
            raise GitError(f"{file}, line {line}: git cannot read it", remedy="mend the line, or take it out")
        at = match.end()
