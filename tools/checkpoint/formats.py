"""The checkpoint formats: ModelOpt's name of each, how to make it, and a quantized layer's tensors.

A new format is one row of `FORMATS`; `checkpoint quantize --format`, the checks and the help derive from it. The names
are those of `modelopt.torch.export` (quant_utils.py), the tensors those that its `export_hf_checkpoint` writes,
releases 0.40.0 and 0.46.0.
"""

from __future__ import annotations

from dataclasses import dataclass

# Shapes of a tensor beside a weight of shape [N, K].
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
    """A checkpoint format.

    `algo` is ModelOpt's `quant_algo`. `name` is the format's name for `hf_ptq.py --qformat` and `checkpoint quantize
    --format`, `config` ModelOpt's configuration constant; both are None where `checkpoint quantize` cannot make it.
    `weight` is the element type of a quantized weight, of which `packed` values share one element; `parts` are the
    tensors beside it. Layers with the same input (q/k/v, gate/up) must agree in the `shared` tensors, because a server
    fuses them. `group` is config.json's config group: type and bits of the weights, and of the activations if those are
    quantized. `group_size` counts the columns that share a block's scale. `smoothquant` formats have an alpha.
    """

    algo: str
    name: str | None
    config: str | None
    title: str
    weight: str
    parts: dict[str, Part]
    packed: int = 1
    shared: tuple[str, ...] = ()
    group: tuple[tuple[str, int], tuple[str, int] | None] | None = None
    group_required: bool = False
    group_size: int = 16
    smoothquant: bool = False


_SCALAR = Part(("F32",), SCALAR)
_ROWS = Part(("F32",), PER_ROW)
_SMOOTHING = Part((), PER_COLUMN)
_NVFP4 = {"weight_scale": Part(("F8_E4M3",), PER_BLOCK), "weight_scale_2": _SCALAR}

FORMATS: tuple[Format, ...] = (
    Format(
        "W8A8_SQ_PER_CHANNEL", "int8_sq", "INT8_SMOOTHQUANT_CFG", "INT8 SmoothQuant",
        "I8", {"weight_scale": _ROWS, "input_scale": _SCALAR, "pre_quant_scale": _SMOOTHING},
        shared=("input_scale", "pre_quant_scale"), group=(("int", 8), ("int", 8)), group_required=True,
        smoothquant=True,
    ),
    Format(
        "W8A16", "int8_wo", "INT8_WEIGHT_ONLY_CFG", "INT8, weights only",
        "I8", {"weight_scale": _ROWS}, group=(("int", 8), None), group_required=True,
    ),
    Format(
        "FP8", "fp8", "FP8_DEFAULT_CFG", "FP8, one scale per tensor",
        "F8_E4M3", {"weight_scale": _SCALAR, "input_scale": _SCALAR},
        shared=("input_scale",), group=(("float", 8), ("float", 8)),
    ),
    Format(
        "FP8_PER_CHANNEL_PER_TOKEN", "fp8_pc_pt", "FP8_PER_CHANNEL_PER_TOKEN_CFG", "FP8, scales per channel and token",
        "F8_E4M3", {"weight_scale": _ROWS}, group=(("float", 8), ("float", 8)),
    ),
    Format(
        "NVFP4", "nvfp4", "NVFP4_DEFAULT_CFG", "NVFP4",
        "U8", {**_NVFP4, "input_scale": _SCALAR},
        packed=2, shared=("input_scale", "weight_scale_2"), group=(("float", 4), ("float", 4)),
    ),
    Format(
        "W4A16_NVFP4", None, None, "NVFP4, weights only",
        "U8", _NVFP4, packed=2, shared=("weight_scale_2",), group=(("float", 4), None),
    ),
    Format(
        "NVFP4_AWQ", None, None, "NVFP4 with AWQ",
        "U8", {**_NVFP4, "input_scale": _SCALAR, "pre_quant_scale": _SMOOTHING},
        packed=2, shared=("input_scale", "weight_scale_2", "pre_quant_scale"),
    ),
)  # fmt: skip

QUANTIZE_NAMES = tuple(row.name for row in FORMATS if row.name)

# The quant_algo of a checkpoint whose layers name a format each.
MIXED = "MIXED_PRECISION"
# ModelOpt's other formats; a layer's tensors are not checked against them.
KNOWN = frozenset(
    {"W4A16_AWQ", "W4A8_AWQ", "W4A8_NVFP4_FP8", "W4A8_MXFP4_FP8", "MXFP8", "NVFP4_SVD", "FP8_PB_WO", MIXED}
)

# Element types of quantized weights, and the tensors beside them; without a weight these are phantoms.
WEIGHT_TYPES = frozenset(row.weight for row in FORMATS)
SCALES = tuple(dict.fromkeys(part for row in FORMATS for part in row.parts))
CACHE_SCALES = {"k_scale": "k_proj", "v_scale": "v_proj"}
# Layers that read the same input, and that servers fuse.
FUSED = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
VISION = ("visual", "vision_tower", "vision_model", "embed_vision")


def by_name(name: str) -> Format:
    """Return the format that `checkpoint quantize --format` calls `name`.

    Raises:
        KeyError: no row of the table has that name.
    """
    return {row.name: row for row in FORMATS if row.name}[name]


def by_algo(algo: str | None) -> Format | None:
    """Return the format of a `quant_algo`, or None where the table has no row for it."""
    return next((row for row in FORMATS if row.algo == algo), None)
