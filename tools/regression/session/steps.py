"""Steps: jobs for our scripts in the upstreams' environments, several to a process where they share one.

An upstream's import and first start cost more than all that a small model is asked afterwards. Steps of one
environment and one tree therefore go through one process, and processes run side by side; each step's answer is kept by
itself. What a batch does not bring home, for whatever reason, is done again by `do`, alone in a process of its own.
"""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regression.effects.machine import Python
from regression.effects.overlay import Overlay
from regression.effects.process import Ended
from regression.effects.together import Command, run_together
from regression.stages.bench import INSIDE, Bench, last_error, raise_unfinished, read_said

TAIL = 6000  # characters of an error that are kept


@dataclass(frozen=True)
class Step:
    """One job of a script.

    `stage` and `inputs` name what is kept; `job` is what the script is told beside the folder. `refusal` is what an
    error has to say where one is wanted; `tree` says in words what it runs on. A step that is `timed` has the machine
    for itself.
    """

    stage: str
    script: str
    title: str
    python: Python
    changed: Overlay | None
    inputs: Mapping[str, object]
    job: Mapping[str, object]
    tree: str
    environment: Mapping[str, str]
    timeout: float
    refusal: str | None = None
    timed: bool = False

    @property
    def process(self) -> tuple[object, ...]:
        """What steps have to share to go through one process."""
        changed = self.changed.folder if self.changed is not None else None
        return self.script, self.python.path, changed, tuple(sorted(self.environment.items()))


def do(bench: Bench, step: Step) -> tuple[Path, dict[str, Any]]:
    """Return a step's folder and its answer, which may be an error; it is done now if it is not kept.

    Raises:
        Unfinished: it was out of time or memory.
        EnvironmentProblem: the disk is full.
    """

    def work(folder: Path) -> dict[str, Any]:
        ((_, ended, log),) = _run(bench, [[step]], step.title)
        raise_unfinished(step.title, ended, step.timeout, log)
        found = _answer(folder)
        return found if found is not None else {"error": last_error(ended.tail), "tail": ended.tail}

    answer = bench.stages.run(step.stage, step.inputs, work)
    return bench.stages.path(step.stage, step.inputs), answer


def do_ahead(bench: Bench, steps: Sequence[Step], title: str) -> None:
    """Do the steps that are not kept, batched; keep what is served, and what is refused as it is wanted.

    Raises:
        EnvironmentProblem: the disk is full.
    """
    missing: dict[Path, Step] = {}
    for step in steps:
        if bench.stages.finished(step.stage, step.inputs) is None:
            missing.setdefault(bench.stages.path(step.stage, step.inputs), step)
    batches: dict[tuple[object, ...], list[Step]] = {}
    for step in missing.values():
        batches.setdefault(step.process, []).append(step)
    timed = [batch for batch in batches.values() if any(step.timed for step in batch)]
    others = [batch for batch in batches.values() if batch not in timed]
    with bench.stages.whole_disk():
        for group, limit in ((timed, 1), (others, bench.parallel)):
            with closing(_run(bench, group, title, limit)) as ends:
                for batch, ended, log in ends:
                    if ended.cause == "disk":
                        raise_unfinished(title, ended, 0, log)
                    for step in batch:
                        found = _answer(bench.stages.path(step.stage, step.inputs))
                        refused = found is not None and "error" in found
                        if found is not None and (not refused or (step.refusal and step.refusal in found["tail"])):
                            bench.stages.finish(step.stage, step.inputs, found)


def _run(
    bench: Bench, batches: Sequence[list[Step]], title: str, limit: int = 1
) -> Generator[tuple[list[Step], Ended, Path]]:
    """Run each batch in a process, and yield the batch, how it ended, and its log."""
    commands: dict[int, list[Step]] = {}
    made = []
    for batch in batches:
        folders = [bench.stages.begin(step.stage, step.inputs) for step in batch]
        jobs = [{**step.job, "folder": str(folder)} for step, folder in zip(batch, folders, strict=True)]
        first, log = batch[0], folders[0] / "log.txt"
        command = Command(
            [str(first.python.path), str(INSIDE / f"{first.script}.py"), json.dumps(jobs)],
            bench.environment(first.changed, first.environment),
            folders[0],
            log,
            sum(step.timeout for step in batch),
            len(batch),
        )
        commands[id(command)] = batch
        made.append(command)
    if not made:
        return
    begin = time.monotonic()
    with (
        bench.reporter.task(title, sum(command.steps for command in made), "steps") as task,
        closing(run_together(made, limit, task)) as ends,
    ):
        for command, ended in ends:
            batch = commands[id(command)]
            bench.spent.append(
                {
                    "process": f"{batch[0].stage} {batch[0].tree}",
                    "steps": [step.title for step in batch],
                    "begin": round(time.monotonic() - begin - ended.seconds, 1),
                    "seconds": round(ended.seconds, 1),
                }
            )
            yield batch, ended, command.log


def _answer(folder: Path) -> dict[str, Any] | None:
    """Return what a script left behind in a step's folder: an answer, an error, or nothing."""
    if (folder / "said.json").is_file():
        return read_said(folder)
    if (folder / "error.txt").is_file():
        text = (folder / "error.txt").read_text(errors="replace")
        return {"error": last_error(text), "tail": text[-TAIL:]}
    return None
