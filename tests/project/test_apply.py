"""apply and unapply through the command's main(), on real repositories."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ..conftest import BASE, TRAILERS, Root, Run, Upstream, git


def test_apply_makes_the_recorded_tree_one_commit_a_patch(root: Root, run: Run) -> None:
    result = run("--root", root.path, "apply")
    assert result.code == 0, result.err
    assert git(root.extern, "rev-parse", "HEAD^{tree}") == root.upstream.tree()
    assert root.tree_on_disk() == root.upstream.tree()
    assert git(root.extern, "log", "--format=%s", f"{root.base}..HEAD").splitlines() == ["Change two", "Change one"]
    assert git(root.extern, "symbolic-ref", "HEAD") == "refs/heads/patchset/1.0"
    assert git(root.extern, "status", "--porcelain") == ""
    assert git(root.extern, "diff-files") == ""
    assert not (root.extern / "pkg/sub").exists()


def test_commits_carry_author_date_and_message(root: Root, run: Run) -> None:
    run("--root", root.path, "apply")
    wanted = git(root.upstream.path, "log", "-2", "--format=%an %ae %ad %B", "--date=raw")
    assert git(root.extern, "log", "-2", "--format=%an %ae %ad %B", "--date=raw") == wanted


def test_same_tree_as_git_am_quilt_and_patch(root: Root, run: Run, tmp_path: Path) -> None:
    run("--root", root.path, "apply")
    ours = git(root.extern, "rev-parse", "HEAD^{tree}")
    names = (root.series / "series").read_text().split()

    am = tmp_path / "am"
    git(tmp_path, "clone", "-q", str(root.upstream.path), str(am))
    git(am, "checkout", "-q", "--detach", "1.0")
    git(am, "am", "-q", *(str(root.series / name) for name in names))
    assert git(am, "rev-parse", "HEAD^{tree}") == ours

    git(am, "reset", "-q", "--hard", "1.0")
    for name in names:
        subprocess.run(["patch", "-s", "-p1", "-i", root.series / name], cwd=am, check=True)
    git(am, "add", "-A")
    assert git(am, "write-tree") == ours


def test_second_apply_does_nothing_and_touches_no_time(root: Root, run: Run) -> None:
    run("--root", root.path, "apply")
    every = [root.extern, *root.extern.rglob("*"), *(root.extern / ".git").rglob("*")]
    before = {path: os.lstat(path).st_mtime_ns for path in every}
    result = run("--root", root.path, "apply", "--json")
    assert json.loads(result.out)[0]["outcome"] == "unchanged"
    assert {path: os.lstat(path).st_mtime_ns for path in every} == before


def test_untouched_files_keep_their_times(root: Root, run: Run) -> None:
    file = root.extern / "README"
    os.utime(file, (1, 1))
    run("--root", root.path, "apply")
    assert file.stat().st_mtime == 1
    run("--root", root.path, "unapply")
    assert file.stat().st_mtime == 1


def test_unapply_goes_back_to_the_base(root: Root, run: Run) -> None:
    run("--root", root.path, "apply")
    result = run("--root", root.path, "unapply")
    assert result.code == 0, result.err
    assert root.head == root.base
    assert root.tree_on_disk() == root.upstream.tree("1.0")
    assert git(root.extern, "status", "--porcelain") == ""
    assert git(root.extern, "branch", "--list", "patchset/*") == ""
    again = run("--root", root.path, "unapply", "--json")
    assert json.loads(again.out)[0]["outcome"] == "unchanged"
    assert run("--root", root.path, "apply").code == 0
    assert root.tree_on_disk() == root.upstream.tree()


def test_unapply_returns_to_the_branch_it_came_from(root: Root, run: Run) -> None:
    git(root.extern, "switch", "-q", "-c", "mine", "1.0")
    run("--root", root.path, "apply")
    run("--root", root.path, "unapply")
    assert git(root.extern, "symbolic-ref", "HEAD") == "refs/heads/mine"


def test_the_same_series_gives_the_same_commits_everywhere(root: Root, run: Run, tmp_path: Path) -> None:
    run("--root", root.path, "apply")
    first = root.head
    subprocess.run(["rm", "-rf", str(root.extern)], check=True)
    git(tmp_path, "clone", "-q", "--no-local", str(root.upstream.path), str(root.extern))
    git(root.extern, "checkout", "-q", "--detach", "1.0")
    run("--root", root.path, "apply")
    assert root.head == first


def test_a_changed_series_replaces_the_old_one(root: Root, run: Run) -> None:
    run("--root", root.path, "apply")
    (root.series / "series").write_text("change-one.patch\n")
    (root.series / "change-two.patch").unlink()
    root.write_base(commit=root.base)
    assert run("--root", root.path, "apply").code == 0
    assert root.tree_on_disk() == root.upstream.tree("HEAD~1")
    assert (root.extern / "pkg/sub/three.txt").read_text() == "three\n"


def test_work_elsewhere_in_the_tree_is_carried_over(root: Root, run: Run) -> None:
    (root.extern / "README").write_text("mine\n")
    (root.extern / "notes.txt").write_text("mine too\n")
    for command in ("apply", "unapply", "apply"):
        assert run("--root", root.path, command).code == 0
        assert (root.extern / "README").read_text() == "mine\n"
        assert (root.extern / "notes.txt").read_text() == "mine too\n"


def refused(root: Root, run: Run, code: int, *words: str, command: str = "apply") -> None:
    """The command fails with that exit code and those words, and nothing is changed."""
    before, head, status = root.tree_on_disk(), root.head, git(root.extern, "status", "--porcelain", "--ignored")
    stray = sorted(path.name for path in root.extern.parent.iterdir())
    result = run("--root", root.path, command)
    assert result.code == code, result.err + result.out
    for word in words:
        assert word in result.err
    assert root.tree_on_disk() == before
    assert root.head == head
    assert git(root.extern, "status", "--porcelain", "--ignored") == status
    assert sorted(path.name for path in root.extern.parent.iterdir()) == stray
    assert not (root.extern / ".git/index.lock").exists()


def test_uncommitted_change_in_the_way(root: Root, run: Run) -> None:
    (root.extern / "pkg/one.py").write_text("mine\n")
    (root.extern / "pkg/new").mkdir()
    (root.extern / "pkg/new/file.py").write_text("mine\n")
    refused(root, run, 6, "pkg/one.py: changed and not committed", "pkg/new/file.py: an untracked file")


def test_ignored_file_in_the_way(root: Root, run: Run) -> None:
    (root.extern / ".git/info/exclude").write_text("pkg/new/\n")
    (root.extern / "pkg/new").mkdir()
    (root.extern / "pkg/new/file.py").write_text("mine\n")
    refused(root, run, 6, "pkg/new/file.py: an untracked file")


def test_staged_change_in_the_way(root: Root, run: Run) -> None:
    (root.extern / "pkg/one.py").write_text("mine\n")
    git(root.extern, "add", "pkg/one.py")
    (root.extern / "pkg/one.py").write_text(str(BASE["pkg/one.py"]))
    refused(root, run, 6, "pkg/one.py: staged and not committed")


def test_removed_file_and_changed_mode_in_the_way(root: Root, run: Run) -> None:
    (root.extern / "pkg/one.py").unlink()
    (root.extern / "pkg/two.py").chmod(0o755)
    refused(root, run, 6, "pkg/one.py: removed", "pkg/two.py: changed")


def test_folder_and_link_in_the_way(root: Root, run: Run, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (root.extern / "pkg/new").symlink_to(outside)
    refused(root, run, 6, "pkg/new is a symbolic link here")
    assert list(outside.iterdir()) == []


def test_commits_of_the_user_on_top(root: Root, run: Run) -> None:
    run("--root", root.path, "apply")
    (root.extern / "README").write_text("mine\n")
    git(root.extern, "commit", "-qam", "My own work")
    root.write_base(commit=root.base)
    (root.series / "series").write_text("change-one.patch\n")
    (root.series / "change-two.patch").unlink()
    refused(root, run, 6, "1 commit of yours on patchset/1.0", "My own work", "git -C extern/foo branch my-work")
    refused(root, run, 6, "My own work", command="unapply")


def test_foreign_commit(root: Root, run: Run) -> None:
    (root.extern / "README").write_text("mine\n")
    git(root.extern, "commit", "-qam", "My own work")
    refused(root, run, 6, "1 commit of yours on a detached HEAD", "My own work")


def test_branch_of_our_name_with_commits_of_the_user(root: Root, run: Run) -> None:
    git(root.extern, "switch", "-q", "-c", "patchset/1.0")
    (root.extern / "README").write_text("mine\n")
    git(root.extern, "commit", "-qam", "mine")
    git(root.extern, "checkout", "-q", "--detach", "1.0")
    refused(root, run, 6, "the branch patchset/1.0", "has commits of yours")


@pytest.mark.parametrize("file", ["MERGE_HEAD", "rebase-merge", "index.lock"])
def test_git_at_work(root: Root, run: Run, file: str) -> None:
    (root.extern / ".git" / file).touch()
    result = run("--root", root.path, "apply")
    assert result.code == 6
    assert (root.extern / ".git" / file).exists()
    assert root.head == root.base


def test_tampered_patch(root: Root, run: Run) -> None:
    file = root.series / "change-one.patch"
    file.write_bytes(file.read_bytes().replace(b"+line seven", b"+line evil"))
    refused(root, run, 5, "change-one", "pkg/one.py", "its text gives")


def test_tampered_patch_without_its_blob_ids_is_caught_by_the_tree(root: Root, run: Run) -> None:
    file = root.series / "change-one.patch"
    lines = [line for line in file.read_bytes().split(b"\n") if not line.startswith(b"index ")]
    file.write_bytes(b"\n".join(lines).replace(b"+line seven", b"+line evil"))
    refused(root, run, 5, "base.toml records", "patchset record")


def test_patch_for_another_base(root: Root, run: Run) -> None:
    file = root.series / "change-one.patch"
    old = git(root.upstream.path, "rev-parse", "1.0:pkg/one.py").encode()
    file.write_bytes(file.read_bytes().replace(old, b"1" * 40))
    refused(root, run, 4, "patch change-one of foo@1.0 does not apply to pkg/one.py", "is based on blob 1111")


def test_wrong_base_tree(root: Root, run: Run) -> None:
    root.write_base(commit=root.base, tree="1" * 40)
    refused(root, run, 5, "base.toml records")


def test_missing_entry_and_unlisted_patch(root: Root, run: Run) -> None:
    (root.series / "change-two.patch").rename(root.series / "change-too.patch")
    refused(root, run, 3, "there is no patch change-two.patch", "change-too.patch: is not listed")


def test_patch_through_a_symbolic_link_of_the_tree(root: Root, run: Run) -> None:
    (root.upstream.path / "link").symlink_to("/tmp")
    commit = root.upstream.commit_all(f"Add a link\n\n{TRAILERS}")
    root.add_patch("add-link", root.upstream.format_patch(commit))
    data = (
        b"Subject: x\n\ndiff --git a/link/evil b/link/evil\nnew file mode 100644\nindex 0000000..e69de29\n"
        b"--- /dev/null\n+++ b/link/evil\n@@ -0,0 +1 @@\n+x\n"
    )
    root.add_patch("through", data)
    root.write_base(commit=root.base)
    refused(root, run, 4, "link is a symbolic link")


@pytest.mark.parametrize("path", ["../evil", ".git/hooks/post-checkout", "/tmp/evil"])
def test_patch_that_leaves_the_tree(root: Root, run: Run, path: str) -> None:
    prefix = b"" if path.startswith("/") else b"b/"
    data = b"Subject: x\n\n--- /dev/null\n+++ " + prefix + path.encode() + b"\n@@ -0,0 +1 @@\n+x\n"
    root.add_patch("evil", data)
    root.write_base(commit=root.base)
    refused(root, run, 3, "evil.patch:", "the path")


def test_crlf_patch_on_lf_file(root: Root, run: Run) -> None:
    data = b"--- a/README\r\n+++ b/README\r\n@@ -1 +1 @@\r\n-a project\r\n+A project\r\n"
    root.add_patch("crlf", data)
    root.write_base(commit=root.base)
    refused(root, run, 3, "CRLF line ends")


def test_binary_patch_applies_and_one_without_content_is_refused(root: Root, run: Run) -> None:
    commit = root.upstream.commit(f"Binary\n\n{TRAILERS}", {"pkg/blob.bin": bytes(range(256)) * 8})
    root.add_patch("binary", root.upstream.format_patch(commit))
    commit = root.upstream.commit(f"Binary 2\n\n{TRAILERS}", {"pkg/blob.bin": bytes(range(256)) * 8 + b"\0more"})
    root.add_patch("binary-delta", root.upstream.format_patch(commit))
    root.write_base(commit=root.base, patched_tree=root.upstream.tree())
    assert run("--root", root.path, "apply").code == 0
    assert root.tree_on_disk() == root.upstream.tree()
    run("--root", root.path, "unapply")
    head = b"Subject: x\n\ndiff --git a/README b/README\nindex 1234..5678 100644\n"
    data = head + b"Binary files a/README and b/README differ\n"
    root.add_patch("hollow", data)
    refused(root, run, 3, "without its content")


def test_rename_copy_mode_symlink_and_odd_names(root: Root, run: Run, upstream: Upstream) -> None:
    git(upstream.path, "mv", "pkg/one.py", "pkg/uno.py")
    (upstream.path / "pkg/uno.py").chmod(0o755)
    (upstream.path / 'pkg/ä "quoted".txt').write_text("x\n")
    (upstream.path / "pkg/link").symlink_to("two.py")
    (upstream.path / "pkg/no-newline").write_text("x")
    (upstream.path / "pkg/empty").touch()
    commit = upstream.commit_all(f"Many kinds\n\n{TRAILERS}")
    root.add_patch("many-kinds", upstream.format_patch(commit))
    root.write_base(commit=root.base, patched_tree=upstream.tree())
    result = run("--root", root.path, "apply")
    assert result.code == 0, result.err
    assert root.tree_on_disk() == upstream.tree()
    assert git(root.extern, "status", "--porcelain") == ""
    assert (root.extern / "pkg/link").readlink() == Path("two.py")
    run("--root", root.path, "unapply")
    assert root.tree_on_disk() == upstream.tree("1.0")


def test_autocrlf_of_the_user_is_no_local_change(root: Root, run: Run) -> None:
    git(root.extern, "config", "core.autocrlf", "true")
    file = root.extern / "pkg/one.py"
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    git(root.extern, "add", "pkg/one.py")
    assert git(root.extern, "status", "--porcelain") == ""
    assert run("--root", root.path, "apply").code == 0
    assert git(root.extern, "rev-parse", "HEAD^{tree}") == root.upstream.tree()


def test_hooks_are_not_run(root: Root, run: Run, tmp_path: Path) -> None:
    mark = tmp_path / "hook-ran"
    for name in ("post-checkout", "reference-transaction", "post-index-change"):
        hook = root.extern / ".git/hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\ntouch {mark}\n")
        hook.chmod(0o755)
    assert run("--root", root.path, "apply").code == 0
    assert not mark.exists()


def test_refusal_as_json(root: Root, run: Run) -> None:
    (root.extern / "pkg/one.py").write_text("mine\n")
    result = run("--root", root.path, "apply", "--json")
    answer = json.loads(result.out)
    assert (answer["error"], answer["exit_code"], result.code) == ("local-changes", 6, 6)
    assert answer["remedy"]


def test_lost_state_is_found_again(root: Root, run: Run) -> None:
    run("--root", root.path, "apply")
    (root.extern / ".git/patchset/state.json").write_text("{broken")
    result = run("--root", root.path, "apply")
    assert result.code == 0, result.err
    assert root.tree_on_disk() == root.upstream.tree()


def test_record_after_a_change_of_the_series(root: Root, run: Run) -> None:
    commit = root.upstream.commit(f"Three\n\n{TRAILERS}", {"README": "another\n"})
    root.add_patch("three", root.upstream.format_patch(commit))
    refused(root, run, 5, "patchset record foo@1.0")
    result = run("--root", root.path, "record", "--json")
    assert json.loads(result.out)[0]["patched_tree"] == root.upstream.tree()
    assert run("--root", root.path, "apply").code == 0
    assert json.loads(run("--root", root.path, "record", "--json").out)[0]["changed"] is False


def test_record_keeps_comments(root: Root, run: Run) -> None:
    (root.series / "base.toml").write_text(f'# why\ncommit = "{root.base}" # release\n\n[[wheel]]\n' + WHEEL)
    assert run("--root", root.path, "record").code == 0
    text = (root.series / "base.toml").read_text()
    assert text.startswith(f'# why\ncommit = "{root.base}" # release\n')
    assert f'patched-tree = "{root.upstream.tree()}"' in text.split("[[wheel]]")[0]
    assert run("--root", root.path, "apply").code == 0


WHEEL = f'variant = "x"\nplatform = "any"\nproject = "foo"\nfile = "foo.whl"\nsha256 = "{"0" * 64}"\n'


def test_lint_finds_a_submodule_that_records_another_commit(root: Root, run: Run) -> None:
    git(root.path, "init", "-q")
    (root.path / "patches/foo/component.toml").write_text('pinned = "1.0"\n')
    run("--root", root.path, "apply")
    git(root.path, "add", "-A")
    result = run("--root", root.path, "lint")
    assert result.code == 3
    assert f"extern/foo: the submodule records {root.head}, the pinned base 1.0 is {root.base}" in result.out
    git(root.path, "update-index", "--cacheinfo", f"160000,{root.base},extern/foo")
    assert "the submodule records" not in run("--root", root.path, "lint").out


def test_populates_where_no_folder_is_and_again_after_it_was_removed(root: Root, run: Run, tmp_path: Path) -> None:
    """A project outside of git, whose git directory says where the work tree is before it is there."""
    gitdir = root.path / ".patchset/modules/extern/foo"
    gitdir.parent.mkdir(parents=True)
    git(tmp_path, "clone", "-q", "--bare", str(root.upstream.path), str(gitdir))
    for _ in range(2):
        shutil.rmtree(root.extern)
        result = run("--root", root.path, "status")
        assert "populate" in result.out, result.out + result.err
        result = run("--root", root.path, "apply")
        assert result.code == 0, result.err
        assert root.tree_on_disk() == root.upstream.tree()
        assert git(root.extern, "status", "--porcelain") == ""


def test_lint_finds_an_author_that_git_am_refuses(root: Root, run: Run) -> None:
    root.write_base(commit=root.base)
    file = sorted(root.series.glob("*.patch"))[0]
    text = file.read_text()
    assert "git am" not in run("--root", root.path, "lint").out
    file.write_text(re.sub(r"^From: .*$", "From: Jane Doe", text, flags=re.MULTILINE))
    result = run("--root", root.path, "lint")
    assert result.code == 3
    assert f"{file.name}: names no author with an address" in result.out
