"""The CUDA extensions compile for an RTX 5090; needs CUDA's compiler, and no GPU."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ..conftest import Trees

pytestmark = pytest.mark.slow

EXTENSIONS = ("tensor_quant_gpu", "tensor_quant_gpu_fp8", "tensor_quant_mx")
_ASK = "import sysconfig, torch; print(torch.__path__[0]); print(sysconfig.get_paths()['include'])"


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_an_extension_has_machine_code_for_sm_120(
    trees: Callable[[str], Trees], tmp_path: Path, extension: str
) -> None:
    python = os.environ.get("PATCHSET_SERIES_PYTHON")
    if python is None:
        pytest.skip("PATCHSET_SERIES_PYTHON names no interpreter with torch's headers")
    if shutil.which("nvcc") is None:
        pytest.skip("there is no nvcc on this machine")
    if "compute_120" not in subprocess.check_output(["nvcc", "--list-gpu-arch"], text=True):
        pytest.skip("this nvcc is older than sm_120")
    torch, headers = subprocess.check_output([python, "-c", _ASK], text=True).split()
    # Torch's CPU build lacks this one, which says how the build was configured.
    macros = tmp_path / "c10/cuda/impl/cuda_cmake_macros.h"
    macros.parent.mkdir(parents=True)
    macros.touch()
    includes = [
        f"-I{path}" for path in (tmp_path, f"{torch}/include", f"{torch}/include/torch/csrc/api/include", headers)
    ]
    (source,) = trees("modelopt@0.46.0").patched.rglob(f"{extension}.cu")
    cubin = tmp_path / "out.cubin"
    options = ["-gencode=arch=compute_120,code=sm_120", "-std=c++20", "--expt-relaxed-constexpr", "-w"]
    subprocess.run(
        ["nvcc", "-cubin", *options, "-DTORCH_EXTENSION_NAME=x", *includes, str(source), "-o", str(cubin)], check=True
    )
    code = cubin.read_bytes()
    machine, flags = struct.unpack_from("<H", code, 18)[0], struct.unpack_from("<I", code, 48)[0]
    assert machine == 190  # EM_CUDA
    assert (flags >> 8) & 0xFF == 120  # where CUDA 13 has the architecture
    assert code.count(b".text.") > 0
