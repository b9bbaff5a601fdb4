"""Which TORCH_CUDA_ARCH_LIST an extension is built with: torch's own parser, and an nvcc that knows two of them."""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from modelopt.torch.utils import cpp_extension

# case -> the inherited list and the capabilities of the devices present
CASES: dict[str, tuple[str | None, list[tuple[int, int]]]] = {
    "unset": (None, [(12, 0)]),
    "empty": ("", [(12, 0)]),
    "cuda 12.8": ("10.1;12.0", [(12, 0)]),
    "other device": ("12.0", [(9, 0)]),
    "spaces": ("9.0 12.0+PTX", [(12, 0)]),
    "junk": ("junk;9.0", [(9, 0)]),
    "nvcc": ("7.0;9.0", [(9, 0)]),
    "two devices": ("9.0", [(9, 0), (12, 0)]),
    "two alike": (None, [(9, 0), (9, 0)]),
    "device unknown to nvcc": ("9.0", [(8, 9)]),
}
# As nvcc 13.0 writes it; that release knows sm_90 and sm_120.
NVCC = """#!/bin/sh
case "$*" in
  *compute_90*|*compute_120*) exit 0 ;;
esac
echo "nvcc fatal   : Unsupported gpu architecture" >&2
exit 1
"""


def build(inherited: str | None, devices: list[tuple[int, int]], works: bool) -> dict[str, Any]:
    """Load an extension with torch's compiler call replaced: there is no device here to compile for."""
    seen: list[str | None] = []

    def load(name: str, sources: list[Any], **_: Any) -> str | None:
        seen.append(os.environ.get("TORCH_CUDA_ARCH_LIST"))
        # What torch makes of the list, before it calls nvcc.
        torch.utils.cpp_extension._get_cuda_arch_flags()
        if not works:
            raise RuntimeError("Error building extension")
        return "built"

    os.environ.pop("TORCH_CUDA_ARCH_LIST", None)
    if inherited is not None:
        os.environ["TORCH_CUDA_ARCH_LIST"] = inherited
    with (
        mock.patch.object(cpp_extension, "load", load),
        mock.patch.object(torch.version, "cuda", "13.0"),
        mock.patch.object(torch.cuda, "is_available", return_value=True),
        mock.patch.object(torch.cuda, "device_count", return_value=len(devices)),
        mock.patch.object(torch.cuda, "get_device_capability", lambda index=0: devices[index]),
        warnings.catch_warnings(record=True) as caught,
    ):
        warnings.simplefilter("always")
        extension = cpp_extension.load_cpp_extension("a", ["a.cu"], ">=11.8")
    after = os.environ.pop("TORCH_CUDA_ARCH_LIST", None)
    return {"extension": extension, "seen": seen, "after": after, "warned": [str(item.message) for item in caught]}


def probe(folder: Path) -> dict[str, Any]:
    """Ask in every case, once with a build that works and once with one that fails."""
    (folder / "bin").mkdir()
    (folder / "bin/nvcc").write_text(NVCC)
    (folder / "bin/nvcc").chmod(0o755)
    with mock.patch.object(torch.utils.cpp_extension, "CUDA_HOME", str(folder)):
        built = {name: build(*case, works=True) for name, case in CASES.items()}
        failed = {name: build(*CASES[name], works=False) for name in ("cuda 12.8", "device unknown to nvcc")}
    return {"built": built, "failed": failed}
