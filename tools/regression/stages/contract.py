"""What an exported checkpoint has to be before anybody loads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy

from regression.convert.tensors import Tensor, read_file
from regression.figures.verdict import Check, holds
from regression.model.scenario import Scenario

ALGORITHMS = {"int8_sq": "W8A8_SQ_PER_CHANNEL", "fp8": "FP8"}
WEIGHTS = {"int8_sq": "I8", "fp8": "F8_E4M3"}
LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
SCALES = ("weight_scale", "input_scale", "pre_quant_scale", "k_scale", "v_scale")


def export_contract(folder: Path, scenario: Scenario) -> tuple[dict[str, Any], list[Check]]:
    """Return what the checkpoint says of itself, and the checks of it."""
    said = json.loads((folder / "hf_quant_config.json").read_text())["quantization"]
    tensors: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= read_file(file)
    scales = {name: tensor for name, tensor in tensors.items() if name.rpartition(".")[2] in SCALES}
    vision = sorted(name for name in scales if ".visual." in f".{name}")
    bad = sorted(name for name, tensor in scales.items() if not _positive(tensor))
    linears = sorted(
        name.removesuffix(".weight")
        for name in tensors
        if name.endswith(tuple(f".{kind}.weight" for kind in LINEARS)) and ".visual." not in f".{name}"
    )
    wrong = [name for name in linears if tensors[f"{name}.weight"].dtype != WEIGHTS[scenario.format]]
    needed = ["weight_scale", "input_scale", *(["pre_quant_scale"] if scenario.format == "int8_sq" else [])]
    missing = [f"{name}.{scale}" for name in linears for scale in needed if f"{name}.{scale}" not in scales]
    cached = [name for name in scales if name.endswith((".k_scale", ".v_scale"))]
    kv = "FP8" if scenario.kv == "fp8" else None
    wanted = (ALGORITHMS[scenario.format], kv)
    found = (said.get("quant_algo"), said.get("kv_cache_quant_algo"))
    contract = {
        "quant_algo": found[0],
        "kv_cache_quant_algo": found[1],
        "excluded": said.get("exclude_modules", []),
        "quantized layers": len(linears) - len(wrong),
        "scales": len(scales),
        "bytes": sum(len(tensor.data) for tensor in tensors.values()),
    }
    checks = [
        holds("export: algorithm", found == wanted, f"{found[0]}, KV cache {found[1]}", f"{wanted[0]}, {wanted[1]}"),
        holds("export: every decoder layer", bool(linears) and not wrong, _some(wrong), "none left out"),
        holds("export: no scale missing", not missing, _some(missing), "none missing"),
        holds("export: scales finite, above 0", not bad, _some(bad), "none else"),
        holds("export: the vision tower is left alone", not vision, _some(vision), "no scale in it"),
        holds("export: KV scales", bool(cached) == (kv is not None), f"{len(cached)}", "some" if kv else "0"),
    ]
    return contract, checks


def _positive(tensor: Tensor) -> bool:
    values = tensor.values()
    return bool((numpy.isfinite(values) & (values > 0)).all())


def _some(names: list[str]) -> str:
    if not names:
        return "none"
    return f"{len(names)}: {', '.join(names[:3])}" + (", ..." if len(names) > 3 else "")
