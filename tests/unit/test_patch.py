"""Reading patch files: every kind of change, and everything that must be refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from patchset.model import paths
from patchset.model.patch import Patch, parse

FILE = Path("x.patch")


def good(data: bytes, strip: int = 1) -> Patch:
    patch, findings = parse(FILE, data, strip)
    assert findings == []
    assert patch is not None
    return patch


def breaches(data: bytes) -> str:
    _, findings = parse(FILE, data)
    assert findings
    return "\n".join(finding.render() for finding in findings)


MODIFY = b"""\
From: A <a@b>
Subject: x

why
---

diff --git a/f.py b/f.py
index 1111111111111111111111111111111111111111..2222222222222222222222222222222222222222 100644
--- a/f.py
+++ b/f.py
@@ -1,3 +1,3 @@ def f():
 a
-b
+B
 c
"""


def test_modification_with_blobs() -> None:
    (change,) = good(MODIFY).changes
    assert change.operation == "modify"
    assert (change.old_path, change.new_path) == ("f.py", "f.py")
    assert change.old_blob == "1" * 40
    assert change.new_blob == "2" * 40
    assert change.old_mode == change.new_mode == 0o100644
    assert change.hunks[0].old == (b"a\n", b"b\n", b"c\n")
    assert change.hunks[0].new == (b"a\n", b"B\n", b"c\n")


def test_missing_newline_at_the_end_is_kept_on_each_side() -> None:
    data = MODIFY.replace(b" c\n", b"-c\n\\ No newline at end of file\n+c\n")
    (change,) = good(data).changes
    assert change.hunks[0].old[-1] == b"c"
    assert change.hunks[0].new[-1] == b"c\n"


@pytest.mark.parametrize("odd", [b"\x0c", b"\x0b", b"\x85", b"\xe2\x80\xa8", b"\x1c", b"\xff\xfe", b"\r"])
def test_no_byte_of_a_line_is_touched(odd: bytes) -> None:
    data = MODIFY.replace(b"+B\n", b"+x" + odd + b"y\n")
    (change,) = good(data).changes
    assert change.hunks[0].new[1] == b"x" + odd + b"y\n"


def test_addition_deletion_rename_copy_and_mode() -> None:
    data = b"""\
diff --git a/new b/new
new file mode 100755
index 0000000000000000000000000000000000000000..2222222222222222222222222222222222222222
--- /dev/null
+++ b/new
@@ -0,0 +1 @@
+x
diff --git a/gone b/gone
deleted file mode 100644
index 1111111111111111111111111111111111111111..0000000000000000000000000000000000000000
--- a/gone
+++ /dev/null
@@ -1 +0,0 @@
-x
diff --git a/old name b/new name
similarity index 100%
rename from old name
rename to new name
diff --git a/src b/dst
similarity index 100%
copy from src
copy to dst
diff --git a/run b/run
old mode 100644
new mode 100755
diff --git a/empty b/empty
new file mode 100644
index 0000000000000000000000000000000000000000..e69de29bb2d1d6434b8b29ae775ad8c2e48c5391
"""
    kinds = [(c.operation, c.old_path, c.new_path, c.new_mode) for c in good(data).changes]
    assert kinds == [
        ("add", None, "new", 0o100755),
        ("delete", "gone", None, None),
        ("rename", "old name", "new name", None),
        ("copy", "src", "dst", None),
        ("modify", "run", "run", 0o100755),
        ("add", None, "empty", 0o100644),
    ]


def test_quilt_patch_with_creation_and_removal_by_timestamp() -> None:
    data = b"""\
Description: words
Index: p/new
===================================================================
--- /dev/null
+++ p/new\t2024-01-01 00:00:00.000000000 +0000
@@ -0,0 +1 @@
+x
--- p.orig/born\t1970-01-01 00:00:00.000000000 +0000
+++ p/born\t2024-01-01 00:00:00.000000000 +0000
@@ -0,0 +1 @@
+x
--- p.orig/dies\t2024-01-01 00:00:00.000000000 +0000
+++ p/dies\t1970-01-01 00:00:00.000000000 +0000
@@ -1 +0,0 @@
-x
"""
    assert [(c.operation, c.path) for c in good(data).changes] == [("add", "new"), ("add", "born"), ("delete", "dies")]


def test_strip_level() -> None:
    data = b"--- f\n+++ f\n@@ -1 +1 @@\n-a\n+b\n"
    assert good(data, 0).changes[0].path == "f"
    assert "no 1 leading components" in breaches(data)


@pytest.mark.parametrize(
    ("strip", "old", "new"),
    [(0, "lib/sub/x.c", "lib/sub/y.c"), (1, "lib/sub/x.c", "lib/sub/y.c"), (2, "sub/x.c", "sub/y.c")],
)
@pytest.mark.parametrize("kind", ["rename", "copy"])
def test_a_rename_has_one_leading_component_less(kind: str, strip: int, old: str, new: str) -> None:
    """git's lines `rename from` and `copy from` have no `a/` and `b/` before their paths."""
    lines = f"similarity index 100%\n{kind} from lib/sub/x.c\n{kind} to lib/sub/y.c\n"
    data = f"diff --git a/lib/sub/x.c b/lib/sub/y.c\n{lines}".encode()
    (change,) = good(data, strip).changes
    assert (change.operation, change.old_path, change.new_path) == (kind, old, new)


def test_a_rename_with_too_few_components_is_refused() -> None:
    data = b"diff --git a/x.c b/y.c\nsimilarity index 100%\nrename from x.c\nrename to y.c\n"
    _, findings = parse(FILE, data, 2)
    assert "no 1 leading components" in "\n".join(finding.message for finding in findings)


@pytest.mark.parametrize("name", ["x b/x", "a b/a b", " lead", "trail ", "two  words", "x b/y"])
def test_a_path_with_blanks(name: str) -> None:
    """Which blank in `diff --git` stands between the paths follows from their being one path."""
    header = f"diff --git a/{name} b/{name}\n"
    empty = f"{header}new file mode 100644\nindex 0000000..e69de29\n"
    mode = f"{header}old mode 100644\nnew mode 100755\n"
    edit = f"{header}--- a/{name}\t\n+++ b/{name}\t\n@@ -1 +1 @@\n-a\n+b\n"
    changes = good(f"{empty}{mode}{edit}".encode()).changes
    assert [(change.operation, change.path) for change in changes] == [
        ("add", name),
        ("modify", name),
        ("modify", name),
    ]


def test_a_header_that_names_another_file_than_its_lines_is_refused() -> None:
    lines = b"--- a/y\n+++ b/y\n@@ -1 +1 @@\n-a\n+b\n"
    assert "name different files" in breaches(b"diff --git a/x b/x\n" + lines)
    assert "no rename" in breaches(b"diff --git a/x b/y\nnew file mode 100644\n")


def test_each_binary_change_of_a_path_has_its_own_content() -> None:
    """A link in place of a binary file is a removal and an addition with one header."""
    blocks = [
        f"diff --git a/x b/x\n{kind} file mode 100644\nindex {old}..{new}\nGIT binary patch\nliteral {size}\nAcmZ\n"
        for kind, old, new, size in (("deleted", "1" * 40, "0" * 40, 0), ("new", "0" * 40, "2" * 40, 1))
    ]
    payloads = [change.payload for change in good("".join(blocks).encode()).changes]
    assert payloads == [block.encode() for block in blocks]


def test_removed_and_added_lines_that_look_like_crlf_headers() -> None:
    data = MODIFY.replace(b"-b\n+B\n", b"--- b\r\n+++ B\r\n")
    assert good(data).changes[0].hunks[0].new[1] == b"++ B\r\n"
    assert "CRLF" in breaches(MODIFY.replace(b"\n", b"\r\n"))


def test_quoted_path() -> None:
    data = b'diff --git "a/\\303\\244 \\"x\\"" "b/\\303\\244 \\"x\\""\nold mode 100644\nnew mode 100755\n'
    assert good(data).changes[0].path == 'ä "x"'


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("../x", "leaves the tree"),
        ("a/../../x", "leaves the tree"),
        (".git/config", "git's own directory"),
        ("a/.GIT/hooks/x", "git's own directory"),
        ("a/git~1/x", "git's own directory"),
        ("a/.git /x", "git's own directory"),
        ("a//x", "empty component"),
        ("a\\..\\..\\x", "leaves the tree"),
    ],
)
def test_path_that_must_not_be_touched(path: str, why: str) -> None:
    data = f"--- /dev/null\n+++ b/{path}\n@@ -0,0 +1 @@\n+x\n".encode()
    assert why in breaches(data)


def test_absolute_path() -> None:
    assert paths.breach("/etc/passwd") == "the path is absolute"
    assert paths.breach("a/b.c") is None
    assert paths.breach(".github/x") is None
    assert paths.breach(".gitignore") is None


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"only words\n", "holds no diff"),
        (MODIFY.replace(b" c\n", b""), "cannot be parsed"),
        (MODIFY + b"+more\n", "longer than its header"),
        (b"diff --git a/x b/x\nindex 1..2 100644\nBinary files a/x and b/x differ\n", "without its content"),
        (b"diff --git a/x b/x\nGIT binary patch\ndelta 1\nAcmZQz00000\n\n", "without its blobs"),
        (MODIFY.replace(b" 100644\n", b" 160000\n"), "submodule"),
        (MODIFY.replace(b" 100644\n", b" 100600\n"), "unknown file mode"),
        (b"diff --git a/x b/y\n--- a/x\n+++ b/y\n@@ -1 +1 @@\n-a\n+b\n", "no rename"),
        (b"", "holds no diff"),
        (b'diff --git "a/\\q" "b/\\q"\nold mode 100644\nnew mode 100755\n', "unknown escape \\q"),
    ],
)
def test_what_cannot_be_read_is_refused(data: bytes, why: str) -> None:
    assert why in breaches(data)


def test_a_finding_underlines_its_line() -> None:
    text = breaches(b"--- /dev/null\n+++ b/../x\n@@ -0,0 +1 @@\n+x\n")
    assert "x.patch:2:7" in text.splitlines()[0]
    assert text.splitlines()[1].endswith("+++ b/../x")
    assert "^^^^" in text.splitlines()[2]
