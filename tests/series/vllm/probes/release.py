"""Where a release of vLLM has what the probes ask for; the two modules have the same names."""

# mypy: disable-error-code="import-not-found"

from pathlib import Path

import vllm
import vllm.platforms
from vllm.platforms.cpu import CpuPlatform

# Older releases know no VLLM_TARGET_DEVICE at run time: they go by the version of an installed vLLM.
vllm.platforms._current_platform = CpuPlatform()

if (Path(vllm.__file__).parent / "model_executor/kernels").is_dir():
    from release_0_26 import CONFIGS, MODELOPT, OPERATORS, RANKS, choose, experts, normalized, reason, smoother
else:
    from release_0_10 import CONFIGS, MODELOPT, OPERATORS, RANKS, choose, experts, normalized, reason, smoother

__all__ = ["CONFIGS", "MODELOPT", "OPERATORS", "RANKS", "choose", "experts", "normalized", "reason", "smoother"]
