"""Quantize tiny models with ModelOpt and export them as ModelOpt's users do.

Run by an interpreter that has ModelOpt: `quantize.py ANSWER FOLDER JOBS`. JOBS is a JSON list of objects with

    name     the checkpoint's folder under FOLDER
    family   see tiny.py
    config   a configuration of modelopt.torch.quantization, such as INT8_SMOOTHQUANT_CFG
    alpha    SmoothQuant's alpha; absent: ModelOpt's default, 1.0
    kv       "fp8" quantizes the KV cache; absent: it is left alone
    awake    names of layers, with wildcards, that stay unquantized

ANSWER maps each name to the log-probabilities of the token after each prompt, as ModelOpt's fake quantization
computes them: after export has made fused layers share their scales, before it packs the weights.
"""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import modelopt.torch.quantization as mtq
import torch
from modelopt.torch.export import export_hf_checkpoint, unified_export_hf

sys.path.insert(0, str(Path(__file__).parent))
import tiny


@torch.no_grad()
def ask(model: Any, family: str) -> dict[str, list[float]]:
    """Return the log-probabilities of the token after each prompt."""
    prompts = {"text": {"input_ids": torch.tensor([tiny.TEXT])}}
    if family.endswith("_vl"):
        prompts["picture"] = tiny.picture_inputs(family)
    return {name: model(**inputs).logits[0, -1].log_softmax(-1).tolist() for name, inputs in prompts.items()}


def calibrate(model: Any) -> None:
    """Show the model some random text; activations then are within the calibrated range, or a little beyond."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(4):
        model(input_ids=torch.randint(0, 256, (2, 24), generator=generator))


def quantization(job: dict[str, Any]) -> dict[str, Any]:
    """Return the quantization configuration of `job`; the vision tower is left alone, by the last rules."""
    config = copy.deepcopy(getattr(mtq, job["config"]))
    if job.get("kv") == "fp8":
        config = mtq.utils.update_quant_cfg_with_kv_cache_quant(config, mtq.FP8_KV_CFG["quant_cfg"])
    for name in ("*visual*", *job.get("awake", ())):
        config["quant_cfg"].append({"quantizer_name": name, "enable": False})
    if "alpha" in job:
        config["algorithm"] = {"method": "smoothquant", "alpha": job["alpha"]}
    return config


def run(job: dict[str, Any], folder: Path) -> dict[str, list[float]]:
    """Quantize and export one model to `folder`; return its reference."""
    model = tiny.build(job["family"])
    mtq.quantize(model, quantization(job), calibrate)
    answers: dict[str, list[float]] = {}
    share_scales = unified_export_hf.requantize_resmooth_fused_llm_layers

    def then_ask(quantized: Any) -> None:
        share_scales(quantized)
        answers.update(ask(quantized, job["family"]))

    with mock.patch.object(unified_export_hf, "requantize_resmooth_fused_llm_layers", then_ask):
        export_hf_checkpoint(model, export_dir=folder)
    tiny.write_processor(job["family"], folder)
    return answers


def main() -> None:
    """Do all jobs."""
    torch.set_num_threads(1)
    folder = Path(sys.argv[2])
    jobs = json.loads(sys.argv[3])
    Path(sys.argv[1]).write_text(json.dumps({job["name"]: run(job, folder / job["name"]) for job in jobs}))


if __name__ == "__main__":
    main()
