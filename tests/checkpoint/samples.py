"""Small checkpoints in ModelOpt's formats, written byte by byte, for the tests to damage."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

N, K = 32, 64
LINEARS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj",
           "mlp.up_proj", "mlp.down_proj")  # fmt: skip

Array = np.ndarray[Any, Any]


@dataclass
class Tensor:
    """A tensor as it is stored: the name of its element type, and raw elements of that size."""

    dtype: str
    data: Array

    @property
    def shape(self) -> list[int]:
        return list(self.data.shape)


def f32(*values: float) -> Tensor:
    """Return a scalar, or a vector of several values."""
    return Tensor("F32", np.array(values[0] if len(values) == 1 else values, np.float32))


def bf16(values: Any) -> Tensor:
    """Return numbers as bfloat16: the upper half of float32's bits."""
    return Tensor("BF16", (np.asarray(values, np.float32).view(np.uint32) >> 16).astype(np.uint16))


def linear(algo: str, rng: np.random.Generator) -> dict[str, Tensor]:
    """Return the tensors of a quantized layer of N rows and K columns."""
    rows = Tensor("F32", (rng.random(N) * 0.01 + 0.001).astype(np.float32))
    scale, second = f32(0.01), f32(0.002)
    smooth = bf16(np.linspace(0.1, 2, K))
    e4m3 = Tensor("F8_E4M3", rng.integers(0, 126, (N, K)).astype(np.uint8))
    int8 = Tensor("I8", rng.integers(-127, 128, (N, K)).astype(np.int8))
    packed = Tensor("U8", rng.integers(0, 256, (N, K // 2)).astype(np.uint8))
    blocks = Tensor("F8_E4M3", rng.integers(1, 126, (N, K // 16)).astype(np.uint8))
    return {
        "W8A8_SQ_PER_CHANNEL": {
            "weight": int8, "weight_scale": rows, "input_scale": scale, "pre_quant_scale": smooth,
        },
        "W8A16": {"weight": int8, "weight_scale": rows},
        "FP8": {"weight": e4m3, "weight_scale": second, "input_scale": scale},
        "FP8_PER_CHANNEL_PER_TOKEN": {"weight": e4m3, "weight_scale": rows},
        "NVFP4": {"weight": packed, "weight_scale": blocks, "weight_scale_2": second, "input_scale": scale},
        "W4A16_NVFP4": {"weight": packed, "weight_scale": blocks, "weight_scale_2": second},
        "NVFP4_AWQ": {
            "weight": packed, "weight_scale": blocks, "weight_scale_2": second, "input_scale": scale,
            "pre_quant_scale": smooth,
        },
        "MXFP8": {"weight": e4m3, "weight_scale": Tensor("U8", np.full((N, K // 32), 120, np.uint8))},
        # The row that test_formats.py adds; 0x3C is 1 in e5m2.
        "INT16_PER_BLOCK": {
            "weight": Tensor("I16", int8.data.astype(np.int16)), "clip": scale,
            "block_scale": Tensor("F8_E5M2", np.full((N, K // 32), 0x3C, np.uint8)),
        },
    }[algo]  # fmt: skip


GROUPS: dict[str, tuple[tuple[str, int], tuple[str, int] | None]] = {
    "W8A8_SQ_PER_CHANNEL": (("int", 8), ("int", 8)),
    "W8A16": (("int", 8), None),
    "FP8": (("float", 8), ("float", 8)),
    "NVFP4": (("float", 4), ("float", 4)),
    "W4A16_NVFP4": (("float", 4), None),
}


@dataclass
class Sample:
    """A checkpoint in memory: change its tensors and configurations, then `write` it."""

    tensors: dict[str, Tensor]
    config: dict[str, Any]
    quant: dict[str, Any]
    files: dict[str, str] = field(default_factory=dict)  # tensor -> file, where it is sharded

    def write(self, folder: Path) -> Path:
        """Write all files, and an index if there are several."""
        folder.mkdir(parents=True, exist_ok=True)
        by_file: dict[str, dict[str, Tensor]] = {}
        for name, tensor in self.tensors.items():
            by_file.setdefault(self.files.get(name, "model.safetensors"), {})[name] = tensor
        for file, tensors in by_file.items():
            (folder / file).write_bytes(safetensors(tensors))
        if len(by_file) > 1:
            weight_map = {name: self.files.get(name, "model.safetensors") for name in self.tensors}
            (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
        (folder / "config.json").write_text(json.dumps(self.config))
        exported = {"producer": {"name": "modelopt", "version": "0.46.0"}, "quantization": self.quant}
        (folder / "hf_quant_config.json").write_text(json.dumps(exported))
        return folder


def safetensors(tensors: Mapping[str, Tensor]) -> bytes:
    """Return a file in the safetensors format."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    for name, tensor in tensors.items():
        size = tensor.data.nbytes
        header[name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [position, position + size]}
        position += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(tensor.data.tobytes() for tensor in tensors.values())


def checkpoint(algo: str = "W8A8_SQ_PER_CHANNEL", *, layers: int = 2, vision: bool = True) -> Sample:
    """Return a good checkpoint: a language model of some layers with an FP8 KV cache, and a vision tower."""
    rng = np.random.default_rng(0)
    tensors = {"model.embed_tokens.weight": bf16(rng.random((40, K))), "model.norm.weight": bf16(np.ones(K))}
    tensors["lm_head.weight"] = bf16(rng.random((40, K)))
    for number in range(layers):
        prefix = f"model.layers.{number}"
        tensors[f"{prefix}.input_layernorm.weight"] = bf16(np.ones(K))
        for name in LINEARS:
            for part, tensor in linear(algo, rng).items():
                tensors[f"{prefix}.{name}.{part}"] = Tensor(tensor.dtype, tensor.data.copy())
        tensors[f"{prefix}.self_attn.k_proj.k_scale"] = f32(0.02)
        tensors[f"{prefix}.self_attn.v_proj.v_scale"] = f32(0.03)
    exclude = ["lm_head", "model.embed_tokens"]
    if vision:
        tensors["visual.patch_embed.proj.weight"] = bf16(rng.random((K, 3, 2, 14, 14)))
        tensors["visual.blocks.0.attn.qkv.weight"] = bf16(rng.random((3 * K, K)))
        exclude.append("visual*")
    quantization: dict[str, Any] = {
        "quant_algo": algo,
        "ignore": exclude,
        "kv_cache_scheme": {"dynamic": False, "num_bits": 8, "type": "float"},
        "quant_method": "modelopt",
    }
    if algo in GROUPS:
        weights, activations = GROUPS[algo]
        group: dict[str, Any] = {"targets": ["Linear"], "weights": {"type": weights[0], "num_bits": weights[1]}}
        if activations:
            group["input_activations"] = {"type": activations[0], "num_bits": activations[1]}
        quantization["config_groups"] = {"group_0": group}
    quant: dict[str, Any] = {"quant_algo": algo, "kv_cache_quant_algo": "FP8", "exclude_modules": list(exclude)}
    if "NVFP4" in algo:
        quant["group_size"] = 16
    config = {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "dtype": "bfloat16",
        "tie_word_embeddings": False,
        "text_config": {"num_hidden_layers": layers},
        "quantization_config": quantization,
    }
    return Sample(tensors, config, quant)
