"""Steps that share processes: batched, kept one by one, and done alone where a batch did not finish them."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from regression.effects.cache import StepCache, digest
from regression.effects.machine import Hardware, environment
from regression.session import bench as module
from regression.session.bench import Bench, Unfinished, Variant, WorkerStep
from regression.session.fixture import Fixture
from regression.session.quantize import quantize_step
from regression.session.serve import converted
from regression.values.scenario import read_folder
from toolkit.errors import EnvironmentProblem, UsageError
from toolkit.process import Command, run_commands
from toolkit.progress import Quiet
from toolkit.python import Python

from .recorder import RecordedTask, Recorder

# A worker as ours are: each job has its outcome in `does`; `calls` lists the jobs that were begun, with their process.
SCRIPT = """
import json, os, signal, sys, time
from pathlib import Path
for job in json.loads(sys.argv[1]):
    folder = Path(job["folder"])
    with open(job["calls"], "a") as calls:
        calls.write(f"{job['name']} {os.getpid()} {os.environ.get('SHARED', '')}\\n")
    match job["does"]:
        case "serve": (folder / "output.json").write_text(json.dumps({"name": job["name"]}))
        case "refuse": (folder / "error.txt").write_text("Traceback\\nValueError: no such format\\n")
        case "crash once" if not Path(job["calls"] + ".crashed").exists():
            Path(job["calls"] + ".crashed").touch()
            os._exit(3)
        case "crash once": (folder / "output.json").write_text("{}")
        case "killed": os.kill(os.getpid(), signal.SIGKILL)
        case "full": sys.exit("OSError: No space left on device")
        case "wait": time.sleep(job["seconds"]); (folder / "output.json").write_text("{}")
"""


class Place:
    """A bench whose worker is SCRIPT."""

    def __init__(self, folder: Path) -> None:
        self.calls = folder / "calls"
        self.python = Python(Path(sys.executable), {"vllm": folder}, {})
        self.bench = Bench(
            StepCache(folder / "cache"), Quiet(), self.python, self.python, Hardware("", 2, 0, (), (), None), parallel=2
        )

    def step(self, name: str, does: str, **more: Any) -> WorkerStep:
        """Describe one step; those of the same `process` share one."""
        job = {"name": name, "does": does, "calls": str(self.calls), "seconds": more.pop("seconds", 0)}
        shared = {"SHARED": more.pop("process", "one")}
        given: dict[str, Any] = {"timeout": 30.0, **more}
        inputs = {"name": name}
        return WorkerStep("serve", "script", name, self.python, None, inputs, job, "as released", shared, **given)

    def begun(self) -> list[tuple[str, str]]:
        """Return the name and process of each job that was begun."""
        lines = self.calls.read_text().splitlines() if self.calls.exists() else []
        return [(line.split()[0], line.split()[1]) for line in lines]

    def kept(self, step: WorkerStep) -> dict[str, Any] | None:
        return self.bench.cache.answer(step.kind, step.inputs)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    (tmp_path / "script.py").write_text(SCRIPT)
    monkeypatch.setattr(module, "WORKERS", tmp_path)
    return Place(tmp_path)


def test_steps_of_one_tree_share_a_process(place: Place) -> None:
    steps = [place.step(name, "serve", process=process) for name, process in (("a", "1"), ("b", "2"), ("c", "1"))]
    place.bench.do_ahead([*steps, steps[0]], "serve")
    processes = dict(place.begun())
    assert len(place.begun()) == 3, "the same step is done once"
    assert processes["a"] == processes["c"] != processes["b"]
    assert [place.kept(step) for step in steps] == [{"name": name} for name in "abc"]
    place.bench.do_ahead(steps, "serve")
    assert place.bench.do(steps[0]).answer == {"name": "a"}
    assert len(place.begun()) == 3, "what is kept is not done again"
    assert [process["steps"] for process in place.bench.processes] in ([["a", "c"], ["b"]], [["b"], ["a", "c"]])


def test_an_expected_refusal_is_kept_and_another_is_done_again_alone(place: Place) -> None:
    wanted = place.step("a", "refuse", refusal="no such format")
    other = place.step("b", "refuse", refusal="out of order")
    unwanted = place.step("c", "refuse")
    place.bench.do_ahead([wanted, other, unwanted], "serve")
    assert (place.kept(wanted) or {})["error"] == "ValueError: no such format"
    assert place.kept(other) is None
    assert place.kept(unwanted) is None
    answer = place.bench.do(unwanted).answer
    assert answer["error"] == "ValueError: no such format"
    assert len({process for _, process in place.begun()}) == 2, "alone, in a process of its own"


def test_a_crash_costs_nobody_elses_answer(place: Place) -> None:
    steps = [place.step("a", "serve"), place.step("b", "crash once"), place.step("c", "serve")]
    place.bench.do_ahead(steps, "serve")
    assert [place.kept(step) is not None for step in steps] == [True, False, False]
    for step in steps:
        assert "error" not in place.bench.do(step).answer
    assert [name for name, _ in place.begun()] == ["a", "b", "b", "c"]


def test_a_step_that_dies_alone_says_so(place: Place) -> None:
    with pytest.raises(Unfinished, match="out of memory"):
        place.bench.do(place.step("a", "killed"))
    with pytest.raises(Unfinished, match="not done within"):
        place.bench.do(place.step("b", "wait", seconds=30, timeout=1.0))
    with pytest.raises(EnvironmentProblem, match="no space left"):
        place.bench.do_ahead([place.step("c", "full")], "serve")


def test_what_is_timed_has_the_machine_for_itself(place: Place) -> None:
    def runs(**more: Any) -> Mapping[str, tuple[float, float]]:
        place.bench.processes.clear()
        steps = [place.step(f"{n} {more}", "wait", seconds=0.5, process=str(n), **more) for n in range(2)]
        place.bench.do_ahead(steps, "serve")
        return {one["steps"][0][0]: (one["begin"], one["begin"] + one["seconds"]) for one in place.bench.processes}

    together, alone = runs(), runs(timed=True)
    assert together["1"][0] < together["0"][1]
    assert alone["1"][0] >= alone["0"][1] - 0.11, "rounded to tenths"


def command(tmp_path: Path, name: str, code: str) -> Command:
    return Command([sys.executable, "-c", code], environment(), tmp_path, tmp_path / f"{name}.txt", 30.0)


def test_progress_of_several_processes_adds_up(tmp_path: Path) -> None:
    task = RecordedTask()
    code = r"""print('\x1e{"done": 0.5, "total": 1, "unit": "steps"}')"""
    ends = list(run_commands([command(tmp_path, name, code) for name in "abc"], 2, task))
    assert sorted(one.log.stem for one, _ in ends) == ["a", "b", "c"]
    assert all(end.succeeded for _, end in ends)
    assert task.updates[-1] == (3, 3)


def test_leaving_the_loop_ends_all_of_them(tmp_path: Path) -> None:
    quick = "pass"
    slow = "import os, time; print(os.getpid(), flush=True); time.sleep(100)"
    started = run_commands([command(tmp_path, "slow", slow), command(tmp_path, "quick", quick)], 2, RecordedTask())
    with closing(started):
        first, _ = next(started)
        assert first.log.stem == "quick"
        until(lambda: (tmp_path / "slow.txt").read_text().strip() != "")
    pid = int((tmp_path / "slow.txt").read_text())
    until(lambda: not Path(f"/proc/{pid}").exists())


def until(true: Callable[[], bool]) -> None:
    for _ in range(100):
        if true():
            return
        time.sleep(0.1)
    raise AssertionError("it did not happen within ten seconds")


def test_a_process_is_listed_in_json(place: Place) -> None:
    place.bench.do_ahead([place.step("a", "serve")], "serve")
    assert json.loads(json.dumps(place.bench.processes))[0]["process"] == "serve as released"


def test_large_files_are_read_once_with_progress(place: Place, tmp_path: Path) -> None:
    model = tmp_path / "fixture/model"
    model.mkdir(parents=True)
    (model / "weights").write_bytes(b"w" * 1000)
    (tmp_path / "fixture/captions.txt").write_bytes(b"c" * 10)
    place.bench.reporter = recorder = Recorder()
    whole, part = place.bench.digest(tmp_path / "fixture"), place.bench.digest(model)
    assert (whole, part) == (digest(tmp_path / "fixture"), digest(model))
    read, again = recorder.tasks
    assert (read.title, read.total, read.unit) == ("read fixture", 1010, "bytes")
    assert read.updates[-1] == (1010, 1010)
    assert (again.total, again.updates) == (0, [])


def test_the_worker_of_checkpoint_quantize_is_where_the_step_imports_it(tmp_path: Path) -> None:
    (tmp_path / "one.toml").write_text(
        'title = "t"\nformat = "int8_mixed"\ndtype = "float32"\nexport-refused = "x"\ndead-channel = true\n'
    )
    for name in ("model", "captions.txt", "items.json"):
        (tmp_path / name).touch()
    fixture = Fixture(tmp_path / "model", tmp_path / "captions.txt", tmp_path / "items.json", None, None)
    ((scenario,), _) = read_folder(tmp_path)
    step = quantize_step(Place(tmp_path).bench, fixture, scenario, Variant())
    assert [folder / "worker.py" for folder in step.imports if (folder / "worker.py").is_file()]
    assert step.job["dead channel"]
    assert step.job["mixed"]


def test_a_conversion_depends_on_its_code(place: Place, tmp_path: Path) -> None:
    """A checkpoint that is none is refused by the conversion itself, after its code was read."""
    (tmp_path / "checkpoint").mkdir()
    with pytest.raises(UsageError):
        converted(place.bench, tmp_path / "checkpoint")
