"""What is to be quantized, and how; it travels to the environment that has ModelOpt as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass

# Names of `hf_ptq.py --qformat`, and ModelOpt's configuration of each.
FORMATS = {
    "int8_sq": "INT8_SMOOTHQUANT_CFG",
    "int8_wo": "INT8_WEIGHT_ONLY_CFG",
    "fp8": "FP8_DEFAULT_CFG",
    "fp8_pc_pt": "FP8_PER_CHANNEL_PER_TOKEN_CFG",
    "nvfp4": "NVFP4_DEFAULT_CFG",
}
CACHES = {"fp8": "FP8_KV_CFG", "none": ""}


@dataclass(frozen=True)
class Job:
    """One model to quantize.

    `captions` is a text file with one caption a line, `images` a folder of pictures, which are shown with the
    captions in turn; empty: text only. `length` is the longest sequence in tokens, `seed` that of `hf_ptq.py`.
    """

    model: str
    out: str
    config: str
    cache_config: str
    captions: str
    images: str
    samples: int
    length: int
    batch: int
    device: str
    alpha: float | None
    seed: int = 1234

    def as_json(self) -> dict[str, object]:
        return asdict(self)
