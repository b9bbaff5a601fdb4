"""Read a checkpoint's folder: files, index, and the two configurations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from checkpoint.breach import Breach, several
from checkpoint.reading.header import INDEX, FileFormatError, TensorHeader, read_header, read_json
from checkpoint.reading.model import Checkpoint, Quantization
from toolkit.errors import UsageError

QUANT_CONFIG = "hf_quant_config.json"
_REMEDY = "name the folder that ModelOpt exported to, with config.json and *.safetensors in it"


def load(folder: Path) -> tuple[Checkpoint, list[Breach]]:
    """Read a checkpoint's headers and configurations; return it, and the breaches of the files themselves.

    Raises:
        UsageError: `folder` is no folder, or no file in it names a quantization.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder", remedy=_REMEDY)
    breaches: list[Breach] = []
    config = _read(folder / "config.json", breaches)
    exported = _read(folder / QUANT_CONFIG, breaches)
    quantizations = []
    for file, values, key in ((QUANT_CONFIG, exported, "quantization"), ("config.json", config, "quantization_config")):
        if value := _table(values, key, file, breaches):
            quantizations.append(_quantization(value, file, breaches))
    if not quantizations and not breaches:
        raise UsageError(f"{folder} holds no quantized checkpoint: {QUANT_CONFIG} is absent", remedy=_REMEDY)
    quantizations = quantizations or [Quantization("", None, None, ())]
    return Checkpoint(folder, _tensors(folder, breaches), config, tuple(quantizations)), breaches


def _read(file: Path, breaches: list[Breach]) -> dict[str, Any]:
    if not file.exists():
        if file.name == "config.json":
            breaches.append(Breach("file", file.name, "is absent"))
        return {}
    try:
        return read_json(file)
    except FileFormatError as error:
        breaches.append(Breach("file", file.name, str(error)))
        return {}


def _table(values: dict[str, Any], key: str, file: str, breaches: list[Breach]) -> dict[str, Any]:
    """Return the JSON object of a key, empty where there is none; a value of another type is a breach."""
    value = values.get(key) or {}
    if isinstance(value, dict):
        return value
    breaches.append(Breach("config", f"{file} {key}", "is no JSON object"))
    return {}


def _quantization(value: dict[str, Any], file: str, breaches: list[Breach]) -> Quantization:
    """Return the quantization of either file; they call the KV cache and the excluded modules by other names."""
    cache = value.get("kv_cache_quant_algo") or value.get("kv_cache_scheme")
    if isinstance(cache, dict):
        # ModelOpt writes FP8 as a scheme, and any other format by its name.
        kind, bits = cache.get("type"), cache.get("num_bits")
        cache = "FP8" if (kind, bits) == ("float", 8) else f"{kind}{bits}"
    size = value.get("group_size")
    if size is not None and (type(size) is not int or size < 1):
        breaches.append(Breach("config", f"{file} group_size", f"is {size!r}, not a whole number above 0"))
        size = None
    return Quantization(
        file,
        _text(value.get("quant_algo")),
        _text(cache),
        _names(value.get("exclude_modules") or value.get("ignore")),
        layers=_layers(value, file, breaches),
        group_size=size,
        groups=_table(value, "config_groups", file, breaches) if file == "config.json" else None,
        method=value.get("quant_method"),
    )


def _layers(value: dict[str, Any], file: str, breaches: list[Breach]) -> dict[str, str | None]:
    table = _table(value, "quantized_layers", file, breaches)
    layers = {name: _text(layer.get("quant_algo")) for name, layer in table.items() if isinstance(layer, dict)}
    if unnamed := [name for name in table if not layers.get(name)]:
        breaches.append(Breach("config", f"{file} quantized_layers", f"names no quant_algo of {several(unnamed)}"))
    return layers


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _names(value: Any) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list) else ()


def _tensors(folder: Path, breaches: list[Breach]) -> dict[str, TensorHeader]:
    files = sorted(folder.glob("*.safetensors"))
    index = _read(folder / INDEX, breaches).get("weight_map")
    if not files:
        breaches.append(Breach("file", str(folder), "holds no *.safetensors file"))
    if len(files) > 1 and not isinstance(index, dict):
        breaches.append(
            Breach("file", INDEX, f"is needed beside {len(files)} safetensors files, and has no weight_map")
        )
    tensors: dict[str, TensorHeader] = {}
    for file in files:
        try:
            header = read_header(file)
        except FileFormatError as error:
            breaches.append(Breach("file", file.name, str(error)))
            continue
        for tensor in header:
            if tensor.name in tensors:
                breaches.append(Breach("file", tensor.name, f"is in {tensors[tensor.name].file.name} and {file.name}"))
            tensors[tensor.name] = tensor
    if isinstance(index, dict):
        breaches += _against_index(index, tensors, {file.name for file in files})
    return tensors


def _against_index(index: dict[str, Any], tensors: dict[str, TensorHeader], files: set[str]) -> list[Breach]:
    breaches = []
    index = {name: str(file) for name, file in index.items()}
    absent = sorted(set(index.values()) - files)
    if absent:
        breaches.append(Breach("file", INDEX, f"names files that are absent: {several(absent)}"))
    for name, file in index.items():
        tensor = tensors.get(name)
        if tensor is None and file in files:
            breaches.append(Breach("file", name, f"belongs to {file} by the index, and is not there"))
        elif tensor is not None and tensor.file.name != file:
            breaches.append(Breach("file", name, f"is in {tensor.file.name}, by the index in {file}"))
    unnamed = sorted(set(tensors) - set(index))
    if unnamed:
        breaches.append(Breach("file", INDEX, f"does not name {several(unnamed)}"))
    return breaches
