"""The tree in memory knows folders and links: each verdict here is that of git apply, on index and work tree."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from patchset.engine.apply import apply, combined, read_paths
from patchset.model.patch import Patch, parse
from patchset.store.objects import DIRECTORY, GITLINK, File, TreeEntry, blob_id
from toolkit.errors import PatchConflict

from ..conftest import git

BASE = {"d/x": b"x\n", "d/y": b"y\n", "f": b"f\n", "e/only": b"only\n"}


def add(path: str, mode: int = 0o100644, text: str = "new\n") -> str:
    lines = f"@@ -0,0 +1 @@\n+{text}" + ("" if text.endswith("\n") else "\n\\ No newline at end of file\n")
    return f"diff --git a/{path} b/{path}\nnew file mode {mode:o}\n--- /dev/null\n+++ b/{path}\n{lines}"


def link(path: str, target: str) -> str:
    return add(path, 0o120000, target)


def remove(path: str, text: str) -> str:
    return (
        f"diff --git a/{path} b/{path}\ndeleted file mode 100644\n--- a/{path}\n+++ /dev/null\n@@ -1 +0,0 @@\n-{text}\n"
    )


def move(old: str, new: str, kind: str = "rename") -> str:
    return f"diff --git a/{old} b/{new}\nsimilarity index 100%\n{kind} from {old}\n{kind} to {new}\n"


def edit(path: str, old: str, new: str) -> str:
    return f"diff --git a/{path} b/{path}\n--- a/{path}\n+++ b/{path}\n@@ -1 +1 @@\n-{old}\n+{new}\n"


GOOD = {
    "a folder's last file goes, a file takes its name": ([remove("e/only", "only"), add("e")], {"e"}),
    "both in one patch": ([remove("e/only", "only") + add("e")], {"e"}),
    "both in one patch, the file first": ([add("e") + remove("e/only", "only")], {"e"}),
    "all files of a folder go, one after the other": (
        [remove("d/x", "x"), remove("d/y", "y"), add("d")],
        {"d"},
    ),
    "a file takes a folder's place, and the folder comes back": (
        [remove("e/only", "only"), add("e"), remove("e", "new") + add("e/a/b")],
        {"e/a/b"},
    ),
    "a folder takes a file's place": ([remove("f", "f") + add("f/a")], {"f/a"}),
    "a file moves below its own name": ([move("f", "f/a")], {"f/a"}),
    "a folder's last file takes the folder's name": ([move("e/only", "e")], {"e"}),
    "two files change names": ([move("d/x", "d/y") + move("d/y", "d/x")], {"d/x", "d/y"}),
    "the source of a copy is read before the patch": ([edit("d/x", "x", "X") + move("d/x", "n", "copy")], {"n"}),
    "a file becomes a link": ([remove("f", "f") + link("f", "d")], {"f"}),
}
BAD = {
    "a file in place of a folder of the base": [add("d")],
    "one file of the folder goes": [remove("d/x", "x"), add("d")],
    "a link in place of a folder": [link("d", "e")],
    "a folder of an earlier patch": [add("n/x"), add("n")],
    "a folder of the same patch": [add("n") + add("n/x")],
    "a folder of the same patch, the other way round": [add("n/x") + add("n")],
    "below a file": [add("f/x")],
    "below a file of an earlier patch": [add("n"), add("n/x")],
    "below a link of an earlier patch": [link("n", "d"), add("n/new")],
    "a change below a link of an earlier patch": [link("n", "d"), edit("n/x", "x", "X")],
    "a removal below a link of an earlier patch": [link("n", "d"), remove("n/x", "x")],
    "below a link of the same patch": [link("n", "d") + add("n/new")],
    "a rename onto a folder": [move("f", "d")],
    "a copy onto a folder": [move("f", "d", "copy")],
    "a copy below its own name": [move("f", "f/a", "copy")],
    "a rename below a file": [move("d/x", "f/x")],
    "a file that exists": [add("f")],
    "a file that has gone": [remove("f", "f"), edit("f", "f", "F")],
    "an edit of a folder": [edit("d", "x", "X")],
}


def parsed(texts: list[str]) -> list[Patch]:
    patches = []
    for number, text in enumerate(texts, 1):
        patch, findings = parse(Path(f"{number}.patch"), text.encode())
        assert findings == []
        assert patch is not None
        patches.append(patch)
    return patches


def apply_to_base(texts: list[str]) -> dict[str, bytes]:
    patches = parsed(texts)
    contents = {blob_id(data): data for data in BASE.values()}
    every = {path: TreeEntry(0o100644, blob_id(data)) for path, data in BASE.items()}
    every |= {path.rpartition("/")[0]: TreeEntry(DIRECTORY, "0" * 40) for path in BASE if "/" in path}
    entries = {path: every[path] for path in read_paths(patches) if path in every}

    def below(folder: str) -> list[str]:
        return [path for path in BASE if path.startswith(f"{folder}/")]

    results = apply(patches, entries, contents.__getitem__, below=below, recorded=False)
    files = {**BASE, **{path: file.data if file else None for path, file in combined(results).items()}}
    return {path: data for path, data in files.items() if data is not None}


def applied_by_git(folder: Path, texts: list[str], *options: str) -> dict[str, bytes] | None:
    git(folder, "init", "-q")
    for path, data in BASE.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_bytes(data)
    git(folder, "add", "-A")
    for text in texts:
        command = ["git", "apply", *options, "-"]
        if subprocess.run(command, cwd=folder, input=text.encode(), capture_output=True, check=False).returncode:
            return None
    paths = git(folder, "ls-files", "-z").split("\0")[:-1]
    return {path: subprocess.check_output(["git", "show", f":{path}"], cwd=folder) for path in paths}


@pytest.mark.parametrize("case", GOOD)
def test_folders_come_and_go(case: str, tmp_path: Path) -> None:
    texts, there = GOOD[case]
    files = apply_to_base(texts)
    assert there <= files.keys()
    assert files == applied_by_git(tmp_path, texts, "--index")


@pytest.mark.parametrize("case", BAD)
def test_nothing_stands_in_a_folder_s_place_or_below_a_file(case: str, tmp_path: Path) -> None:
    with pytest.raises(PatchConflict):
        apply_to_base(BAD[case])
    assert applied_by_git(tmp_path, BAD[case], "--index") is None


def test_the_obstacle_is_named() -> None:
    for case, why in {
        "a file in place of a folder of the base": "d is a folder that holds d/x",
        "a folder of an earlier patch": "n is a folder that holds n/x",
        "below a link of an earlier patch": "n is a symbolic link",
        "a removal below a link of an earlier patch": "n is a symbolic link",
        "below a file of an earlier patch": "n is a file",
    }.items():
        with pytest.raises(PatchConflict) as caught:
            apply_to_base(BAD[case])
        assert caught.value.details == (why,), case


def test_what_the_patch_removes_is_no_obstacle() -> None:
    """The reason is the hunk's, not the folder that a later change of the patch empties."""
    text = f"{move('d/x', 'd')}--- a/d/x\n+++ b/d\n@@ -1 +1 @@\n-other\n+X\n{remove('d/y', 'y')}"
    with pytest.raises(PatchConflict) as caught:
        apply_to_base([text])
    assert caught.value.details == ("line 1 should be 'other': it is 'x'",)


def test_folders_of_the_base_are_read_only_where_a_patch_puts_a_file_there() -> None:
    def below(folder: str) -> list[str]:
        raise AssertionError(folder)

    patches = parsed([edit("d/x", "x", "X") + add("d/new") + remove("e/only", "only") + add("n/a/b")])
    data = {blob_id(data): data for data in BASE.values()}
    entries = {path: TreeEntry(0o100644, blob_id(data)) for path, data in BASE.items()}
    entries |= {"d": TreeEntry(DIRECTORY, "0" * 40), "e": TreeEntry(DIRECTORY, "0" * 40)}
    assert len(combined(apply(patches, entries, data.__getitem__, below=below, recorded=False))) == 4


def one(text: str, files: dict[str, tuple[int, bytes]]) -> dict[str, File | None]:
    """Return what a foreign patch changes in a tree of (mode, content)."""
    data = {blob_id(content): content for _, content in files.values()}
    entries = {path: TreeEntry(mode, blob_id(content)) for path, (mode, content) in files.items()}
    return combined(apply(parsed([text]), entries, data.__getitem__, recorded=False))


def test_an_executable_bit_that_the_patch_does_not_change_stays() -> None:
    """The mode of an index line is that of the file that the patch was written for."""
    text = edit("f", "f", "F").replace("--- a/f", f"index {blob_id(b'f')[:7]}..{blob_id(b'F')[:7]} 100644\n--- a/f")
    file = one(text, {"f": (0o100755, b"f\n")})["f"]
    assert file is not None
    assert (file.mode, file.data) == (0o100755, b"F\n")


def test_a_link_is_no_file() -> None:
    header = "diff --git a/f b/f\nindex 1111111..2222222 {}\n--- a/f\n+++ b/f\n@@ -1 +1 @@\n-f\n+F\n"
    for mode, there, why in (
        ("120000", 0o100644, "the patch is for a symbolic link, the tree has a file"),
        ("100644", 0o120000, "the patch is for a file, the tree has a symbolic link"),
    ):
        with pytest.raises(PatchConflict) as caught:
            one(header.format(mode), {"f": (there, b"f\n")})
        assert caught.value.details == (why,)


def test_a_plain_diff_of_nothing_may_create_its_file() -> None:
    """git apply and patch take `@@ -0,0 +1 @@` for a new file where there is none."""
    text = "--- a/n/f\n+++ b/n/f\n@@ -0,0 +1 @@\n+new\n"
    file = one(text, {})["n/f"]
    assert file is not None
    assert (file.mode, file.data) == (0o100644, b"new\n")
    with pytest.raises(PatchConflict):
        one(f"diff --git a/n/f b/n/f\n{text}", {})


def test_a_submodule_is_in_the_way() -> None:
    entries = {"s": TreeEntry(GITLINK, "1" * 40)}
    for text in (add("s"), add("s/x")):
        with pytest.raises(PatchConflict) as caught:
            apply(parsed([text]), entries, {}.__getitem__, recorded=False)
        assert "s is a submodule" in caught.value.details or "s exists already" in caught.value.details
