"""The objects of this release of vLLM that the probes use, under the same names in two modules.

v0.10.1's has no `smoother`: the series there has no kernel that applies the scale itself, and no probe uses it.
"""

# mypy: disable-error-code="import-not-found"

from importlib import import_module
from pathlib import Path

import vllm
import vllm.platforms
from vllm.platforms.cpu import CpuPlatform

# Older releases know no VLLM_TARGET_DEVICE at run time: they go by the version of an installed vLLM.
vllm.platforms._current_platform = CpuPlatform()

_NEW = (Path(vllm.__file__).parent / "model_executor/kernels").is_dir()
release = import_module("release_0_26" if _NEW else "release_0_10")
