"""Hunks located: never in doubt, never fuzzy, the same as git where git is right."""

from __future__ import annotations

import difflib
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patchset.engine.hunks import HunkNotLocated, apply_hunks, split_lines
from patchset.model.patch import Hunk, parse


def good_hunks(data: bytes) -> tuple[Hunk, ...]:
    patch, findings = parse(Path("x.patch"), data)
    assert findings == []
    assert patch is not None
    return patch.changes[0].hunks


LINES = st.lists(st.sampled_from([b"a\n", b"b\n", b"c\n", b"\n", b"d\r\n"]), max_size=30)


def hunks_of(old: list[bytes], new: list[bytes]):  # type: ignore[no-untyped-def]
    text = [line.decode("latin-1") for line in old], [line.decode("latin-1") for line in new]
    diff = "".join(difflib.unified_diff(*text, "a/f", "b/f", lineterm="\n"))
    if not diff:
        return ()
    patch, findings = parse(Path("x.patch"), diff.encode("latin-1"))
    assert findings == []
    assert patch is not None
    return patch.changes[0].hunks


@given(LINES, LINES)
def test_a_diff_applied_exactly_gives_the_new_file(old: list[bytes], new: list[bytes]) -> None:
    assert apply_hunks(b"".join(old), hunks_of(old, new), exact=True).data == b"".join(new)


@settings(max_examples=40, deadline=None)
@given(LINES, LINES, LINES)
def test_what_is_located_by_context_is_what_git_apply_makes(
    old: list[bytes], new: list[bytes], before: list[bytes]
) -> None:
    """On a file that has moved down: we refuse what is in doubt, and otherwise agree with git."""
    import tempfile

    hunks = hunks_of(old, new)
    data = b"".join(before + old)
    try:
        ours = apply_hunks(data, hunks, exact=False).data
    except HunkNotLocated:
        return
    if not hunks:
        return
    text = "".join(
        difflib.unified_diff(
            [line.decode("latin-1") for line in old], [line.decode("latin-1") for line in new], "a/f", "b/f"
        )
    )
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "f").write_bytes(data)
        done = subprocess.run(
            ["git", "apply", "--whitespace=nowarn", "-"],
            cwd=folder,
            input=text.encode("latin-1"),
            capture_output=True,
            check=False,
        )
        if done.returncode == 0:
            assert Path(folder, "f").read_bytes() == ours


def test_what_ended_its_file_is_refused_where_the_file_goes_on() -> None:
    """git takes such a hunk to the end, nine lines on; its own line is not the place either."""
    old, new = [b"b\n"] + [b"a\n"] * 8, [b"a\n"] * 7
    with pytest.raises(HunkNotLocated, match="it ended the file") as caught:
        apply_hunks(b"".join(old + old), hunks_of(old, new), exact=False)
    assert caught.value.hunk.number == 2
    assert apply_hunks(b"".join(old), hunks_of(old, new), exact=False).data == b"".join(new)


CLASSES = b"""\
class A:
    def f(self):
        x = 1
        return x

class B:
    def f(self):
        x = 1
        return x
"""
SHIFTED = b"""\
--- a/f
+++ b/f
@@ -7,3 +7,3 @@ class B:
     def f(self):
-        x = 1
+        x = 2
         return x
"""


def test_a_hunk_that_fits_in_two_places_is_refused() -> None:
    """The wrong-class trap: `git apply` and `patch` take the nearest and say that all is well."""
    patch, _ = parse(Path("x.patch"), SHIFTED)
    assert patch is not None
    hunks = patch.changes[0].hunks
    assert b"class B:\n    def f(self):\n        x = 2" in apply_hunks(CLASSES, hunks, exact=False).data
    with pytest.raises(HunkNotLocated, match="2 other places: 3, 8"):
        apply_hunks(b"# a line more\n" + CLASSES, hunks, exact=False)


def test_exact_takes_no_other_line() -> None:
    patch, _ = parse(Path("x.patch"), b"--- a/f\n+++ b/f\n@@ -2 +2 @@\n-b\n+B\n")
    assert patch is not None
    hunks = patch.changes[0].hunks
    assert apply_hunks(b"a\nb\n", hunks, exact=True).data == b"a\nB\n"
    with pytest.raises(HunkNotLocated, match="line 2 should be 'b': it is 'x'"):
        apply_hunks(b"a\nx\nb\n", hunks, exact=True)
    moved = apply_hunks(b"a\nx\nb\n", hunks, exact=False)
    assert (moved.data, moved.offsets) == (b"a\nx\nB\n", (1,))


STARTS = b"--- a/f\n+++ b/f\n@@ -1,3 +1,4 @@\n+first\n line 1\n line 2\n line 3\n"


def test_what_began_its_file_is_refused_elsewhere() -> None:
    """As git apply and patch have it: the line was added at the start, not before `line 1`."""
    hunks = good_hunks(STARTS)
    lines = b"".join(b"line %d\n" % number for number in range(1, 9))
    assert apply_hunks(lines, hunks, exact=False).data == b"first\n" + lines
    with pytest.raises(HunkNotLocated, match="it began the file of the patch, and its lines stand at line 6"):
        apply_hunks(b"header\n" * 5 + lines, hunks, exact=False)


def test_a_hunk_near_the_start_with_all_of_its_context_may_move() -> None:
    """git refuses this one too, patch takes it: three lines of context on each side do not prove a start."""
    before = [b"line %d\n" % number for number in range(1, 9)]
    after = [*before[:3], b"four\n", *before[4:]]
    moved = apply_hunks(b"".join([b"header\n", *before]), hunks_of(before, after), exact=False)
    assert (moved.data, moved.offsets) == (b"".join([b"header\n", *after]), (1,))


def test_a_hunk_without_context_stands_at_its_own_line() -> None:
    hunks = good_hunks(b"--- a/f\n+++ b/f\n@@ -7 +7 @@\n-line 7\n+seven\n")
    lines = b"".join(b"line %d\n" % number for number in range(1, 41))
    seven = lines.replace(b"line 7\n", b"seven\n")
    assert apply_hunks(lines, hunks, exact=False).data == seven
    with pytest.raises(HunkNotLocated, match="2 other places: 2, 8"):
        apply_hunks(b"x\nline 7\n" + lines[len(b"line 1\n") :], hunks, exact=False)


@pytest.mark.parametrize("exact", [True, False])
def test_a_line_without_its_end_ends_the_file(exact: bool) -> None:
    """Two lines of the file would become one; patch puts the line end there, git apply refuses."""
    hunks = good_hunks(b"--- a/f\n+++ b/f\n@@ -1 +1 @@\n-a\n+A\n\\ No newline at end of file\n")
    assert apply_hunks(b"a\n", hunks, exact=exact).data == b"A"
    with pytest.raises(HunkNotLocated, match="no line end, and the file goes on"):
        apply_hunks(b"a\nb\n", hunks, exact=exact)


def test_line_ends_are_named() -> None:
    patch, _ = parse(Path("x.patch"), b"--- a/f\n+++ b/f\n@@ -1 +1 @@\n-b\n+B\n")
    assert patch is not None
    with pytest.raises(HunkNotLocated, match="CRLF line ends"):
        apply_hunks(b"b\r\n", patch.changes[0].hunks, exact=False)


def test_a_line_end_at_the_end_of_the_file_is_named() -> None:
    hunks = good_hunks(b"--- a/f\n+++ b/f\n@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+A\n")
    with pytest.raises(HunkNotLocated, match="line 1 has a line end in the file, and none in the patch"):
        apply_hunks(b"a\n", hunks, exact=False)


@pytest.mark.parametrize("exact", [True, False])
def test_a_blank_line_is_missing_at_the_end(exact: bool) -> None:
    hunks = good_hunks(b"--- a/f\n+++ b/f\n@@ -2 +2 @@\n-\n+A\n")
    with pytest.raises(HunkNotLocated, match="line 2 should be '': the file ends before it"):
        apply_hunks(b"a\n", hunks, exact=exact)


def test_lines_without_context_need_a_proof() -> None:
    patch, _ = parse(Path("x.patch"), b"--- a/f\n+++ b/f\n@@ -1,0 +2 @@\n+B\n")
    assert patch is not None
    assert apply_hunks(b"a\nc\n", patch.changes[0].hunks, exact=True).data == b"a\nB\nc\n"
    with pytest.raises(HunkNotLocated, match="without context"):
        apply_hunks(b"a\nc\n", patch.changes[0].hunks, exact=False)
    with pytest.raises(HunkNotLocated, match="without context"):
        apply_hunks(b"", patch.changes[0].hunks, exact=False)
    with pytest.raises(HunkNotLocated, match="after line 1, and the file has 0"):
        apply_hunks(b"", patch.changes[0].hunks, exact=True)


@given(st.binary(max_size=200))
def test_splitting_loses_nothing(data: bytes) -> None:
    assert b"".join(split_lines(data)) == data
