"""Convert a checkpoint's folder: from ModelOpt's INT8 SmoothQuant to compressed-tensors."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from checkpoint.convert.fold import AttentionShape, fold
from checkpoint.convert.tensors import Tensor, map_tensors, write_file
from checkpoint.formats import by_name
from checkpoint.reading.header import INDEX, read_json
from checkpoint.reading.load import QUANT_CONFIG, load
from checkpoint.reading.model import Checkpoint
from toolkit.errors import IntegrityError, LocalChanges, SeriesError, UsageError
from toolkit.progress import Reporter

ALGORITHMS = (by_name("int8_sq").algo, "INT8_SMOOTHQUANT", "INT8_SQ")
# Architectures whose decoder layers are as fold.py takes them: a norm that multiplies by its weight, then q/k/v or
# gate/up, and nothing else that reads it.
MODEL_TYPES = ("qwen2", "qwen2_vl", "qwen2_5_vl", "qwen3", "qwen3_vl", "llama", "mistral")
_WEIGHTS = (".safetensors", ".bin", ".pt")


@dataclass(frozen=True)
class ConvertResult:
    """The numbers of layers converted and left unquantized, and whether logits stay the same to the bit."""

    layers: int
    left: int
    exact: bool


def convert(source: Path, target: Path, reporter: Reporter) -> ConvertResult:
    """Write the checkpoint in `source` as compressed-tensors into `target`, which must not exist.

    Raises:
        UsageError: `source` is no INT8 SmoothQuant checkpoint of ModelOpt, or its architecture is not known.
        SeriesError: a layer's smoothing cannot be folded; all such layers are named.
        LocalChanges: `target` exists.
        IntegrityError: a file is damaged.
    """
    if target.exists():
        raise LocalChanges(f"{target} exists", remedy="name a folder that does not")
    checkpoint = _load(source)
    kv = _check(checkpoint)
    tensors = map_tensors(checkpoint.tensors.values())
    text = checkpoint.text_config
    heads = text["num_attention_heads"]
    shape = AttentionShape(
        head_size=text.get("head_dim") or text["hidden_size"] // heads,
        kv_heads=text.get("num_key_value_heads") or heads,
    )
    changed, refused, exact = fold(tensors, shape, kv)
    if refused:
        raise SeriesError(
            f"the smoothing of {len(refused)} layers cannot be folded exactly; nothing was written",
            details=tuple(f"{layer}: {why}" for layer, why in refused.items()),
            remedy="quantize with smoothing by powers of two that query heads of a group share (`foldable`), leave "
            "these layers unquantized, or serve the checkpoint with the patched vLLM, which needs no folding",
        )
    layers = sum(name.endswith(".weight_scale") for name in tensors)
    left = tuple(
        layer.name
        for layer in checkpoint.layers()
        if "weight_scale" not in layer.tensors and len(layer.weight.shape) > 1
    )
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    files = sorted({header.file for header in checkpoint.tensors.values()})
    with reporter.task("convert", len(files), "files") as task:
        for number, file in enumerate(files, 1):
            names = [name for name, header in checkpoint.tensors.items() if header.file == file and not _folded(name)]
            write_file(partial / file.name, {name: _reshaped(name, changed.get(name, tensors[name])) for name in names})
            task.update(number)
    _write_rest(source, partial, {**checkpoint.config, "quantization_config": quantization_config(left, kv)})
    partial.rename(target)
    return ConvertResult(layers, len(left), exact)


def quantization_config(left: tuple[str, ...], kv: bool) -> dict[str, Any]:
    """Return compressed-tensors' configuration of W8A8 with static activations.

    (https://github.com/vllm-project/compressed-tensors, `QuantizationConfig`.)
    """
    eight = {"num_bits": 8, "symmetric": True, "dynamic": False}
    return {
        "quant_method": "compressed-tensors",
        "format": "int-quantized",
        "quantization_status": "compressed",
        "config_groups": {
            "group_0": {
                "targets": ["Linear"],
                "weights": {**eight, "type": "int", "strategy": "channel"},
                "input_activations": {**eight, "type": "int", "strategy": "tensor"},
                "output_activations": None,
            }
        },
        "ignore": list(left),
        "kv_cache_scheme": {**eight, "type": "float", "strategy": "tensor"} if kv else None,
    }


def _load(source: Path) -> Checkpoint:
    checkpoint, breaches = load(source)
    if breaches:
        damaged = checkpoint.config and any(source.glob("*.safetensors"))
        raise (IntegrityError if damaged else UsageError)(
            f"{source} is no whole checkpoint",
            details=tuple(f"{breach.where} {breach.text}" for breach in breaches),
            remedy="name the folder that ModelOpt exported to, or export or download it again",
        )
    return checkpoint


def _check(checkpoint: Checkpoint) -> bool:
    """Return whether the KV cache is quantized.

    Raises:
        UsageError: the format, the architecture or the KV cache's format cannot be converted.
    """
    algo, cache = checkpoint.quantization.algo, checkpoint.quantization.cache
    if str(algo).upper() not in ALGORITHMS:
        raise UsageError(
            f"{checkpoint.folder} is quantized as {algo or 'none'}",
            remedy=f"only ModelOpt's {ALGORITHMS[0]} can be converted",
        )
    model_type = checkpoint.config.get("model_type")
    if model_type not in MODEL_TYPES:
        raise UsageError(
            f"the architecture {model_type} is not known to be foldable", remedy=f"known are {', '.join(MODEL_TYPES)}"
        )
    if cache not in (None, "FP8"):
        raise UsageError(f"the KV cache is quantized as {cache}", remedy="only FP8 can be converted")
    return cache is not None


def _folded(name: str) -> bool:
    return name.endswith(".pre_quant_scale")


def _reshaped(name: str, tensor: Tensor) -> Tensor:
    """Return a tensor in compressed-tensors' shape."""
    if name.endswith(".weight_scale"):
        return tensor.reshaped(tensor.shape[0], 1)
    return tensor.reshaped(1) if name.endswith(".input_scale") else tensor


def _write_rest(source: Path, target: Path, config: dict[str, Any]) -> None:
    (target / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    for file in sorted(source.iterdir()):
        if file.name in ("config.json", QUANT_CONFIG, INDEX) or file.suffix in _WEIGHTS or not file.is_file():
            continue
        shutil.copy2(file, target / file.name)
    if (source / INDEX).is_file():
        index = read_json(source / INDEX)
        weight_map = {name: file for name, file in index["weight_map"].items() if not _folded(name)}
        (target / INDEX).write_text(json.dumps({**index, "weight_map": weight_map}, indent=2) + "\n")
