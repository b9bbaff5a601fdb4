"""status, list, show and completion: their output, for a person and for a program."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from ..conftest import Root, Run, git


def status(root: Root, run: Run) -> dict[str, object]:
    (answer,) = json.loads(run("--root", root.path, "status", "--json").out)
    assert isinstance(answer, dict)
    return answer


def test_status_before_and_after(root: Root, run: Run) -> None:
    before = status(root, run)
    assert before["head"] == root.base
    assert before["would"] == "apply 2 patches, changing 4 files"
    assert [patch["state"] for patch in before["patches"]] == ["not applied", "not applied"]  # type: ignore[attr-defined]
    run("--root", root.path, "apply")
    after = status(root, run)
    assert after["tree"] == after["recorded_tree"] == root.upstream.tree()
    assert after["tree_is_recorded"] is True
    assert [patch["name"] for patch in after["patches"]] == ["change-one", "change-two"]  # type: ignore[attr-defined]
    assert after["would"] == "do nothing"
    assert after["refused"] is None


def test_status_changes_nothing(root: Root, run: Run) -> None:
    before = {path: path.stat().st_mtime_ns for path in sorted(root.path.rglob("*")) if path.is_file()}
    run("--root", root.path, "status")
    run("--root", root.path, "list")
    run("--root", root.path, "show", "change-one")
    after = {path: path.stat().st_mtime_ns for path in sorted(root.path.rglob("*")) if path.is_file()}
    # The store may get objects; no file that was there is touched.
    assert {path: after.get(path) for path in before} == before


def test_status_names_work_in_the_way(root: Root, run: Run) -> None:
    run("--root", root.path, "apply")
    (root.extern / "pkg/one.py").write_text("mine\n")
    answer = status(root, run)
    assert answer["local"] == ["pkg/one.py"]
    text = run("--root", root.path, "status").out
    assert "yours    pkg/one.py" in text


def test_status_with_commits_of_the_user(root: Root, run: Run) -> None:
    run("--root", root.path, "apply")
    (root.extern / "pkg/one.py").write_text("mine\n")
    git(root.extern, "commit", "-qam", "my work")
    answer = status(root, run)
    refused = answer["refused"]
    assert isinstance(refused, dict)
    assert refused["error"] == "local-changes"
    assert "1 commit of yours" in str(refused["message"])
    assert answer["tree_is_recorded"] is False


def test_status_of_a_series_that_does_not_fit(root: Root, run: Run) -> None:
    file = root.series / "change-one.patch"
    file.write_bytes(file.read_bytes().replace(b" line 6", b" line six"))
    result = run("--root", root.path, "status")
    assert result.code == 0
    assert "does not apply to pkg/one.py" in result.out


def test_list(root: Root, run: Run) -> None:
    text = run("--root", root.path, "list").out
    assert text.index("change-one") < text.index("change-two")
    assert "foo 1.0" in text
    assert "Pending" in text
    (listed,) = json.loads(run("--root", root.path, "list", "--json").out)
    assert (listed["component"], listed["base"], listed["pinned"]) == ("foo", "1.0", False)
    assert listed["patches"][0]["touches"] == ["pkg/new/file.py", "pkg/one.py"]
    assert listed["patches"][0]["upstream_status"] == "Pending"


def test_show(root: Root, run: Run) -> None:
    data = (root.series / "change-one.patch").read_text()
    assert run("--root", root.path, "show", "change-one").out == data
    assert run("--root", root.path, "show", "change-one.patch", "foo@1.0").out == data
    patch = json.loads(run("--root", root.path, "show", "change-one", "--json").out)
    assert patch["name"] == "change-one"
    assert {item["key"] for item in patch["trailers"]} >= {"Upstream-Status", "Applies-To", "Test"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("show", "nothing"), "known patches: change-one, change-two"),
        (("status", "bar"), "bar"),
        (("status", "foo@9.9"), "9.9"),
        (("list", "foo@"), "'foo@' names no base"),
        (("statsu",), "did you mean status?"),
    ],
)
def test_what_is_not_there(root: Root, run: Run, arguments: tuple[str, ...], words: str) -> None:
    result = run("--root", root.path, *arguments)
    assert result.code == 2
    assert words in result.err
    assert result.out == ""


def test_outside_of_a_project(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("status")
    assert result.code == 2
    assert "patches/" in result.err
    assert json.loads(run("status", "--json").out)["exit_code"] == 2


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script(run: Run, shell: str) -> None:
    result = run("completion", shell)
    assert result.code == 0
    assert "_PATCHSET_COMPLETE" in result.out


def complete(root: Root, line: str) -> list[str]:
    words = line.split(" ")
    env = {**os.environ, "_PATCHSET_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    script = "from patchset.cli.main import entry; entry()"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=root.path, env=env, capture_output=True, text=True, check=False
    )
    return [item.partition(",")[2] for item in done.stdout.split()]


def test_completion_knows_commands_components_and_bases(root: Root) -> None:
    assert "unapply" in complete(root, "patchset u")
    assert complete(root, "patchset apply f") == ["foo", "foo@1.0"]
    assert complete(root, "patchset apply foo@1.0 --off") == ["--offline"]
    assert complete(root, "patchset rebase foo@") == ["foo@1.0"]
    assert complete(root, "patchset drop change-t") == ["change-two"]


def on_a_terminal(command: list[str], env: dict[str, str]) -> str:
    main, child = pty.openpty()
    process = subprocess.Popen(command, stdout=child, stderr=child, stdin=child, env=env)
    os.close(child)
    out = b""
    try:
        while part := os.read(main, 65536):
            out += part
    except OSError:
        pass  # the other end is closed: the command has ended
    process.wait()
    os.close(main)
    return out.decode()


def test_colour_on_a_terminal_alone(root: Root) -> None:
    command = [sys.executable, "-m", "patchset", "--root", str(root.path), "status"]
    env = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR", "CI")}
    env |= {"TERM": "xterm-256color"}
    assert "\x1b[" in on_a_terminal(command, env)
    assert "\x1b[3" not in on_a_terminal(command, {**env, "NO_COLOR": "1"})
    assert "\x1b" not in subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout


def test_a_reader_that_goes_away(root: Root) -> None:
    command = f"'{sys.executable}' -m patchset --root '{root.path}' list --json | head -c 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout == "["
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["list"], ["list", "--json"], ["status"]])
def test_a_reader_that_has_gone_gives_its_exit_code(root: Root, arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "patchset", "--root", str(root.path), *arguments]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize(
    ("command", "slow"),
    [
        ("apply", {"email", "tempfile", "rich", "unidiff", "patchset.engine.apply", "patchset.store.merge"}),
        ("list", {"email", "tempfile", "patchset.engine.apply", "patchset.store.merge"}),
    ],
)
def test_start_up_loads_only_what_the_command_needs(root: Root, run: Run, command: str, slow: set[str]) -> None:
    assert run("--root", root.path, "apply").code == 0
    code = "import sys; from patchset.cli.main import main; main(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"
    arguments = [sys.executable, "-c", code, "--root", str(root.path), command]
    answer = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert "change-one" in answer.stdout or "nothing to do" in answer.stdout
    assert slow & set(answer.stderr.split()) == set()
