"""What is loaded: checkpoints of ModelOpt's as they are, rewritten, and spoiled, and vLLM's errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SMOOTHED = "modelopt-int8-smoothquant"
WEIGHTS = "modelopt-int8-weight-only"
# Releases without it know no mixed precision.
MIXED = "modelopt-mixed-unknown-algo"


@dataclass(frozen=True)
class Load:
    """A checkpoint of conftest.py's, and how it differs."""

    checkpoint: str
    patches: tuple[str, ...] = (SMOOTHED,)
    """The patches without which it does not load, or is not refused with this message."""
    declared_in: str = "config.json"
    """The file that declares how it is quantized, or `both`."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """What stands there in place of a name of a quantization."""
    changes: Mapping[str, float | None] = field(default_factory=dict)
    """Endings of tensors' names, and what each is multiplied by; None: it is left out."""
    says: tuple[str, ...] = ()
    """Parts of the error; none: it loads."""
    served: bool = False
    """The error is looked for in what the engine says, too."""

    def job(self) -> dict[str, Any]:
        """Return the job for probes/loading.py."""
        return {"declared_in": self.declared_in, "renamed": dict(self.renamed), "changes": dict(self.changes)}


def _spoiled(ending: str, factor: float | None, *says: str, served: bool = False) -> Load:
    return Load("qwen2", changes={ending: factor}, says=says, served=served)


GOOD = {
    "config.json": Load("qwen2"),
    "hf_quant_config.json": Load("qwen2", declared_in="hf_quant_config.json"),
    "INT8_SMOOTHQUANT": Load("qwen2", renamed={"W8A8_SQ_PER_CHANNEL": "INT8_SMOOTHQUANT"}),
    "int8_sq": Load("qwen2", declared_in="hf_quant_config.json", renamed={"W8A8_SQ_PER_CHANNEL": "int8_sq"}),
    "weights": Load("qwen3, weights", (WEIGHTS,)),
    "weights, hf_quant_config.json": Load("qwen3, weights", (WEIGHTS,), "hf_quant_config.json"),
    "mixed": Load("qwen3, mixed", (SMOOTHED, WEIGHTS, MIXED), "both"),
}
BAD = {
    "no input_scale of k": _spoiled(
        "layers.1.self_attn.k_proj.input_scale",
        None,
        "qkv_proj: no valid input_scale in the checkpoint for shard(s) [1]",
        served=True,
    ),
    "no input_scale of down": _spoiled(
        "layers.1.mlp.down_proj.input_scale", None, "down_proj: no valid input_scale in"
    ),
    "no pre_quant_scale of up": _spoiled(
        "layers.1.mlp.up_proj.pre_quant_scale", None, "gate_up_proj: no valid pre_quant_scale"
    ),
    "no weight_scale of v": _spoiled("layers.0.self_attn.v_proj.weight_scale", None, "qkv_proj: no valid weight_scale"),
    "no weight of v": _spoiled(
        "layers.0.self_attn.v_proj.weight", None, "qkv_proj: no valid weight in the checkpoint for"
    ),
    "input_scale of o is 0": _spoiled("layers.0.self_attn.o_proj.input_scale", 0.0, "o_proj: no valid input_scale"),
    "input_scale of up differs": _spoiled(
        "layers.1.mlp.up_proj.input_scale", 1.5, "gate_up_proj: the input_scale of its shards differ"
    ),
    "pre_quant_scale of q differs": _spoiled(
        "layers.1.self_attn.q_proj.pre_quant_scale", 1.5, "qkv_proj: the pre_quant_scale of its shards differ"
    ),
    "experts": Load("qwen3-moe", says=(".mlp.experts: ModelOpt W8A8_SQ_PER_CHANNEL", "exclude_modules"), served=True),
    "not smoothed": Load(
        "qwen3, not smoothed", says=("qkv_proj: no valid pre_quant_scale", "use INT8_SMOOTHQUANT_CFG")
    ),
    "no weight_scale of k, weights": Load(
        "qwen3, weights",
        (WEIGHTS,),
        changes={"layers.0.self_attn.k_proj.weight_scale": None},
        says=("qkv_proj: no valid weight_scale",),
    ),
    "mixed, unknown": Load(
        "qwen3, mixed",
        (SMOOTHED, WEIGHTS, MIXED),
        "both",
        renamed={"W8A16": "W4A8_AWQ"},
        says=("mlp.gate_up_proj: ModelOpt W4A8_AWQ is not supported as part of MIXED_PRECISION",),
        served=True,
    ),
}
LOADED = {**GOOD, **BAD}
