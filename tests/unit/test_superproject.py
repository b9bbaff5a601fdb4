"""`.gitmodules` read as git reads it, and without git."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patchset.project.project import load
from patchset.store.git import GitError
from patchset.store.superproject import GitModule, parse_config, recorded_commit, submodule_at
from patchset.worktree.location import locate
from toolkit.errors import PatchsetError

from ..conftest import git

# A tab or carriage return between words is left out: git has read it as a blank (2.39), and as itself later.
PIECES = ["x", "ext/foo", "é", "=", "]", " ", "  ", '"', '"a b"', '" ;#"', "\\\\", '\\"', "\\t", "\\n", "\\b"]
PIECES += ["\\\n", "\\q", " # note", " ; note", "#"]
VALUES = st.lists(st.sampled_from(PIECES), max_size=6).map("".join)
KEYS = st.sampled_from(["path", "url", "Path", "no-such-key", "shallow", "3d", "a_b"])
VARIABLES = st.builds("{}{}{}".format, KEYS, st.sampled_from([" = ", "=", "  =", " ", "=  ", " ;"]), VALUES)
NAMES = st.lists(st.sampled_from(["a", "B.c", " ", "/", '\\"', "\\\\", "\\q", "#", "]", "é"]), max_size=4).map("".join)
SECTIONS = st.one_of(
    NAMES.map('[submodule "{}"]'.format),
    NAMES.map('[SubModule  "{}"]'.format),
    st.sampled_from(["[submodule.Foo]", "[submodule]", "[core]", '[submodule"x"]', "[sub module]", '[submodule "a" ]']),
)
LINES = st.one_of(SECTIONS, VARIABLES, st.sampled_from(["# note", "; note", "", "  ", "\ufeff"]))
JOINED = st.tuples(LINES, st.sampled_from(["\n", "\n\t", "\r\n", " ", ""])).map("".join)


@settings(max_examples=100, deadline=None)
@given(st.lists(JOINED, max_size=8).map("".join), st.booleans())
def test_the_parser_agrees_with_git(text: str, in_a_section: bool) -> None:
    data = (('[submodule "first"]\n' if in_a_section else "") + text).encode()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, ".gitmodules")
        file.write_bytes(data)
        command = ["git", "config", "-f", str(file), "--list", "-z"]
        process = subprocess.run(command, capture_output=True, check=False)
        try:
            ours = parse_config(data, file)
        except GitError:
            assert process.returncode
            return
    if not in_a_section and process.returncode:
        return  # git refuses a variable before the first section, whose name is not one
    assert process.returncode == 0, process.stderr.decode()
    records = [record.partition("\n") for record in process.stdout.decode().split("\0")[:-1]]
    assert ours == [(name, value if separator else None) for name, separator, value in records]


QUOTED = b"""\
# what users write by hand
[submodule "extern/a \\"b\\""]
\tpath = "extern/foo" ; here
\turl = https://example.invalid/a.git\\

# a comment
[submodule "other"] path = "extern;bar"
"""


def test_a_submodule_with_quotes_and_comments(tmp_path: Path) -> None:
    (tmp_path / ".gitmodules").write_bytes(QUOTED)
    url = "https://example.invalid/a.git"
    assert submodule_at(tmp_path, "extern/foo") == GitModule('extern/a "b"', "extern/foo", url)
    assert submodule_at(tmp_path, "extern;bar") == GitModule("other", "extern;bar", None)
    assert submodule_at(tmp_path, "extern") is None


def test_a_broken_file_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / ".gitmodules").write_text('[submodule "a"]\n\tpath = a\n<<<<<<< HEAD\n')
    with pytest.raises(GitError, match=r"\.gitmodules, line 3"):
        submodule_at(tmp_path, "a")


def project(root: Path) -> None:
    (root / "patches/foo/1.0").mkdir(parents=True)
    (root / "patches/foo/1.0/series").touch()
    git(root, "init", "-q")


@pytest.mark.parametrize("name", ["../../outside", "a/../b", "/tmp/elsewhere", "a\\\\..\\\\b"])
def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    """The name becomes a folder below the superproject's `modules/`."""
    project(tmp_path)
    (tmp_path / ".gitmodules").write_text(f'[submodule "{name}"]\n\tpath = extern/foo\n')
    with pytest.raises(PatchsetError, match="leads elsewhere"):
        locate(tmp_path, load(tmp_path).component("foo"))


def test_the_recorded_commit_is_of_a_registered_submodule(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    assert recorded_commit(tmp_path, "extern/foo") is None
    for commit in ("1" * 40, "2" * 40):
        git(tmp_path, "update-index", "--add", "--cacheinfo", f"160000,{commit},extern/foo")
        if commit.startswith("1"):
            # In the index alone, and in no .gitmodules: somebody's own repository, added by accident.
            assert recorded_commit(tmp_path, "extern/foo") is None
            (tmp_path / ".gitmodules").write_text('[submodule "foo"]\n\tpath = extern/foo\n')
            assert recorded_commit(tmp_path, "extern/foo") == commit
            git(tmp_path, "commit", "-q", "-m", "foo")
    # HEAD goes before the index.
    assert recorded_commit(tmp_path, "extern/foo") == "1" * 40


def test_a_location_needs_neither_git_nor_gitpython(tmp_path: Path) -> None:
    project(tmp_path)
    (tmp_path / ".gitmodules").write_bytes(QUOTED)
    program = (
        "import sys; from pathlib import Path\n"
        "from patchset.project.project import load; from patchset.worktree.location import locate\n"
        "sys.addaudithook(lambda event, args: event == 'subprocess.Popen' and sys.exit('a process'))\n"
        "root = Path(sys.argv[1]); print(locate(root, load(root).component('foo')).gitdir)\n"
        "assert 'git' not in sys.modules"
    )
    process = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, check=False)
    assert process.returncode == 0, process.stderr.decode()
    assert process.stdout.decode().strip() == str(tmp_path / '.git/modules/extern/a "b"')
