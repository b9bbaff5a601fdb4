"""A checkpoint's folder: read ModelOpt's, write compressed-tensors'."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from checkpoint.convert.fold import Shape, fold
from checkpoint.convert.tensors import Tensor, read_file, write_file
from toolkit.errors import LocalChanges, SeriesError, UsageError
from toolkit.progress import Reporter

ALGORITHMS = ("W8A8_SQ_PER_CHANNEL", "INT8_SMOOTHQUANT", "INT8_SQ")
# Architectures whose decoder layers are as fold.py takes them: a norm that multiplies by its weight, then q/k/v or
# gate/up, and nothing else that reads it.
MODEL_TYPES = ("qwen2", "qwen2_vl", "qwen2_5_vl", "qwen3", "qwen3_vl", "llama", "mistral")
INDEX = "model.safetensors.index.json"
_WEIGHTS = (".safetensors", ".bin", ".pt")


@dataclass(frozen=True)
class Converted:
    """What `convert` did: layers converted and left alone, and whether logits stay the same to the bit."""

    layers: int
    left: int
    exact: bool

    def as_json(self) -> dict[str, object]:
        return {"layers": self.layers, "left": self.left, "exact": self.exact}


def convert(source: Path, target: Path, reporter: Reporter) -> Converted:
    """Write the checkpoint in `source` as compressed-tensors into `target`, which must not exist.

    Raises:
        UsageError: `source` is no INT8 SmoothQuant checkpoint of ModelOpt, or its architecture is not known.
        SeriesError: a layer's smoothing cannot be folded; all such layers are named.
        LocalChanges: `target` exists.
        IntegrityError: a file is damaged.
    """
    if target.exists():
        raise LocalChanges(f"{target} exists", remedy="name a folder that does not")
    config = _config(source)
    kv = _check(source, config)
    files = sorted(source.glob("*.safetensors"))
    if not files:
        raise UsageError(f"{source} holds no .safetensors file", remedy="name the folder that ModelOpt exported to")
    where = {name: file for file in files for name in read_file(file)}
    tensors = {name: tensor for file in files for name, tensor in read_file(file).items()}
    text = config.get("text_config") or config
    heads = text["num_attention_heads"]
    shape = Shape(
        head_size=text.get("head_dim") or text["hidden_size"] // heads,
        kv_heads=text.get("num_key_value_heads") or heads,
    )
    changed, refused, exact = fold(tensors, shape, kv)
    if refused:
        raise SeriesError(
            f"the smoothing of {len(refused)} layers cannot be folded exactly; nothing was written",
            details=tuple(f"{item.layer}: {item.why}" for item in refused),
            remedy="quantize with smoothing by powers of two that query heads of a group share (`foldable`), leave "
            "these layers unquantized, or serve the checkpoint with the patched vLLM, which needs no folding",
        )
    layers = sorted(name.removesuffix(".weight_scale") for name in tensors if name.endswith(".weight_scale"))
    left = _left(tensors)
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    with reporter.task("convert", len(files), "files") as task:
        for number, file in enumerate(files, 1):
            mine = {name: changed.get(name, tensor) for name, tensor in tensors.items() if where[name] == file}
            write_file(partial / file.name, _renamed(mine))
            task.update(number)
    _write_rest(source, partial, {**config, "quantization_config": quantization_config(left, kv)})
    partial.rename(target)
    return Converted(len(layers), len(left), exact)


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


def _config(source: Path) -> dict[str, Any]:
    file = source / "config.json"
    try:
        found: dict[str, Any] = json.loads(file.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}", remedy="name the folder that ModelOpt exported to") from None
    except ValueError as error:
        raise UsageError(f"{file} is not valid JSON: {error}") from None
    return found


def _check(source: Path, config: Mapping[str, Any]) -> bool:
    """Refuse what is not meant here; return whether the KV cache is quantized."""
    file = source / "hf_quant_config.json"
    said = json.loads(file.read_text("utf-8"))["quantization"] if file.is_file() else None
    said = said or config.get("quantization_config") or {}
    algorithm = str(said.get("quant_algo", "none"))
    if algorithm.upper() not in ALGORITHMS:
        raise UsageError(
            f"{source} is quantized as {algorithm}", remedy=f"only ModelOpt's {ALGORITHMS[0]} can be converted"
        )
    if config.get("model_type") not in MODEL_TYPES:
        raise UsageError(
            f"the architecture {config.get('model_type')} is not known to be foldable",
            remedy=f"known are {', '.join(MODEL_TYPES)}",
        )
    cache = said.get("kv_cache_quant_algo") or said.get("kv_cache_scheme")
    if cache not in (None, "FP8") and not isinstance(cache, dict):
        raise UsageError(f"the KV cache is quantized as {cache}", remedy="only FP8 can be converted")
    return cache is not None


def _left(tensors: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Return the layers that are not quantized: matrices without a scale."""
    names = (name.removesuffix(".weight") for name in tensors if name.endswith(".weight"))
    return tuple(
        sorted(
            name for name in names if f"{name}.weight_scale" not in tensors and len(tensors[f"{name}.weight"].shape) > 1
        )
    )


def _renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors in the shapes that compressed-tensors has, without what was folded away."""
    made = {}
    for name, tensor in tensors.items():
        if name.endswith(".pre_quant_scale"):
            continue
        if name.endswith(".weight_scale"):
            made[name] = tensor.reshaped(tensor.shape[0], 1)
        elif name.endswith(".input_scale"):
            made[name] = tensor.reshaped(1)
        else:
            made[name] = tensor
    return made


def _write_rest(source: Path, target: Path, config: dict[str, Any]) -> None:
    (target / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    for file in sorted(source.iterdir()):
        if file.name in ("config.json", "hf_quant_config.json", INDEX) or file.suffix in _WEIGHTS or not file.is_file():
            continue
        shutil.copy2(file, target / file.name)
    if (source / INDEX).is_file():
        index = json.loads((source / INDEX).read_text("utf-8"))
        kept = {name: file for name, file in index["weight_map"].items() if not name.endswith(".pre_quant_scale")}
        (target / INDEX).write_text(json.dumps({**index, "weight_map": kept}, indent=2) + "\n")
