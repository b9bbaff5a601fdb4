"""Series that other tools wrote, in a project that records nothing: same tree as git am, quilt and patch give."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ..conftest import Run, git, write
from ..tools import TOOLS, tree_after

LINES = "".join(f"line {n}\n" for n in range(1, 41))
BASE: dict[str, str | bytes | None] = {
    "doc/read me.txt": LINES,
    "src/a.c": LINES,
    "src/b.c": LINES.replace("line", "bee"),
    "src/deep/c.h": "no line end",
    "tool.sh": "#!/bin/sh\n",
    "crlf.txt": "one\r\ntwo\r\nthree\r\n",
    "blob.bin": bytes(range(256)),
}


class Foreign:
    """A project root with one component: its tree in `extern/foo`, its series in `patches/foo`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tree = path / "extern/foo"
        self.series = path / "patches/foo"
        self.work = path / "work"
        self.tree.mkdir(parents=True)
        self.series.mkdir(parents=True)
        write(self.tree, BASE)
        (self.tree / "link").symlink_to("src/a.c")
        (self.tree / "tool.sh").chmod(0o755)
        git(self.tree, "init", "-q")
        git(self.tree, "add", "-A")
        git(self.tree, "commit", "-qm", "base")
        self.base = git(self.tree, "rev-parse", "HEAD")
        git(path, "clone", "-q", str(self.tree), str(self.work))
        (self.series / "series").write_text("")

    def edit(self, files: dict[str, str | bytes | None], message: str = "edit") -> str:
        write(self.work, files)
        git(self.work, "add", "-A")
        git(self.work, "commit", "-qm", message)
        return self.wanted

    @property
    def wanted(self) -> str:
        return git(self.work, "rev-parse", "HEAD^{tree}")

    def add(self, name: str, text: bytes | str, line: str = "") -> None:
        (self.series / name).parent.mkdir(parents=True, exist_ok=True)
        (self.series / name).write_bytes(text.encode() if isinstance(text, str) else text)
        with (self.series / "series").open("a") as stream:
            stream.write(f"{line or name}\n")

    def diff(self, *options: str) -> bytes:
        command = ["git", "diff", *options, "HEAD~1", "HEAD"]
        return subprocess.run(command, cwd=self.work, check=True, capture_output=True).stdout

    def format_patch(self) -> bytes:
        command = ["git", "format-patch", "-1", "--stdout", "--binary"]
        return subprocess.run(command, cwd=self.work, check=True, capture_output=True).stdout


@pytest.fixture
def foreign(tmp_path: Path) -> Foreign:
    return Foreign(tmp_path / "root")


def without_index(diff: bytes) -> bytes:
    """As quilt writes it: none of git's own lines."""
    gits = (b"diff --git", b"index ", b"new file mode", b"deleted file mode")
    return b"\n".join(line for line in diff.split(b"\n") if not line.startswith(gits))


def applied(foreign: Foreign, run: Run) -> str:
    result = run("--root", foreign.path, "apply")
    assert result.code == 0, result.err
    assert git(foreign.tree, "status", "--porcelain") == ""
    return git(foreign.tree, "rev-parse", "HEAD^{tree}")


def test_plain_quilt_patches(foreign: Foreign, run: Run, tmp_path: Path) -> None:
    foreign.edit({"src/a.c": LINES.replace("line 7\n", "seven\n"), "src/deep/c.h": "no line end, still"})
    foreign.add("one.patch", b"Fix seven\n\nBy hand.\n" + without_index(foreign.diff()))
    foreign.edit({"src/a.c": LINES.replace("line 7\n", "seven\n").replace("line 30\n", ""), "new/file": "new\n"})
    foreign.add("more/two.diff", b"Index: foo/src/a.c\n" + without_index(foreign.diff("-U1")))
    assert applied(foreign, run) == foreign.wanted
    for tool in ("quilt", "patch"):
        if shutil.which(tool):
            assert tree_after(tool, foreign.tree, foreign.base, foreign.series, tmp_path / tool) == foreign.wanted


@pytest.mark.parametrize("strip", [0, 1, 2, 3])
def test_strip_levels(foreign: Foreign, run: Run, tmp_path: Path, strip: int) -> None:
    foreign.edit({"src/a.c": LINES.replace("line 7\n", "seven\n")})
    diff = without_index(foreign.diff("--no-prefix"))
    prefix = "".join(f"p{number}/" for number in range(strip)).encode()
    diff = diff.replace(b"--- src", b"--- " + prefix + b"src").replace(b"+++ src", b"+++ " + prefix + b"src")
    foreign.add("one.patch", diff, f"one.patch -p{strip}")
    assert applied(foreign, run) == foreign.wanted
    if shutil.which("patch"):
        assert tree_after("patch", foreign.tree, foreign.base, foreign.series, tmp_path / "patch") == foreign.wanted


CHANGES: dict[str, Callable[[Path], None]] = {
    "rename": lambda work: (work / "src/a.c").rename(work / "src/renamed.c") and None,
    "delete": lambda work: (work / "src/a.c").unlink(),
    "executable": lambda work: (work / "src/a.c").chmod(0o755),
    "not executable any more": lambda work: (work / "tool.sh").chmod(0o644),
    "empty file": lambda work: (work / "empty").touch(),
    "emptied file": lambda work: (work / "src/a.c").write_text("") and None,
    "line end at the end of the file": lambda work: (work / "src/deep/c.h").write_text("no line end\n") and None,
    "name with a space": lambda work: (work / "doc/read me.txt").write_text(LINES + "more\n") and None,
    "name in UTF-8": lambda work: (work / "doc/é.txt").write_text("é\n") and None,
    "CRLF": lambda work: (work / "crlf.txt").write_bytes(b"one\r\n2\r\nthree\r\n") and None,
    "binary": lambda work: (work / "blob.bin").write_bytes(bytes(range(255, -1, -1)) * 9) and None,
    "new binary": lambda work: (work / "new.bin").write_bytes(b"\0\1\2" * 99) and None,
    "symbolic link": lambda work: (work / "other").symlink_to("src/b.c"),
}


def relink(work: Path) -> None:
    (work / "link").unlink()
    (work / "link").symlink_to("src/b.c")


def file_to_link(work: Path) -> None:
    (work / "tool.sh").unlink()
    (work / "tool.sh").symlink_to("src/b.c")


def rename_and_edit(work: Path) -> None:
    (work / "src/a.c").unlink()
    (work / "lib").mkdir()
    (work / "lib/a.c").write_text(LINES.replace("line 20\n", "twenty\n"))


CHANGES |= {"link elsewhere": relink, "rename and edit": rename_and_edit, "file to link": file_to_link}


@pytest.mark.parametrize("kind", CHANGES)
def test_git_patches_of_every_kind(foreign: Foreign, run: Run, tmp_path: Path, kind: str) -> None:
    CHANGES[kind](foreign.work)
    wanted = foreign.edit({})
    foreign.add("one.patch", foreign.format_patch())
    assert applied(foreign, run) == wanted
    assert tree_after("git am", foreign.tree, foreign.base, foreign.series, tmp_path / "am") == wanted


def test_a_series_of_all_kinds_is_one_for_all_tools(foreign: Foreign, run: Run, tmp_path: Path) -> None:
    for number, change in enumerate((CHANGES["executable"], CHANGES["rename"], CHANGES["empty file"])):
        change(foreign.work)
        foreign.edit({}, f"change {number}")
        foreign.add(f"{number}.patch", foreign.format_patch())
    wanted = applied(foreign, run)
    assert wanted == foreign.wanted
    for tool in TOOLS:
        program = tool.split()[0]
        if shutil.which(program):
            assert tree_after(tool, foreign.tree, foreign.base, foreign.series, tmp_path / program) == wanted, tool


def test_a_hunk_that_moved_is_placed_by_its_context(foreign: Foreign, run: Run) -> None:
    foreign.edit({"src/a.c": LINES.replace("line 20\n", "twenty\n")})
    foreign.add("one.patch", without_index(foreign.diff()).replace(b"@@ -17,7 +17,7 @@", b"@@ -12,7 +12,7 @@"))
    assert applied(foreign, run) == foreign.wanted
    result = run("--root", foreign.path, "show", "one")
    assert result.code == 0


def test_a_patch_edited_by_hand_keeps_a_stale_index_line(foreign: Foreign, run: Run, tmp_path: Path) -> None:
    foreign.edit({"src/a.c": LINES.replace("line 20\n", "twenty\n")})
    foreign.add("one.patch", foreign.format_patch().replace(b"+twenty", b"+score"))
    foreign.edit({"src/a.c": LINES.replace("line 20\n", "score\n")})
    assert applied(foreign, run) == foreign.wanted
    assert tree_after("git am", foreign.tree, foreign.base, foreign.series, tmp_path / "am") == foreign.wanted
    report = run("--root", foreign.path, "apply", "--json")
    assert '"match": "context"' in report.out


def test_what_needs_fuzz_is_refused(foreign: Foreign, run: Run) -> None:
    foreign.edit({"src/a.c": LINES.replace("line 20\n", "twenty\n")})
    foreign.add("one.patch", without_index(foreign.diff()).replace(b" line 17", b" line seventeen"))
    result = run("--root", foreign.path, "apply")
    assert result.code == 4
    assert "one of foo does not apply to src/a.c: hunk 1" in result.err
    assert "line 17 should be 'line seventeen': it is 'line 17'" in result.err
    assert git(foreign.tree, "rev-parse", "HEAD") == foreign.base


FILE_IN_PLACE_OF_SRC = "--- /dev/null\n+++ b/src\n@@ -0,0 +1 @@\n+file\n"


def test_a_file_in_place_of_a_folder_is_refused(foreign: Foreign, run: Run) -> None:
    foreign.edit({"src/b.c": "bee\n"})
    foreign.add("one.patch", without_index(foreign.diff()))
    foreign.add("two.patch", FILE_IN_PLACE_OF_SRC)
    result = run("--root", foreign.path, "apply")
    assert result.code == 4
    assert "two of foo does not apply to src" in result.err
    assert "src is a folder that holds src/b.c" in result.err
    assert git(foreign.tree, "rev-parse", "HEAD") == foreign.base


def test_a_folder_that_holds_nothing_any_more_can_become_a_file(foreign: Foreign, run: Run, tmp_path: Path) -> None:
    foreign.edit({"src/a.c": None, "src/b.c": None, "src/deep/c.h": None})
    foreign.add("one.patch", foreign.format_patch())
    shutil.rmtree(foreign.work / "src", ignore_errors=True)
    foreign.edit({"src": "file\n"})
    foreign.add("two.patch", foreign.format_patch())
    assert applied(foreign, run) == foreign.wanted
    assert tree_after("git am", foreign.tree, foreign.base, foreign.series, tmp_path / "am") == foreign.wanted


def test_new_content_on_a_file_that_is_there_is_refused(foreign: Foreign, run: Run) -> None:
    foreign.add("one.patch", "--- a/src/a.c\n+++ b/src/a.c\n@@ -0,0 +1 @@\n+new\n")
    result = run("--root", foreign.path, "apply")
    assert result.code == 4
    assert "adds lines without context" in result.err


def test_a_commented_patch_is_named_and_not_applied(foreign: Foreign, run: Run) -> None:
    foreign.edit({"src/a.c": LINES.replace("line 20\n", "twenty\n")})
    foreign.add("one.patch", foreign.format_patch())
    foreign.add("two.patch", "--- a/nothing\n+++ b/nothing\n@@ -1 +1 @@\n-a\n+b\n", "# two.patch: wants 2.0")
    result = run("--root", foreign.path, "apply")
    assert result.code == 0
    assert "commented out in series: two.patch" in result.out
    assert git(foreign.tree, "rev-parse", "HEAD^{tree}") == foreign.wanted
    assert '"disabled": [\n      "two.patch"\n    ]' in run("--root", foreign.path, "list", "--json").out
    assert "two.patch" in run("--root", foreign.path, "list").out


def test_binary_files_differ_is_not_skipped(foreign: Foreign, run: Run) -> None:
    foreign.edit({"blob.bin": b"\0other"})
    foreign.add("one.patch", foreign.diff())
    result = run("--root", foreign.path, "apply")
    assert result.code == 3
    assert "one.patch" in result.err
    assert "git diff --binary" in result.err
