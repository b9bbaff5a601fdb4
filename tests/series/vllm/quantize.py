"""Quantize tiny models with ModelOpt and export them as ModelOpt's users do.

Run by an interpreter that has ModelOpt: `quantize.py ANSWER FOLDER JOBS`. JOBS is a JSON list of objects with

    name          the checkpoint's folder under FOLDER
    family        see tiny.py
    config        a configuration of modelopt.torch.quantization, such as INT8_SMOOTHQUANT_CFG
    alpha         SmoothQuant's alpha; absent: ModelOpt's default, 1.0
    kv            "fp8" quantizes the KV cache; absent: it is left alone
    weights only  name of layers, with wildcards, whose activations stay unquantized
    unquantized   names of layers, with wildcards, that stay unquantized
    ask           false: export only
    level         true: all weights share their largest value, and so do the FP8 scales of a fused layer's shards.
                  vLLM's CPU build cannot requantize those that differ: it has no FP8 quantization of its own

ANSWER maps each name to its prompts, and each of those to its tokens (`prompt`), the log-probabilities of the token
after it and the greedy `tokens`, as ModelOpt's fake quantization computes them: after export has let fused layers
share their scales, before it packs the weights.

A value that lies on the boundary between two steps of a quantizer falls on either side by the last bit of the sum
before it, and then shows in the logits at 1e-2. Weights are therefore put on the grid that export packs them to, and
each prompt is one, of several tried, for which noise of that size changes nothing.
"""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import copy
import functools
import json
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import modelopt.torch.quantization as mtq
import torch
from modelopt.torch.export import export_hf_checkpoint, unified_export_hf
from modelopt.torch.quantization.nn import TensorQuantizer

sys.path.insert(0, str(Path(__file__).parent))
import tiny

GREEDY = 6
NOISE = 3e-6


def inputs_of(model: Any) -> list[Any]:
    """Return the quantizers of activations that are on, those of the KV cache among them."""
    return [
        module
        for name, module in model.named_modules()
        if isinstance(module, TensorQuantizer) and module.is_enabled and not name.endswith("weight_quantizer")
    ]


def put_on_grid(model: Any) -> None:
    """Round weights as export packs them; fake quantization does it with a product in place of a quotient."""
    for module in model.modules():
        quantizer = getattr(module, "weight_quantizer", None)
        if quantizer is None or not quantizer.is_enabled:
            continue
        amax = quantizer.amax.view(-1, 1)
        if quantizer.num_bits == 8:
            module.weight.data = (module.weight / (amax / 127)).round().clamp(-128, 127) * (amax / 127)
        else:
            scale = amax / 448
            module.weight.data = (module.weight / scale).to(torch.float8_e4m3fn).float() * scale


def truncate_kv_cache(model: Any) -> None:
    """Quantize the KV cache as vLLM's CPU kernel does: to FP8 toward zero, where a GPU takes the nearest."""

    def toward_zero(quantizer: TensorQuantizer, value: torch.Tensor) -> torch.Tensor:
        scale = quantizer.amax / 448
        scaled = (value / scale).clamp(-448, 448)
        nearest = scaled.to(torch.float8_e4m3fn)
        beyond = nearest.float().abs() > scaled.abs()
        # Sign and magnitude: one less is the next value toward zero.
        return (nearest.view(torch.uint8) - beyond.to(torch.uint8)).view(torch.float8_e4m3fn).float() * scale

    for name, module in model.named_modules():
        if name.endswith(("k_bmm_quantizer", "v_bmm_quantizer")) and module.is_enabled:
            module.forward = functools.partial(toward_zero, module)


@torch.no_grad()
def first(model: Any, prompt: dict[str, Any]) -> torch.Tensor:
    """Return the log-probabilities of the token after `prompt`."""
    return model(**prompt).logits[0, -1].log_softmax(-1)


def unrest(model: Any, prompt: dict[str, Any], expected: torch.Tensor) -> float:
    """Return how far the log-probabilities move where every quantizer's input has noise of the size of fp32's."""
    generator = torch.Generator().manual_seed(2)

    def disturb(_: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        value = arguments[0]
        return (value * (1 + NOISE * torch.randn(value.shape, generator=generator)), *arguments[1:])

    hooks = [quantizer.register_forward_pre_hook(disturb) for quantizer in inputs_of(model)]
    moved = max((first(model, prompt) - expected).abs().max().item() for _ in range(8))
    for hook in hooks:
        hook.remove()
    return moved


@torch.no_grad()
def greedy(model: Any, prompt: dict[str, Any]) -> tuple[list[int], float]:
    """Return the greedy tokens after `prompt`, and how far the nearest rival of any of them was behind."""
    output = model.generate(
        **prompt, max_new_tokens=GREEDY, do_sample=False, output_scores=True, return_dict_in_generate=True
    )
    gap = min((best[0] - best[1]).item() for best in (score[0].topk(2).values for score in output.scores))
    return output.sequences[0, prompt["input_ids"].shape[1] :].tolist(), gap


def inputs(family: str, name: str, tokens: list[int]) -> dict[str, Any]:
    """Return the model's keyword arguments for a prompt of text or with an image."""
    return tiny.image_inputs(family, tokens) if name == "image" else {"input_ids": torch.tensor([tokens])}


def ask(model: Any, family: str) -> dict[str, Any]:
    """Return the answers to a prompt of text and, of a vision-language model, to one with an image."""
    answers = {}
    for name in tiny.prompts(family):
        generator = torch.Generator().manual_seed(3)
        for _ in range(100):
            prompt_tokens = torch.randint(0, 256, (3,), generator=generator).tolist()
            prompt = inputs(family, name, prompt_tokens)
            expected = first(model, prompt)
            if unrest(model, prompt, expected) > 7.5e-6:
                continue
            tokens, gap = greedy(model, prompt)
            if gap > 0.05:
                answers[name] = {"prompt": prompt_tokens, "logprobs": expected.tolist(), "tokens": tokens}
                break
        else:
            raise SystemExit(f"{family}: no prompt of {name} is clear of the quantizers' boundaries")
    return answers


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
    for name in ("*visual*", *job.get("unquantized", ())):
        config["quant_cfg"].append({"quantizer_name": name, "enable": False})
    if "weights only" in job:
        config["quant_cfg"].append({"quantizer_name": f"{job['weights only']}input_quantizer", "enable": False})
    if "alpha" in job:
        config["algorithm"] = {"method": "smoothquant", "alpha": job["alpha"]}
    return config


def run(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Quantize and export one model to `folder`; return its reference."""
    model = tiny.build(job["family"])
    if job.get("level"):
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):
                module.weight.data.clamp_(-0.2, 0.2)[0, 0] = 0.2
    mtq.quantize(model, quantization(job), calibrate)
    answers: dict[str, Any] = {}
    share_scales = unified_export_hf.requantize_resmooth_fused_llm_layers

    def then_ask(quantized: Any) -> None:
        share_scales(quantized)
        put_on_grid(quantized)
        truncate_kv_cache(quantized)
        if job.get("ask", True):
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
