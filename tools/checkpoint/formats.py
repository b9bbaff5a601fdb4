"""ModelOpt's tensor formats: what a quantized linear layer has in each.

The names are those of `modelopt.torch.export` (quant_utils.py); the tensors are what its
`export_hf_checkpoint` writes, releases 0.40.0 and 0.46.0.
"""

from __future__ import annotations

from dataclasses import dataclass, field

SCALAR = "scalar"
PER_ROW = "[N]"
PER_COLUMN = "[K]"
PER_BLOCK = "[N, K/group]"

FLOATING = ("F32", "F16", "BF16")


@dataclass(frozen=True)
class Part:
    """One tensor beside a weight: its possible element types (empty: the model's) and its shape."""

    dtypes: tuple[str, ...]
    shape: str


@dataclass(frozen=True)
class Format:
    """What a layer of a `quant_algo` has.

    `packed` values share a byte of the weight. `shared` are the tensors that layers with the same input (q/k/v,
    gate/up) have to agree in, because a server fuses them. `group` is what config.json's config group has to say:
    type and bits of the weights, and of the activations if those are quantized.
    """

    weight: str
    parts: dict[str, Part]
    packed: int = 1
    shared: tuple[str, ...] = ()
    group: tuple[tuple[str, int], tuple[str, int] | None] | None = None
    group_required: bool = False
    group_size: int = field(default=16)


_SCALAR = Part(("F32",), SCALAR)
_NVFP4 = {"weight_scale": Part(("F8_E4M3",), PER_BLOCK), "weight_scale_2": _SCALAR}

FORMATS: dict[str, Format] = {
    "W8A8_SQ_PER_CHANNEL": Format(
        "I8",
        {"weight_scale": Part(("F32",), PER_ROW), "input_scale": _SCALAR, "pre_quant_scale": Part((), PER_COLUMN)},
        shared=("input_scale", "pre_quant_scale"),
        group=(("int", 8), ("int", 8)),
        group_required=True,
    ),
    "W8A16": Format(
        "I8", {"weight_scale": Part(("F32",), PER_ROW)}, group=(("int", 8), None), group_required=True
    ),
    "FP8": Format(
        "F8_E4M3",
        {"weight_scale": _SCALAR, "input_scale": _SCALAR},
        shared=("input_scale",),
        group=(("float", 8), ("float", 8)),
    ),
    "FP8_PER_CHANNEL_PER_TOKEN": Format(
        "F8_E4M3", {"weight_scale": Part(("F32",), PER_ROW)}, group=(("float", 8), ("float", 8))
    ),
    "NVFP4": Format(
        "U8",
        {**_NVFP4, "input_scale": _SCALAR},
        packed=2,
        shared=("input_scale", "weight_scale_2"),
        group=(("float", 4), ("float", 4)),
    ),
    "W4A16_NVFP4": Format("U8", _NVFP4, packed=2, shared=("weight_scale_2",), group=(("float", 4), None)),
    "NVFP4_AWQ": Format(
        "U8",
        {**_NVFP4, "input_scale": _SCALAR, "pre_quant_scale": Part((), PER_COLUMN)},
        packed=2,
        shared=("input_scale", "weight_scale_2", "pre_quant_scale"),
    ),
}  # fmt: skip

# Formats that are ModelOpt's too, and whose layers are not looked into.
KNOWN = frozenset(
    {"W4A16_AWQ", "W4A8_AWQ", "W4A8_NVFP4_FP8", "W4A8_MXFP4_FP8", "MXFP8", "NVFP4_SVD", "FP8_PB_WO", "MIXED_PRECISION"}
)

# What may stand beside a weight; anywhere else it is a tensor without a layer.
SCALES = ("weight_scale", "weight_scale_2", "input_scale", "pre_quant_scale")
CACHE_SCALES = {"k_scale": "k_proj", "v_scale": "v_proj"}
# Layers that read the same input, and that servers fuse.
FUSED = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
VISION = ("visual", "vision_tower", "vision_model", "embed_vision")
