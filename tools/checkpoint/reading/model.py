"""A checkpoint as it lies in its folder: configurations, tensors, layers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from checkpoint.formats import WEIGHT_TYPES
from checkpoint.reading.header import TensorHeader


@dataclass(frozen=True)
class Quantization:
    """The quantization by one configuration file, `config.json` or `hf_quant_config.json`.

    `algo` is the `quant_algo`, `cache` the KV cache's; `exclude` are patterns of modules, `layers` the `quant_algo` of
    single layers in a mixed checkpoint. config.json alone has `groups` and a `method`.
    """

    file: str
    algo: str | None
    cache: str | None
    exclude: tuple[str, ...]
    layers: dict[str, str | None] = field(default_factory=dict)
    group_size: int | None = None
    groups: dict[str, Any] | None = None
    method: object = None


@dataclass(frozen=True)
class Layer:
    """A module with a weight: its own tensors, by the last part of their names."""

    name: str
    tensors: dict[str, TensorHeader]

    @property
    def weight(self) -> TensorHeader:
        return self.tensors["weight"]

    @property
    def quantized(self) -> bool:
        return "weight_scale" in self.tensors or self.weight.dtype in WEIGHT_TYPES


@dataclass(frozen=True)
class Checkpoint:
    """A folder's tensors by name, its model configuration, and the quantization by each configuration file."""

    folder: Path
    tensors: dict[str, TensorHeader]
    config: dict[str, Any]
    quantizations: tuple[Quantization, ...]

    @property
    def quantization(self) -> Quantization:
        """The quantization by hf_quant_config.json, or by config.json where that is absent."""
        return self.quantizations[0]

    @property
    def text_config(self) -> dict[str, Any]:
        """The language model's configuration: `text_config` of config.json, or all of it where there is none."""
        text = self.config.get("text_config")
        return text if isinstance(text, dict) else self.config

    def layers(self) -> Iterator[Layer]:
        """Yield the modules that have a weight, by name."""
        by_module: dict[str, dict[str, TensorHeader]] = {}
        for name, tensor in self.tensors.items():
            module, _, last = name.rpartition(".")
            by_module.setdefault(module, {})[last] = tensor
        for module in sorted(by_module):
            if "weight" in by_module[module]:
                yield Layer(module, by_module[module])

    def dtype(self) -> str | None:
        """Return the model's element type as safetensors names it, or None where config.json does not name it."""
        for config in (self.config, self.text_config):
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
