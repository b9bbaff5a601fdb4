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

from regression.effects.cache import ANSWER, LONG, StepCache, digest
from regression.effects.machine import environment
from regression.session.bench import Unfinished, last_error, raise_unfinished
from toolkit.errors import EnvironmentProblem
from toolkit.process import Command, ProcessEnd, WatchedProcess, interrupt_on_termination, resident

from .recorder import RecordedTask

# It starts a child that ignores SIGTERM, in a process group of its own, and prints that child's id.
PARENT = """
import signal, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(100)"],
    stdout=subprocess.PIPE, process_group=0)
child.stdout.readline()
print(child.pid, flush=True)
"""


def start(tmp_path: Path, code: str, task: RecordedTask | None = None, timeout: float = 20.0) -> WatchedProcess:
    command = Command([sys.executable, "-c", code], environment(), tmp_path, tmp_path / "log.txt", timeout)
    return WatchedProcess(command, (task or RecordedTask()).update)


def gone(pid: int) -> bool:
    """Return True where a process has ended; one that nobody has waited for yet has."""
    for _ in range(50):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.1)
    return False


def test_progress_goes_to_the_task_and_the_rest_to_the_log(tmp_path: Path) -> None:
    task = RecordedTask()
    code = r"""print('\x1e{"done": 3, "total": 8, "unit": "steps"}'); print("words"); print("\x1enot json")"""
    with start(tmp_path, code, task) as process:
        end = process.wait()
    assert (end.succeeded, end.cause, task.updates) == (True, "ended", [(3, 8)])
    assert end.tail == "words\n"


def test_out_of_time_nothing_is_left(tmp_path: Path) -> None:
    with start(tmp_path, PARENT + "time.sleep(100)", timeout=2) as process:
        end = process.wait()
    assert end.cause == "timeout"
    assert gone(int(end.tail))


def test_children_that_outlive_it_are_ended(tmp_path: Path) -> None:
    with start(tmp_path, PARENT) as process:
        end = process.wait()
    assert end.succeeded
    assert gone(int(end.tail))


def test_an_error_in_the_block_ends_it(tmp_path: Path) -> None:
    def interrupted() -> None:
        with start(tmp_path, PARENT + "time.sleep(100)") as process:
            while not process.tail():
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
    with start(tmp_path, code) as process:
        end = process.wait()
    assert (end.cause, end.succeeded) == (cause, False)
    assert end.seconds > 0


def test_memory_of_a_whole_session(tmp_path: Path) -> None:
    with start(tmp_path, "data = bytearray(200_000_000); import time; time.sleep(2)") as process:
        end = process.wait()
    assert end.peak > 200_000_000
    assert resident(os.getpid() + 10_000_000) == 0


def test_causes_become_errors_with_a_remedy(tmp_path: Path) -> None:
    def end(cause: Any) -> ProcessEnd:
        return ProcessEnd(1, cause, 1.0, 2**30, "")

    for cause, kind in (("timeout", Unfinished), ("memory", Unfinished), ("disk", EnvironmentProblem)):
        with pytest.raises(kind) as caught:
            raise_unfinished("serve", end(cause), 5, tmp_path / "log.txt")
        assert isinstance(caught.value, Unfinished | EnvironmentProblem)
        assert caught.value.remedy
    raise_unfinished("serve", end("ended"), 5, tmp_path / "log.txt")


def test_the_line_of_a_traceback_with_the_error() -> None:
    text = "Traceback\n  File\n(EngineCore pid=3) ValueError: Unknown ModelOpt quant algo: X\nleaked 3 things!\n"
    assert last_error(text) == "(EngineCore pid=3) ValueError: Unknown ModelOpt quant algo: X"
    text = "pydantic_core.ValidationError: 1 validation error for X\n  Value error, no such thing [type=value_error]\n"
    assert last_error(text) == "pydantic_core.ValidationError: 1 validation error for X: Value error, no such thing"
    assert last_error("just words\n\n") == "just words"
    assert last_error("") == "no output"


def test_finished_steps_are_not_done_again(tmp_path: Path) -> None:
    cache, calls = StepCache(tmp_path), []

    def work(folder: Path) -> dict[str, Any]:
        calls.append(folder)
        (folder / "file").write_text("x")
        return {"n": len(calls)}

    assert cache.run("serve", {"a": 1}, work) == cache.run("serve", {"a": 1}, work) == {"n": 1}
    assert cache.run("serve", {"a": 2}, work) == {"n": 2}
    cache.forget("serve")
    assert cache.run("serve", {"a": 1}, work) == {"n": 3}


def test_folders_without_a_use_are_named_and_stay(tmp_path: Path) -> None:
    cache, long_ago = StepCache(tmp_path), time.time() - LONG - 60
    for number in range(2):
        cache.run("serve", {"a": number}, lambda folder: {})
        os.utime(cache.path("serve", {"a": number}) / ANSWER, (long_ago, long_ago))
    for name in ("kit-0123", "own-0123", "overlays", "fixture-0123"):
        (tmp_path / name).mkdir()
    cache.answer("serve", {"a": 1})
    assert [folder.name for folder in cache.unused()] == sorted(
        ["kit-0123", "overlays", "own-0123", cache.path("serve", {"a": 0}).name]
    )
    assert all(folder.is_dir() for folder in cache.unused())


@pytest.mark.parametrize("error", [KeyboardInterrupt, Unfinished("no memory"), OSError(28, "No space left on device")])
def test_an_unfinished_step_is_done_anew(tmp_path: Path, error: BaseException) -> None:
    cache = StepCache(tmp_path)

    def fail(folder: Path) -> dict[str, Any]:
        (folder / "half").write_text("x")
        raise error

    def work(folder: Path) -> dict[str, Any]:
        assert not (folder / "half").exists()
        return {}

    with suppress(BaseException):
        cache.run("serve", {}, fail)
    assert (cache.path("serve", {}) / "half").exists(), "its logs stay for a look"
    assert cache.run("serve", {}, work) == {}


def test_a_full_disk_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    def fill(folder: Path) -> dict[str, Any]:
        raise OSError(28, "No space left on device")

    with pytest.raises(EnvironmentProblem, match="no space left"):
        StepCache(tmp_path).run("serve", {}, fill)


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


def test_signals_that_are_ignored_stay_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under nohup(1) a command outlives its terminal."""
    handlers: dict[int, object] = {signal.SIGTERM: signal.SIG_DFL, signal.SIGHUP: signal.SIG_IGN}
    monkeypatch.setattr(signal, "getsignal", handlers.__getitem__)
    monkeypatch.setattr(signal, "signal", handlers.__setitem__)
    interrupt_on_termination()
    assert handlers[signal.SIGHUP] is signal.SIG_IGN
    assert callable(handlers[signal.SIGTERM])


COMMANDS = {
    "regression": ["make-model", "--cache", "cache", "--quantize-python"],
    "checkpoint": ["quantize", "model", "out", "--captions", "captions.txt", "--python"],
}


@pytest.mark.parametrize("program", COMMANDS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_killed_command_leaves_no_process(tmp_path: Path, program: str, number: signal.Signals) -> None:
    """A stand-in for an upstream's Python answers the probe, and then works for ever, with a child."""
    python = tmp_path / "python"
    versions = {"nvidia-modelopt": "0.46.0+patchset.1", "torch": "2", "transformers": "5", "accelerate": "1"}
    probe = json.dumps({"sites": {}, "versions": versions})
    python.write_text(f"#!/bin/sh\nif [ \"$1\" = -c ]; then echo '{probe}'; exit; fi\nsleep 100 &\necho $! $$\nwait\n")
    python.chmod(0o755)
    (tmp_path / "captions.txt").write_text("a dog\n")
    running = subprocess.Popen(
        [sys.executable, "-m", program, *COMMANDS[program], str(python)],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_as_from_a_terminal,
    )
    pids: list[int] = []
    for _ in range(200):
        logs = [*tmp_path.glob("cache/fixture-*/log.txt"), *tmp_path.glob("out.log")]
        pids = [int(word) for log in logs for word in log.read_text().split()]
        if pids:
            break
        time.sleep(0.1)
    assert pids, "the work was started"
    running.send_signal(number)
    err = running.communicate(timeout=30)[1]
    # The kernel ends the worker with a command that was killed; nothing is left then to end the worker's children.
    if number == signal.SIGKILL:
        os.kill(pids.pop(0), number)
    assert all(gone(pid) for pid in pids)
    assert running.returncode == (-9 if number == signal.SIGKILL else 130), err
    assert not (tmp_path / "out").exists()
