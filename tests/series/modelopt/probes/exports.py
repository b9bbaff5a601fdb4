"""Tiny models quantized through the library, calibrated with text and with an image, and exported."""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import modelopt.torch.quantization as mtq
import tiny
import torch
from modelopt.torch.export import export_hf_checkpoint

# name -> the family, and the configuration of modelopt.torch.quantization
JOBS = {
    "int8_qwen2_5_vl": ("qwen2_5_vl", "INT8_SMOOTHQUANT_CFG"),
    "int8_qwen3_vl": ("qwen3_vl", "INT8_SMOOTHQUANT_CFG"),
    "int8_qwen2": ("qwen2", "INT8_SMOOTHQUANT_CFG"),
    "weight_only": ("qwen2", "INT8_WEIGHT_ONLY_CFG"),
    "fp8": ("qwen2_5_vl", "FP8_DEFAULT_CFG"),
    "fp8_per_channel": ("qwen2", "FP8_PER_CHANNEL_PER_TOKEN_CFG"),
    "nvfp4": ("qwen2", "NVFP4_DEFAULT_CFG"),
}


def calibrate(model: Any, family: str) -> None:
    """Show the model random text, and an image if its family takes one."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(2):
        model(input_ids=torch.randint(0, 256, (2, 24), generator=generator))
    if family.endswith("_vl"):
        model(**tiny.image_inputs(family, [90, 61, 5]))


def export(family: str, name: str, folder: Path) -> None:
    """Quantize with an FP8 KV cache and export, as the library's users do."""
    model = tiny.build(family)
    config = copy.deepcopy(getattr(mtq, name))
    if isinstance(config["quant_cfg"], dict):
        # 0.40.0 does not know of vision towers.
        config["quant_cfg"]["*visual*"] = {"enable": False}
    cache = copy.deepcopy(mtq.FP8_KV_CFG["quant_cfg"])
    config = mtq.utils.update_quant_cfg_with_kv_cache_quant(config, cache)
    mtq.quantize(model, config, lambda quantized: calibrate(quantized, family))
    export_hf_checkpoint(model, export_dir=folder)


def probe(folder: Path, *names: str) -> dict[str, Any]:
    """Export those jobs; answer with their folders."""
    for name in names:
        export(*JOBS[name], folder / name)
    return {name: str(folder / name) for name in names}
