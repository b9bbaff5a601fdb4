"""A model to quantize, and how; it travels as JSON to the environment that has ModelOpt."""

from __future__ import annotations

from dataclasses import dataclass

# KV cache formats by their `hf_ptq.py --kv_cache_qformat` names, and ModelOpt's configuration of each.
CACHES = {"fp8": "FP8_KV_CFG", "none": ""}


@dataclass(frozen=True)
class QuantizeJob:
    """One model to quantize, as the options of `checkpoint quantize` have it.

    `config` and `cache_config` are ModelOpt's configuration constants. `captions` is a text file with one caption a
    line, `images` a folder of images, each of which gets the next caption. `length` is the longest sequence in tokens,
    `seed` that of `hf_ptq.py`.
    """

    model: str
    out: str
    config: str
    cache_config: str
    captions: str
    samples: int
    length: int
    batch: int
    device: str
    images: str | None = None
    alpha: float | None = None
    seed: int = 1234
