"""The worker, run by the environment that has ModelOpt: its progress shown, its log kept, nothing left half done."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from checkpoint.quantize.job import Job
from toolkit.errors import BuildFailed, EnvironmentProblem, UsageError
from toolkit.progress import Reporter, Task

WORKER = Path(__file__).parent / "worker.py"
_ASK = """
import importlib.metadata as m, importlib.util as u, json
have = {name: u.find_spec(name) is not None for name in ("torch", "transformers", "accelerate")}
try:
    version = m.version("nvidia-modelopt")
except m.PackageNotFoundError:
    version = None
print(json.dumps({"modelopt": version, **have}))
"""


@dataclass(frozen=True)
class Quantized:
    """A checkpoint that was made: by which ModelOpt, how long each step took, and the peak memory.

    `peak_gpu_bytes` is 0 on the CPU; `peak_host_bytes` counts the pages of the mapped weight files too.
    """

    folder: str
    modelopt: str
    seconds: dict[str, float]
    peak_gpu_bytes: int
    peak_host_bytes: int

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def require_modelopt(python: Path, *, unpatched: bool) -> str:
    """Return the version of ModelOpt that `python` has.

    Raises:
        EnvironmentProblem: there is none, or it is not one that this project's series made.
    """
    try:
        said = subprocess.run([python, "-c", _ASK], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise EnvironmentProblem(f"{python} is no Python that runs", remedy="name one with --python") from error
    found = json.loads(said)
    absent = [name for name, there in found.items() if not there]
    if absent:
        names = ["nvidia-modelopt" if name == "modelopt" else name for name in absent]
        raise EnvironmentProblem(
            f"{python} has no {', '.join(names)}",
            remedy="install the wheel of `patchset build modelopt` there, with torch, transformers and accelerate, "
            "or name another environment with --python",
        )
    version: str = found["modelopt"]
    if "+patchset." not in version and not unpatched:
        raise EnvironmentProblem(
            f"{python} has nvidia-modelopt {version}, which is not of this project's series",
            remedy="patchset build modelopt, and install the wheel from dist/; or go on with --unpatched",
        )
    return version


def quantize(python: Path, job: Job, reporter: Reporter) -> Quantized:
    """Quantize and export; `job.out` appears when all of it is there.

    Raises:
        UsageError: the output is in the way, or an input is not there.
        BuildFailed: ModelOpt failed; the message names its log.
    """
    out = Path(job.out).absolute()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is there already", remedy="name a folder that is not, or remove it")
    if not Path(job.captions).is_file():
        raise UsageError(
            f"{job.captions} is not a file", remedy="name a text file with one caption a line with --captions"
        )
    if job.images and not Path(job.images).is_dir():
        raise UsageError(f"{job.images} is not a folder", remedy="name a folder of pictures with --images")
    out.parent.mkdir(parents=True, exist_ok=True)
    partial, log = out.with_name(f".{out.name}.partial"), out.with_name(f"{out.name}.log")
    shutil.rmtree(partial, ignore_errors=True)
    job = replace(job, out=str(partial), captions=str(Path(job.captions).absolute()))
    try:
        result = _work(python, job, log, reporter)
        if out.exists():
            out.rmdir()
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    log.unlink()
    return Quantized(str(out), **result)


def _work(python: Path, job: Job, log: Path, reporter: Reporter) -> dict[str, Any]:
    read, write = os.pipe()
    command = [str(python), str(WORKER), json.dumps(job.as_json()), str(write)]
    result: dict[str, Any] | None = None
    with log.open("wb") as said, os.fdopen(read) as lines:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT, pass_fds=[write]
        )
        os.close(write)
        try:
            with _tasks(reporter) as tasks:
                for line in lines:
                    value = json.loads(line)
                    result = value.get("result", result)
                    tasks.take(value)
            process.wait()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    if process.returncode != 0 or result is None:
        last = [line for line in log.read_text(errors="replace").splitlines() if line.strip()][-3:]
        raise BuildFailed(
            f"ModelOpt failed; its log is {log}", details=tuple(last), remedy="the log tells more; nothing was written"
        )
    return result


class _Tasks:
    """Shows the worker's tasks, one after another."""

    def __init__(self, reporter: Reporter) -> None:
        self.reporter = reporter
        self.open: AbstractContextManager[Task] | None = None
        self.task: Task | None = None

    def take(self, value: dict[str, Any]) -> None:
        if "task" in value:
            self.close()
            self.open = self.reporter.task(value["task"], value.get("total"), value.get("unit", ""))
            self.task = self.open.__enter__()
        elif "done" in value and self.task is not None:
            self.task.update(value["done"])

    def close(self) -> None:
        if self.open is not None:
            self.open.__exit__(None, None, None)
            self.open = None


@contextmanager
def _tasks(reporter: Reporter) -> Iterator[_Tasks]:
    tasks = _Tasks(reporter)
    try:
        yield tasks
    finally:
        tasks.close()
