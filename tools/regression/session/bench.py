"""The place where steps run: the upstreams' environments and patched packages, the kept steps, the workers' processes.

An upstream's import and first start cost more than all the requests to a small model. Steps of one environment and one
tree therefore share a process, and processes run side by side; each step's answer is kept by itself. `Bench.do` does a
step that a shared process did not finish again, in a process of its own.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

from patchset.model.series import Series
from regression.effects.cache import StepCache, digest, named_files
from regression.effects.machine import Hardware, environment
from regression.effects.patched_package import PatchedPackage, build
from regression.values.scenario import Edit
from toolkit.errors import EnvironmentProblem, PatchsetError
from toolkit.files import sha256_of
from toolkit.process import Command, ProcessEnd, run_commands
from toolkit.progress import Reporter
from toolkit.python import Python

WORKERS = Path(__file__).parents[1] / "workers"
TAIL = 6000  # characters of an error that are kept
_ERROR = re.compile(r"\w(Error|Exception|Interrupt): |^the quantized model")


class Unfinished(PatchsetError):
    """A step without a result: out of time or memory. It is not kept."""

    exit_code = 14
    slug = "unfinished"


@dataclass(frozen=True)
class Variant:
    """A variant of an upstream: as released, with its series, without one patch, or with a planted defect."""

    series: Series | None = None
    without: str | None = None
    edits: tuple[Edit, ...] = ()

    @property
    def title(self) -> str:
        if self.series is None:
            return "as released"
        if self.edits:
            return "with the series and a planted defect"
        return f"without {self.without}" if self.without else "with the series"


@dataclass(frozen=True)
class WorkerStep:
    """One job of a worker.

    `kind` and `inputs` name what is kept; the worker gets `job` and the folder. `imports` are folders that it imports
    from beside its own. `refusal` is a part of the error where one is expected; `variant` is the title of the
    upstream's variant. A step that is `timed` has the machine for itself.
    """

    kind: str
    worker: str
    title: str
    python: Python
    package: PatchedPackage | None
    inputs: Mapping[str, object]
    job: Mapping[str, object]
    variant: str
    environment: Mapping[str, str]
    timeout: float
    imports: tuple[Path, ...] = ()
    refusal: str | None = None
    timed: bool = False

    @property
    def process(self) -> tuple[object, ...]:
        """The properties that steps of one process share."""
        folder = self.package.folder if self.package is not None else None
        return self.worker, self.python.path, folder, tuple(sorted(self.environment.items()))


@dataclass(frozen=True)
class StepOutput:
    """The files of a step and its answer, which may be an error."""

    folder: Path
    answer: dict[str, Any]

    @property
    def error(self) -> str | None:
        error = self.answer.get("error")
        return error if isinstance(error, str) else None


@dataclass
class Bench:
    """The place where steps run, `parallel` processes at a time; `processes` lists those that ran, with seconds."""

    cache: StepCache
    reporter: Reporter
    quantize: Python
    serve: Python
    hardware: Hardware
    parallel: int = 1
    processes: list[dict[str, Any]] = field(default_factory=list)
    _packages: dict[str, PatchedPackage] = field(default_factory=dict)
    _contents: dict[Path, str] = field(default_factory=dict)

    def digest(self, *paths: Path) -> str:
        """Return the sha256 of files, and of finished folders; each file is read once in a session."""
        unread = [file for _, file in named_files(*paths) if file not in self._contents]
        read = list(accumulate(file.stat().st_size for file in unread))
        with self.reporter.task(f"read {paths[0].name}", read[-1] if read else 0, "bytes") as task:
            for file, size in zip(unread, read, strict=True):
                self._contents[file] = sha256_of(file)
                task.update(size)
        return digest(*paths, sha256=self._contents.__getitem__)

    def python(self, upstream: str) -> Python:
        """Return the environment that an upstream is in."""
        return self.quantize if upstream == "modelopt" else self.serve

    def package(self, name: str, variant: Variant) -> PatchedPackage | None:
        """Return an upstream's patched package, built once in a session; None where it is as released.

        Raises:
            EnvironmentProblem: it is not in the environment.
        """
        if variant.series is None:
            return None
        python = self.python(name)
        if name not in python.sites:
            raise EnvironmentProblem(f"{python.path} has no {name}", remedy="name an environment that it is in")
        planted = hashlib.sha256(repr(variant.edits).encode()).hexdigest()[:8] if variant.edits else "none"
        key = f"{name}-without-{variant.without or 'none'}-planted-{planted}"
        if key not in self._packages:
            folder = self.cache.folder / "patched" / key
            self._packages[key] = build(
                folder, python.sites[name], name, variant.series, variant.without, variant.edits
            )
        return self._packages[key]

    def step(
        self, upstream: str, variant: Variant, *workers: str, inputs: Mapping[str, object], **rest: Any
    ) -> WorkerStep:
        """Return the step that the first of `workers`, which imports the others, does in an upstream's environment.

        Beside `inputs` it depends on versions, changed files, our workers and the machine.
        """
        python, package = self.python(upstream), self.package(upstream, variant)
        every = {
            "versions": python.versions,
            "changed": dict(package.blobs) if package is not None else {},
            "scripts": digest(*(WORKERS / f"{name}.py" for name in ("items", "progress_lines", *workers))),
            "hardware": [self.hardware.cpu, *self.hardware.gpus],
            **inputs,
        }
        return WorkerStep(
            worker=workers[0], python=python, package=package, inputs=every, variant=variant.title, **rest
        )

    def do(self, step: WorkerStep) -> StepOutput:
        """Return a step's output; the step is done now if it is not kept.

        Raises:
            Unfinished: it was out of time or memory.
            EnvironmentProblem: the disk is full.
        """

        def work(folder: Path) -> dict[str, Any]:
            ((_, end, log),) = self._run([[step]], step.title)
            raise_unfinished(step.title, end, step.timeout, log)
            answer = _read_answer(folder)
            return answer if answer is not None else {"error": last_error(end.tail), "tail": end.tail}

        answer = self.cache.run(step.kind, step.inputs, work)
        return StepOutput(self.cache.path(step.kind, step.inputs), answer)

    def do_ahead(self, steps: Sequence[WorkerStep], title: str) -> None:
        """Do the steps that are not kept, batched; keep what is served, and the refusals that are expected.

        Raises:
            EnvironmentProblem: the disk is full.
        """
        missing: dict[Path, WorkerStep] = {}
        for step in steps:
            if self.cache.answer(step.kind, step.inputs) is None:
                missing.setdefault(self.cache.path(step.kind, step.inputs), step)
        batches: dict[tuple[object, ...], list[WorkerStep]] = {}
        for step in missing.values():
            batches.setdefault(step.process, []).append(step)
        timed = [batch for batch in batches.values() if any(step.timed for step in batch)]
        others = [batch for batch in batches.values() if batch not in timed]
        with self.cache.whole_disk():
            for group, limit in ((timed, 1), (others, self.parallel)):
                with closing(self._run(group, title, limit)) as ends:
                    for batch, end, log in ends:
                        if end.cause == "disk":
                            raise_unfinished(title, end, 0, log)
                        for step in batch:
                            answer = _read_answer(self.cache.path(step.kind, step.inputs))
                            if answer is not None and _expected(step, answer):
                                self.cache.keep(step.kind, step.inputs, answer)

    def _run(
        self, batches: Sequence[list[WorkerStep]], title: str, limit: int = 1
    ) -> Generator[tuple[list[WorkerStep], ProcessEnd, Path]]:
        """Run each batch in a process, and yield the batch, the process's end, and its log."""
        commands = {self._command(batch): batch for batch in batches}
        if not commands:
            return
        begin = time.monotonic()
        with (
            self.reporter.task(title, sum(command.steps for command in commands), "steps") as task,
            closing(run_commands([*commands], limit, task)) as ends,
        ):
            for command, end in ends:
                batch = commands[command]
                self.processes.append(
                    {
                        "process": f"{batch[0].kind} {batch[0].variant}",
                        "steps": [step.title for step in batch],
                        "begin": round(time.monotonic() - begin - end.seconds, 1),
                        "seconds": round(end.seconds, 1),
                    }
                )
                yield batch, end, command.log

    def _command(self, batch: list[WorkerStep]) -> Command:
        """Return the command that does a batch, in the first step's folder; all its folders are emptied."""
        folders = [self.cache.begin(step.kind, step.inputs) for step in batch]
        jobs = [{**step.job, "folder": str(folder)} for step, folder in zip(batch, folders, strict=True)]
        first = batch[0]
        packages = [first.package.folder] if first.package is not None else []
        paths = [WORKERS / "site", *packages, *first.imports]
        return Command(
            arguments=[str(first.python.path), str(WORKERS / f"{first.worker}.py"), json.dumps(jobs)],
            # Threads that wait by spinning take the processor from those that work, where several processes run.
            env=environment(
                PYTHONPATH=":".join(map(str, paths)),
                OMP_NUM_THREADS=str(self.hardware.cores),
                OMP_WAIT_POLICY="PASSIVE",
                **first.environment,
            ),
            folder=folders[0],
            log=folders[0] / "log.txt",
            timeout=sum(step.timeout for step in batch),
            steps=len(batch),
        )


def raise_unfinished(title: str, end: ProcessEnd, timeout: float, log: Path) -> None:
    """Raise where a process has no result of its own."""
    if end.cause == "timeout":
        remedy = f"raise `timeout` in the scenario, or look into {log}"
        raise Unfinished(f"{title}: not done within {timeout:.0f} s", remedy=remedy)
    if end.cause == "memory":
        raise Unfinished(f"{title}: out of memory at {end.peak / 2**30:.1f} GiB", remedy="free some, and run again")
    if end.cause == "disk":
        raise EnvironmentProblem(f"{title}: no space left on the disk", remedy="free some, and run again: it goes on")


def last_error(tail: str) -> str:
    """Return the line of a Python traceback with the error: the last one that names an exception."""
    lines = [line.strip() for line in tail.splitlines()]
    # Worker processes prefix their lines.
    named = [number for number, line in enumerate(lines) if _ERROR.search(line)]
    if not named:
        return next((line for line in reversed(lines) if line), "no output")
    error = lines[named[-1]]
    # pydantic has the reason on the line after.
    more = lines[named[-1] + 1] if "validation error" in error and named[-1] + 1 < len(lines) else ""
    return f"{error}: {more.partition(' [type=')[0]}" if more else error


def _expected(step: WorkerStep, answer: dict[str, Any]) -> bool:
    """Return True for an answer without an error, and for the error that the step is to end with."""
    return "error" not in answer or (step.refusal is not None and step.refusal in answer["tail"])


def _read_answer(folder: Path) -> dict[str, Any] | None:
    """Return the answer or the error that a worker wrote into a step's folder, or None."""
    if (folder / "output.json").is_file():
        answer: dict[str, Any] = json.loads((folder / "output.json").read_text())
        return answer
    if (folder / "error.txt").is_file():
        text = (folder / "error.txt").read_text(errors="replace")
        return {"error": last_error(text), "tail": text[-TAIL:]}
    return None
