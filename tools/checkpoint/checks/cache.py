"""The KV cache's scales, tensors without a layer, and absent layers."""

from __future__ import annotations

import re
from collections.abc import Iterator

from checkpoint.breach import Breach, several
from checkpoint.checks.layers import check_scale
from checkpoint.formats import CACHE_SCALES, SCALES, VISION
from checkpoint.reading.model import Checkpoint, Layer

# Fake quantization's own tensors, which an export removes.
_LEFT_BEHIND = re.compile(r"(^|\.)(\w+_quantizers?)(\.|$)|\._amax$|\._pre_quant_scale$")
_NUMBERED = re.compile(r"^(?:model\.)?(?:language_model\.)?(?:model\.)?layers\.(\d+)\.")
# Attention whose q, k and v are one matrix.
_WHOLE = ("qkv_proj", "qkv", "query_key_value", "c_attn", "Wqkv")


def check_phantoms(checkpoint: Checkpoint, layers: dict[str, Layer]) -> Iterator[Breach]:
    """Yield the scales that belong to no layer of the checkpoint."""
    for name in checkpoint.tensors:
        module, _, last = name.rpartition(".")
        if _LEFT_BEHIND.search(name):
            yield Breach("phantom", name, "is a quantizer's own state, which an export has to leave out")
        elif last in SCALES and module not in layers:
            yield Breach("phantom", name, f"is a scale, but there is no {module}.weight")
        elif last in CACHE_SCALES:
            if is_vision(name):
                yield Breach("phantom", name, "is a KV cache's scale; the vision tower has no KV cache")
            elif module not in layers and not _is_whole(module, layers):
                yield Breach("phantom", name, f"is a KV cache's scale, but there is no {module}.weight")


def is_vision(name: str) -> bool:
    """Return whether a module is part of the vision tower."""
    return any(part in VISION for part in name.split("."))


def _is_whole(module: str, layers: dict[str, Layer]) -> bool:
    block = module.rpartition(".")[0]
    return any(f"{block}.{name}" in layers for name in _WHOLE)


def check_cache(checkpoint: Checkpoint, layers: dict[str, Layer]) -> Iterator[Breach]:
    """Yield the differences of the KV cache's scales from those that the configuration announces."""
    algo = checkpoint.quantization.cache
    scales = [name for name in checkpoint.tensors if name.rpartition(".")[2] in CACHE_SCALES and not is_vision(name)]
    if algo is None:
        if scales:
            yield Breach("cache", several(scales), "exist, but by the configuration the cache is not quantized")
        return
    wanted = [
        f"{layer}.{scale}"
        for layer in layers
        for scale, part in CACHE_SCALES.items()
        if layer.rpartition(".")[2] == part and not is_vision(layer)
    ]
    # Hybrid models have layers without a cache, and some exports rely on a scale of one: all or none.
    absent = sorted(set(wanted) - set(scales))
    if scales and absent:
        yield Breach("cache", several(absent), f"absent, where {len(scales)} other scales of the {algo} cache exist")
    elif wanted and not scales:
        yield Breach("cache", "k_scale, v_scale", f"absent in every layer, although the cache is {algo}")
    for name in scales:
        tensor = checkpoint.tensors[name]
        if tensor.dtype != "F32" or tensor.shape not in ((), (1,)):
            yield Breach("dtype", name, f"is {tensor.description}, where F32 [] is expected")
        else:
            yield from check_scale(tensor)


def check_whole(checkpoint: Checkpoint) -> Iterator[Breach]:
    """Yield the language model's absent layers, as config.json counts them, and an absent head."""
    config = checkpoint.text_config
    count = config.get("num_hidden_layers")
    numbers = {int(match[1]) for name in checkpoint.tensors if (match := _NUMBERED.match(name))}
    if isinstance(count, int) and numbers:
        absent = sorted(set(range(count)) - numbers)
        if absent:
            yield Breach(
                "layers", several([*map(str, absent)]), f"of {count} layers that config.json counts have no tensor"
            )
    tied = checkpoint.config.get("tie_word_embeddings", config.get("tie_word_embeddings"))
    heads = [name for name in checkpoint.tensors if name.endswith("lm_head.weight")]
    if tied is False and numbers and not heads:
        yield Breach("layers", "lm_head.weight", "is absent, although the embeddings are not tied")
