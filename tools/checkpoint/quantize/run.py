"""Run the worker in the environment that has ModelOpt: show its progress, keep its log, write all or nothing."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from checkpoint.quantize.job import QuantizeJob
from toolkit.errors import BuildFailed, EnvironmentProblem, UsageError
from toolkit.process import Command, WatchedProcess
from toolkit.progress import Reporter, Task
from toolkit.python import find_packages

WORKER = Path(__file__).parent / "worker.py"
NEEDED = ("nvidia-modelopt", "torch", "transformers", "accelerate")


@dataclass(frozen=True)
class QuantizeResult:
    """A new checkpoint's folder, the version of ModelOpt, the seconds of each step, and the peak memory.

    `peak_gpu_bytes` is 0 on the CPU; `peak_host_bytes` counts the pages of the mapped weight files too.
    """

    folder: str
    modelopt: str
    seconds: dict[str, float]
    peak_gpu_bytes: int
    peak_host_bytes: int


def require_modelopt(python: Path, *, unpatched: bool) -> str:
    """Return the version of ModelOpt that `python` has.

    Raises:
        EnvironmentProblem: `python` has no ModelOpt, or an unpatched one that `unpatched` does not allow.
    """
    environment = find_packages(python, NEEDED, remedy="name one with --python")
    absent = [name for name in NEEDED if name not in environment.versions and name not in environment.sites]
    if absent:
        raise EnvironmentProblem(
            f"{python} has no {', '.join(absent)}",
            remedy="install the wheel of `patchset build modelopt` there, with torch, transformers and accelerate, "
            "or name another environment with --python",
        )
    version = environment.versions["nvidia-modelopt"]
    if "+patchset." not in version and not unpatched:
        raise EnvironmentProblem(
            f"{python} has nvidia-modelopt {version}, which is not of this project's series",
            remedy="patchset build modelopt, and install the wheel from dist/; or go on with --unpatched",
        )
    return version


def quantize(python: Path, job: QuantizeJob, reporter: Reporter) -> QuantizeResult:
    """Quantize and export; `job.out` appears when it is complete.

    Raises:
        UsageError: the output is in the way, or an input is absent.
        BuildFailed: ModelOpt failed; the message names its log.
    """
    out = Path(job.out).absolute()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} exists already", remedy="name a new folder, or remove it")
    if not Path(job.captions).is_file():
        raise UsageError(
            f"{job.captions} is not a file", remedy="name a text file with one caption a line with --captions"
        )
    if job.images and not Path(job.images).is_dir():
        raise UsageError(f"{job.images} is not a folder", remedy="name a folder of images with --images")
    out.parent.mkdir(parents=True, exist_ok=True)
    partial, log = out.with_name(f".{out.name}.partial"), out.with_name(f"{out.name}.log")
    shutil.rmtree(partial, ignore_errors=True)
    images = str(Path(job.images).absolute()) if job.images else None
    job = replace(job, out=str(partial), captions=str(Path(job.captions).absolute()), images=images)
    try:
        result = _work(python, job, log, reporter)
        if out.exists():
            out.rmdir()
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    log.unlink()
    return QuantizeResult(str(out), **result)


def _work(python: Path, job: QuantizeJob, log: Path, reporter: Reporter) -> dict[str, Any]:
    read, write = os.pipe()
    arguments = [str(python), str(WORKER), json.dumps(asdict(job)), str(write)]
    command = Command(arguments, os.environ, Path.cwd(), log, pass_fds=(write,))
    result: dict[str, Any] | None = None
    task: Task | None = None
    with os.fdopen(read) as lines, WatchedProcess(command) as process, ExitStack() as shown:
        os.close(write)
        for line in lines:
            message = json.loads(line)
            result = message.get("result", result)
            if "task" in message:
                shown.close()
                opened = reporter.task(message["task"], message.get("total"), message.get("unit", ""))
                task = shown.enter_context(opened)
            elif "done" in message and task is not None:
                task.update(message["done"])
        end = process.wait()
    if not end.succeeded or result is None:
        last = [line for line in end.tail.splitlines() if line.strip()][-3:]
        raise BuildFailed(
            f"ModelOpt failed; its log is {log}", details=tuple(last), remedy="read the log; nothing was written"
        )
    return result
