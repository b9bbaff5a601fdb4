"""Processes are watched, limited, and gone afterwards with everything that they started; finished steps are kept."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from regression.effects.process import Ended, Running, environment, resident
from regression.effects.stages import Stages, digest
from regression.stages.bench import Unfinished, last_error, raise_unfinished
from toolkit.errors import EnvironmentProblem

# It starts a child that ignores SIGTERM, in a process group of its own, and says that child's id.
PARENT = """
import signal, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(100)"],
    stdout=subprocess.PIPE, process_group=0)
child.stdout.readline()
print(child.pid, flush=True)
"""


class Told:
    """A task that remembers what it was told."""

    def __init__(self) -> None:
        self.updates: list[tuple[int, int | None]] = []

    def update(self, done: int, total: int | None = None) -> None:
        self.updates.append((done, total))


def start(tmp_path: Path, code: str, task: Told | None = None) -> Running:
    return Running([sys.executable, "-c", code], environment(), tmp_path, tmp_path / "log.txt", task or Told())


def gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody has waited for yet has."""
    for _ in range(50):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.1)
    return False


def test_progress_is_told_and_words_are_kept(tmp_path: Path) -> None:
    task = Told()
    code = r"""print('\x1e{"done": 3, "total": 8, "unit": "steps"}'); print("words"); print("\x1enot json")"""
    with start(tmp_path, code, task) as running:
        ended = running.wait(20)
    assert (ended.good, ended.cause, task.updates) == (True, "ended", [(3, 8)])
    assert ended.tail == "words\n"


def test_out_of_time_nothing_is_left(tmp_path: Path) -> None:
    with start(tmp_path, PARENT + "time.sleep(100)") as running:
        ended = running.wait(2)
    assert ended.cause == "timeout"
    assert gone(int(ended.tail))


def test_children_that_outlive_it_are_ended(tmp_path: Path) -> None:
    with start(tmp_path, PARENT) as running:
        ended = running.wait(20)
    assert ended.good
    assert gone(int(ended.tail))


def test_an_error_in_the_block_ends_it(tmp_path: Path) -> None:
    def interrupted() -> None:
        with start(tmp_path, PARENT + "time.sleep(100)") as running:
            while not running.tail():
                time.sleep(0.05)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert gone(int((tmp_path / "log.txt").read_text()))


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "memory"),
        ("raise MemoryError", "memory"),
        ("raise OSError(28, 'No space left on device')", "disk"),
        ("raise ValueError('something else')", "ended"),
    ],
)
def test_the_cause_of_an_end(tmp_path: Path, code: str, cause: str) -> None:
    with start(tmp_path, code) as running:
        ended = running.wait(20)
    assert (ended.cause, ended.good) == (cause, False)
    assert ended.seconds > 0


def test_memory_of_a_whole_session(tmp_path: Path) -> None:
    with start(tmp_path, "data = bytearray(200_000_000); import time; time.sleep(2)") as running:
        ended = running.wait(20)
    assert ended.peak > 200_000_000
    assert resident(os.getpid() + 10_000_000) == 0


def test_causes_become_errors_with_a_remedy(tmp_path: Path) -> None:
    def ended(cause: Any) -> Ended:
        return Ended(1, cause, 1.0, 2**30, "")

    for cause, kind in (("timeout", Unfinished), ("memory", Unfinished), ("disk", EnvironmentProblem)):
        with pytest.raises(kind) as caught:
            raise_unfinished("serve", ended(cause), 5, tmp_path / "log.txt")
        assert isinstance(caught.value, Unfinished | EnvironmentProblem)
        assert caught.value.remedy
    raise_unfinished("serve", ended("ended"), 5, tmp_path / "log.txt")


def test_the_line_of_a_traceback_that_says_it() -> None:
    text = "Traceback\n  File\n(EngineCore pid=3) ValueError: Unknown ModelOpt quant algo: X\nleaked 3 things!\n"
    assert last_error(text) == "(EngineCore pid=3) ValueError: Unknown ModelOpt quant algo: X"
    text = "pydantic_core.ValidationError: 1 validation error for X\n  Value error, no such thing [type=value_error]\n"
    assert last_error(text) == "pydantic_core.ValidationError: 1 validation error for X: Value error, no such thing"
    assert last_error("just words\n\n") == "just words"
    assert last_error("") == "nothing was said"


def test_finished_steps_are_not_done_again(tmp_path: Path) -> None:
    stages, calls = Stages(tmp_path), []

    def work(folder: Path) -> dict[str, Any]:
        calls.append(folder)
        (folder / "made").write_text("x")
        return {"n": len(calls)}

    assert stages.run("serve", {"a": 1}, work) == stages.run("serve", {"a": 1}, work) == {"n": 1}
    assert stages.run("serve", {"a": 2}, work) == {"n": 2}
    stages.forget("serve")
    assert stages.run("serve", {"a": 1}, work) == {"n": 3}


@pytest.mark.parametrize("error", [KeyboardInterrupt, Unfinished("no memory"), OSError(28, "No space left on device")])
def test_an_unfinished_step_is_done_anew(tmp_path: Path, error: BaseException) -> None:
    stages = Stages(tmp_path)

    def fail(folder: Path) -> dict[str, Any]:
        (folder / "half").write_text("x")
        raise error

    def work(folder: Path) -> dict[str, Any]:
        assert not (folder / "half").exists()
        return {}

    with suppress(BaseException):
        stages.run("serve", {}, fail)
    assert (stages.path("serve", {}) / "half").exists(), "its logs stay for a look"
    assert stages.run("serve", {}, work) == {}


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    def fill(folder: Path) -> dict[str, Any]:
        raise OSError(28, "No space left on device")

    with pytest.raises(EnvironmentProblem, match="no space left"):
        Stages(tmp_path).run("serve", {}, fill)


def test_a_digest_tells_names_and_contents_apart(tmp_path: Path) -> None:
    seen = set()
    for name, text in (("a", "x"), ("a", "y"), ("b", "x")):
        folder = tmp_path / "folder"
        folder.mkdir(exist_ok=True)
        for file in folder.iterdir():
            file.unlink()
        (folder / name).write_text(text)
        seen.add(digest(folder))
    assert len(seen) == 3


def _as_from_a_terminal() -> None:
    """Whoever is started in the background of a script inherits that SIGINT is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_killed_command_leaves_no_process(tmp_path: Path, number: signal.Signals) -> None:
    """A stand-in for an upstream's Python answers the probe, and then works for ever."""
    python = tmp_path / "python"
    probe = json.dumps({"sites": {}, "python": "3", "versions": {}})
    python.write_text(f"#!/bin/sh\nif [ \"$1\" = -c ]; then echo '{probe}'; exit; fi\necho $$\nexec sleep 100\n")
    python.chmod(0o755)
    command = [sys.executable, "-m", "regression", "make-model", "--quantize-python", str(python)]
    cache = tmp_path / "cache"
    running = subprocess.Popen(
        [*command, "--cache", str(cache)], stderr=subprocess.PIPE, text=True, preexec_fn=_as_from_a_terminal
    )
    pid = 0
    for _ in range(200):
        logs = list(cache.glob("kit-*/log.txt"))
        if logs and logs[0].read_text().strip():
            pid = int(logs[0].read_text())
            break
        time.sleep(0.1)
    assert pid, "training was started"
    running.send_signal(number)
    err = running.communicate(timeout=30)[1]
    assert gone(pid)
    assert running.returncode == (-9 if number == signal.SIGKILL else 130), err
