"""The source build: the patched tree, checked out in a folder of its own, built by its own build system."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections import deque
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from patchset.model.component import Packaging
from patchset.store.git import Git
from patchset.store.text import records
from patchset.wheels import preflight
from patchset.wheels.overlay import Graft, overlay, wheel_name
from toolkit.errors import BuildFailed, BuildRefused, EnvironmentProblem, IntegrityError, UsageError
from toolkit.progress import Reporter

# The last lines of a log that say why a build failed.
_TAIL = 30


@dataclass(frozen=True)
class SourceBuild:
    """One build: the patched `commit` in `git`, the wheel's `version`, and the user's options.

    `kind` is the source of the base; `cuda_arch` is a list as TORCH_CUDA_ARCH_LIST has it.
    """

    title: str
    git: Git
    commit: str
    kind: str
    packaging: Packaging
    version: str
    variant: str | None
    cuda_arch: str | None
    jobs: int | None


def build(job: SourceBuild, document: bytes, out: Path, reporter: Reporter) -> Path:
    """Build the wheel, put the SBOM into it, and return its path in `out`.

    Raises:
        BuildRefused: the base's archive has no build files.
        EnvironmentProblem: a compiler, CUDA, memory or pip is missing; nothing was built.
        BuildFailed: the build failed; its log stays in `out`.
    """
    packaging = job.packaging
    tracked = set(records(job.git.run("ls-tree", "-z", "--name-only", job.commit)))
    missing = [name for name in packaging.build_files if name not in tracked]
    if missing:
        raise BuildRefused(
            f"{job.title} cannot be built from its {job.kind}: it has no {', '.join(missing)}",
            remedy="take the git tree (--source submodule), or the other route (--route overlay)",
        )
    environment = _environment(job)
    preflight.check(_needs(job), environment, packaging.job_memory)
    if find_spec("pip") is None:
        raise EnvironmentProblem(
            "pip is not in the environment that runs this tool", remedy="install it: python -m ensurepip"
        )
    with tempfile.TemporaryDirectory(prefix="patchset-") as temporary:
        folder = Path(temporary)
        tree = folder / "tree"
        tree.mkdir()
        with reporter.task(f"check out {job.title}"):
            index = {"GIT_INDEX_FILE": str(folder / "index")}
            Git(job.git.gitdir, tree).run("read-tree", "--reset", "-u", job.commit, env=index)
        _run(job, tree, folder / "wheels", environment, out, reporter)
        wheels = list((folder / "wheels").glob("*.whl"))
        if len(wheels) != 1:
            raise BuildFailed(f"the build of {job.title} left {len(wheels)} wheels, not one", remedy=_REPORT)
        version = wheel_name(wheels[0].name).version
        if version != job.version:
            raise IntegrityError(f"the build gave its wheel version {version}, not {job.version}", remedy=_REPORT)
        return overlay(wheels[0], Graft({}, job.version, document, None), out, reporter)


_REPORT = "check [wheel] in component.toml against upstream's build system"


def _needs(job: SourceBuild) -> tuple[str, ...]:
    known = dict(job.packaging.variants)
    return known[_variant(job)] if known else ()


def _variant(job: SourceBuild) -> str:
    known = [name for name, _ in job.packaging.variants]
    variable = job.packaging.variant_variable
    variant = job.variant or (os.environ.get(variable) if variable else None) or known[0]
    if variant not in known:
        raise UsageError(f"{job.title} cannot be built for {variant!r}", remedy=f"known variants: {', '.join(known)}")
    return variant


def _environment(job: SourceBuild) -> dict[str, str]:
    """Return the user's environment, so that compiler caches and flags pass through, with the build's own settings."""
    environment = dict(os.environ)
    environment |= {key: value.replace("{version}", job.version) for key, value in job.packaging.environment}
    if job.packaging.variant_variable is not None:
        environment[job.packaging.variant_variable] = _variant(job)
    if job.cuda_arch is not None:
        environment["TORCH_CUDA_ARCH_LIST"] = job.cuda_arch
    if job.jobs is not None:
        environment["MAX_JOBS"] = str(job.jobs)
    environment["SOURCE_DATE_EPOCH"] = job.git.run("log", "-1", "--format=%at", job.commit).decode().strip()
    return environment


def _run(
    job: SourceBuild, tree: Path, wheels: Path, environment: dict[str, str], out: Path, reporter: Reporter
) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--verbose", "-w", str(wheels), str(tree)]
    out.mkdir(parents=True, exist_ok=True)
    log = out / f"{job.title.replace('@', '-')}.log"
    tail: deque[str] = deque(maxlen=_TAIL)
    with log.open("wb") as stream, reporter.task(f"build {job.title}", None, "lines of log") as task:
        # A group of its own: Ctrl-C must end compilers too, and not only pip.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        assert process.stdout is not None
        try:
            for count, line in enumerate(process.stdout, 1):
                stream.write(line)
                tail.append(line.decode(errors="replace").rstrip())
                task.update(count)
            code = process.wait()
        except BaseException:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()
            raise
    if code:
        raise BuildFailed(
            f"the build of {job.title} failed (exit code {code}); its log is {log}",
            details=tuple(tail),
            remedy="read the log; the build ran in an isolated environment of its own",
        )
