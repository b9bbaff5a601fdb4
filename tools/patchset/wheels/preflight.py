"""The needs of a source build, checked on the machine before it starts."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from toolkit.errors import EnvironmentProblem

GIB = 1 << 30


def check(needs: tuple[str, ...], environment: Mapping[str, str], job_memory: int) -> None:
    """Check that the machine has what a build needs.

    `environment` is the one that the build gets; `job_memory` is in GiB.

    Raises:
        EnvironmentProblem: something is missing; the details name all of it.
    """
    wrong = []
    if "compiler" in needs:
        wrong += _compiler(environment)
    if "cuda" in needs:
        wrong += _cuda(environment)
    if "memory" in needs and job_memory:
        wrong += _memory(environment, job_memory)
    if wrong:
        raise EnvironmentProblem(
            "this machine cannot build from source",
            details=tuple(what for what, _ in wrong),
            remedy="; ".join(dict.fromkeys(remedy for _, remedy in wrong)),
        )


def _compiler(environment: Mapping[str, str]) -> list[tuple[str, str]]:
    compiler = environment.get("CXX")
    names = (compiler.split()[0],) if compiler else ("c++", "g++", "clang++")
    if any(shutil.which(name, path=environment.get("PATH")) for name in names):
        return []
    return [(f"there is no C++ compiler ({', '.join(names)})", "install one (g++), or set CXX")]


def _cuda(environment: Mapping[str, str]) -> list[tuple[str, str]]:
    home = environment.get("CUDA_HOME") or environment.get("CUDA_PATH")
    path = os.pathsep.join(filter(None, (str(Path(home) / "bin") if home else "", environment.get("PATH"))))
    nvcc = shutil.which("nvcc", path=path)
    if nvcc is None:
        return [("there is no CUDA compiler (nvcc)", "install the CUDA toolkit, or set CUDA_HOME")]
    wanted = re.findall(r"(\d+)\.(\d+)([af]?)", environment.get("TORCH_CUDA_ARCH_LIST", ""))
    if not wanted:
        return []
    process = subprocess.run([nvcc, "--list-gpu-arch"], capture_output=True, check=False)
    known = set(re.findall(r"compute_(\w+)", process.stdout.decode(errors="replace")))
    # Older compilers list no architectures: then there is nothing to hold the list against.
    unknown = [
        f"{major}.{minor}{suffix}" for major, minor, suffix in wanted if known and f"{major}{minor}" not in known
    ]
    if unknown:
        newest = max(known, key=lambda name: int(re.sub(r"\D", "", name)))
        what = f"{nvcc} does not know the architecture {', '.join(unknown)} (its newest is {newest})"
        return [(what, "install a newer CUDA toolkit, or change --cuda-arch")]
    return []


def _memory(environment: Mapping[str, str], job_memory: int) -> list[tuple[str, str]]:
    available = available_memory()
    if available is None:
        return []
    jobs = int(environment.get("MAX_JOBS") or os.cpu_count() or 1)
    fit = int(available // (job_memory * GIB))
    if jobs <= fit:
        return []
    what = f"{jobs} compile jobs want {jobs * job_memory} GiB of memory, {available / GIB:.1f} GiB are available"
    return [(what, f"run fewer at once (--jobs {fit})" if fit else f"free memory: one job wants {job_memory} GiB")]


def available_memory() -> int | None:
    """Return the bytes that a new process can have, within the control group's limit; None where not known."""
    limits = []
    try:
        text = Path("/proc/meminfo").read_text("ascii")
        if match := re.search(r"^MemAvailable:\s+(\d+) kB", text, re.MULTILINE):
            limits.append(int(match[1]) * 1024)
        group = Path("/sys/fs/cgroup")
        limit = (group / "memory.max").read_text("ascii").strip()
        if limit != "max":
            limits.append(int(limit) - int((group / "memory.current").read_text("ascii")))
    except (OSError, ValueError):
        pass
    return min(limits, default=None)
