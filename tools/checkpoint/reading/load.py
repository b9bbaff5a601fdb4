"""A folder becomes a checkpoint: files, index, and the two configurations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from checkpoint.checks.finding import Breach, several
from checkpoint.reading.header import INDEX, BadFile, Stored, read_header, read_json
from checkpoint.reading.model import Checkpoint, Quantization
from toolkit.errors import UsageError

QUANT_CONFIG = "hf_quant_config.json"
_REMEDY = "name the folder that ModelOpt exported to, with config.json and *.safetensors in it"


def load(folder: Path) -> tuple[Checkpoint, list[Breach]]:
    """Read a checkpoint's headers and configurations, and what is wrong with the files themselves.

    Raises:
        UsageError: there is no such folder, or nothing in it that says ModelOpt.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder", remedy=_REMEDY)
    breaches: list[Breach] = []
    config = _read(folder / "config.json", breaches)
    exported = _read(folder / QUANT_CONFIG, breaches)
    said = []
    if isinstance(exported.get("quantization"), dict):
        said.append(_from_export(exported["quantization"]))
    if isinstance(config.get("quantization_config"), dict):
        said.append(_from_config(config["quantization_config"]))
    if not said and not any(breach.rule == "file" for breach in breaches):
        raise UsageError(f"{folder} holds no quantized checkpoint: {QUANT_CONFIG} is absent", remedy=_REMEDY)
    tensors = _tensors(folder, breaches)
    return Checkpoint(folder, tensors, config, tuple(said) or (Quantization("", None, None, ()),)), breaches


def _read(file: Path, breaches: list[Breach]) -> dict[str, Any]:
    if not file.exists():
        if file.name == "config.json":
            breaches.append(Breach("file", file.name, "is absent"))
        return {}
    try:
        return read_json(file)
    except BadFile as error:
        breaches.append(Breach("file", file.name, str(error)))
        return {}


def _from_export(value: dict[str, Any]) -> Quantization:
    return Quantization(
        QUANT_CONFIG,
        _text(value.get("quant_algo")),
        _text(value.get("kv_cache_quant_algo")),
        _names(value.get("exclude_modules")),
        None,
        value.get("quantized_layers") or {},
        value.get("group_size"),
    )


def _from_config(value: dict[str, Any]) -> Quantization:
    scheme = value.get("kv_cache_scheme")
    cache = "FP8" if isinstance(scheme, dict) and (scheme.get("type"), scheme.get("num_bits")) == ("float", 8) else None
    return Quantization(
        "config.json",
        _text(value.get("quant_algo")),
        cache or _text(scheme),
        _names(value.get("ignore")),
        value.get("config_groups") or {},
        value.get("quantized_layers") or {},
    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _names(value: Any) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list) else ()


def _tensors(folder: Path, breaches: list[Breach]) -> dict[str, Stored]:
    files = sorted(folder.glob("*.safetensors"))
    index = _read(folder / INDEX, breaches).get("weight_map") if (folder / INDEX).exists() else None
    if not files:
        breaches.append(Breach("file", str(folder), "holds no *.safetensors file"))
    if len(files) > 1 and not isinstance(index, dict):
        breaches.append(
            Breach("file", INDEX, f"is needed beside {len(files)} safetensors files, and has no weight_map")
        )
    tensors: dict[str, Stored] = {}
    for file in files:
        try:
            header = read_header(file)
        except BadFile as error:
            breaches.append(Breach("file", file.name, str(error)))
            continue
        for tensor in header:
            if tensor.name in tensors:
                breaches.append(Breach("file", tensor.name, f"is in {tensors[tensor.name].file.name} and {file.name}"))
            tensors[tensor.name] = tensor
    if isinstance(index, dict):
        breaches += _against_index(index, tensors, {file.name for file in files})
    return tensors


def _against_index(index: dict[str, Any], tensors: dict[str, Stored], files: set[str]) -> list[Breach]:
    found = []
    absent = sorted({str(file) for file in index.values()} - files)
    if absent:
        found.append(Breach("file", INDEX, f"names files that are not there: {several(absent)}"))
    for name, file in index.items():
        there = tensors.get(name)
        if there is None and file in files:
            found.append(Breach("file", name, f"is to be in {file} by the index, and is not"))
        elif there is not None and there.file.name != file:
            found.append(Breach("file", name, f"is in {there.file.name}, by the index in {file}"))
    unnamed = sorted(set(tensors) - set(index))
    if unnamed:
        found.append(Breach("file", INDEX, f"does not name {several(unnamed)}"))
    return found
