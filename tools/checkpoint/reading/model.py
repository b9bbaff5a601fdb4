"""A checkpoint as it lies in its folder: configurations, tensors, layers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from checkpoint.reading.header import Stored


@dataclass(frozen=True)
class Quantization:
    """What a configuration file says of the quantization, in words that both files share."""

    file: str
    algo: str | None
    cache: str | None
    exclude: tuple[str, ...]
    groups: dict[str, Any] | None = None
    layers: dict[str, Any] = field(default_factory=dict)
    group_size: int | None = None


@dataclass(frozen=True)
class Layer:
    """A module with a weight: the tensors that stand directly under its name, by their last part."""

    name: str
    tensors: dict[str, Stored]

    @property
    def weight(self) -> Stored:
        return self.tensors["weight"]

    @property
    def quantized(self) -> bool:
        return "weight_scale" in self.tensors or self.weight.dtype in ("I8", "U8", "F8_E4M3")


@dataclass(frozen=True)
class Checkpoint:
    """A folder's tensors by name, its model configuration, and what its files say of the quantization."""

    folder: Path
    tensors: dict[str, Stored]
    config: dict[str, Any]
    said: tuple[Quantization, ...]

    @property
    def quantization(self) -> Quantization:
        """What hf_quant_config.json says, or config.json where there is none."""
        return self.said[0]

    def layers(self) -> Iterator[Layer]:
        """Yield the modules that have a weight, by name."""
        by_module: dict[str, dict[str, Stored]] = {}
        for name, tensor in self.tensors.items():
            module, _, last = name.rpartition(".")
            by_module.setdefault(module, {})[last] = tensor
        for module in sorted(by_module):
            if "weight" in by_module[module]:
                yield Layer(module, by_module[module])

    def dtype(self) -> str | None:
        """Return the model's element type as safetensors names it, if config.json tells it."""
        text = self.config.get("text_config")
        for config in (self.config, text if isinstance(text, dict) else {}):
            named = config.get("dtype") or config.get("torch_dtype")
            if isinstance(named, str):
                return {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}.get(named)
        return None

    def excluded(self, module: str) -> str | None:
        """Return the pattern that leaves a module out of the quantization, or None."""
        # transformers 5 dropped, and vLLM maps, the prefix that older exports have.
        names = {module, f"model.{module}", module.removeprefix("model.")}
        for pattern in self.quantization.exclude:
            if any(fnmatchcase(name, pattern) or name.startswith(f"{pattern}.") for name in names):
                return pattern
        return None
