"""Load ModelOpt's checkpoints into vLLM's own linear layers on the CPU, and run them on random input.

`probe(JOBS)`: JOBS is a list of objects with

    name         under which the answer stands
    folder       the checkpoint
    declared_in  the file that declares how it is quantized, `config.json` or `hf_quant_config.json`, or `both`
    renamed      what stands there in place of a name of a quantization
    changes      endings of tensors' names, and what is loaded in their place: a factor, or null where it is left out

The answer of each is `{"error": "..."}`, or `dtypes` that the configuration takes, and the `layers`: of each the
`kernel` and how far its output is `off` from the product of the checkpoint's tensors, relative to the largest. A tree
does not have oneDNN's operators: torch's stand in for them.
"""

# mypy: disable-error-code="import-not-found,import-untyped"

from __future__ import annotations

import json
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from release import release
from safetensors.torch import load_file
from vllm import _custom_ops as ops
from vllm.config import VllmConfig, set_current_vllm_config
from vllm.distributed import init_distributed_environment, initialize_model_parallel
from vllm.model_executor.layers import linear

FILES = {"both": ("config.json", "hf_quant_config.json")}
# vLLM's layers, and the checkpoint's that each consists of, with the name of the shard.
LAYERS = {
    "self_attn.qkv_proj": {"self_attn.q_proj": "q", "self_attn.k_proj": "k", "self_attn.v_proj": "v"},
    "self_attn.o_proj": {"self_attn.o_proj": None},
    "mlp.gate_up_proj": {"mlp.gate_proj": 0, "mlp.up_proj": 1},
    "mlp.down_proj": {"mlp.down_proj": None},
}
FUSED = {"qkv_proj": ["q_proj", "k_proj", "v_proj"], "gate_up_proj": ["gate_proj", "up_proj"]}


def configuration(job: dict[str, Any]) -> Any:
    """Return vLLM's configuration of the checkpoint's quantization, as its files lead to it."""
    files = {}
    for name in ("config.json", "hf_quant_config.json"):
        text = (Path(job["folder"]) / name).read_text()
        for old, new in job["renamed"].items():
            text = text.replace(f'"{old}"', f'"{new}"')
        files[name] = json.loads(text)
    files["config.json"] = files["config.json"]["quantization_config"]
    # Where both are there, config.json tells the method, and the other one the layers of mixed precision.
    first, second = FILES.get(job["declared_in"], (job["declared_in"],) * 2)
    config = SimpleNamespace(quantization_config=files[first])
    declared = release.normalized(config) or files[first]
    configs = release.CONFIGS
    method = next(
        (name for name in configs if configs[name].override_quantization_method(declared, None) == name), "modelopt"
    )
    quantization = configs[method].from_config(files[second])
    quantization.packed_modules_mapping = FUSED
    return quantization


def build(name: str, parts: list[Any], bias: bool, config: Any, prefix: str) -> Any:
    """Return vLLM's layer, empty, for the checkpoint's weights `parts`."""
    options = {"bias": bias, "params_dtype": torch.float32, "quant_config": config, "prefix": prefix}
    size = parts[0].shape[1]
    if name.endswith("qkv_proj"):
        head = 64
        heads = [part.shape[0] // head for part in parts]
        return linear.QKVParallelLinear(size, head, heads[0], heads[1], **options)
    if name.endswith("gate_up_proj"):
        return linear.MergedColumnParallelLinear(size, [part.shape[0] for part in parts], **options)
    return linear.RowParallelLinear(size, parts[0].shape[0], **options)


def expected(x: torch.Tensor, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the output of one of the checkpoint's layers: int8 by int8, or by the input as it is."""
    scale = tensors.get("input_scale")
    if scale is not None:
        x = (x * tensors["pre_quant_scale"] / scale).round().clamp(-128, 127) * scale
    out = x.double() @ (tensors["weight"].double() * tensors["weight_scale"].double()[:, None]).T
    return out + tensors["bias"].double() if "bias" in tensors else out


def one(name: str, prefix: str, tensors: dict[str, torch.Tensor], config: Any) -> dict[str, Any]:
    """Load one layer, run it, and say how far it is off."""
    members = {}
    for part in LAYERS[name]:
        start = f"{prefix}.{part}."
        members[part] = {key.removeprefix(start): value for key, value in tensors.items() if key.startswith(start)}
    weights = [torch.empty(member["shape"]) for member in members.values()]
    bias = any("bias" in member for member in members.values())
    layer = build(name, weights, bias, config, f"{prefix}.{name}")
    parameters = dict(layer.named_parameters())
    for part, shard in LAYERS[name].items():
        for key, value in members[part].items():
            if key != "shape":
                loader = parameters[key].weight_loader
                loader(parameters[key], value, *(() if shard is None else (shard,)))
    layer.quant_method.process_weights_after_loading(layer)
    x = torch.randn(3, weights[0].shape[1], generator=torch.Generator().manual_seed(0))
    got = layer(x)
    got = got[0] if isinstance(got, tuple) else got
    wanted = torch.cat([expected(x, member) for member in members.values()], 1)
    off = ((got.double() - wanted).abs().max() / wanted.abs().max()).item()
    return {"kernel": type(layer.quant_method.kernel).__name__, "off": off}


def load(job: dict[str, Any]) -> dict[str, Any]:
    """Load the layers of one checkpoint."""
    try:
        config = configuration(job)
        tensors = load_file(Path(job["folder"]) / "model.safetensors")
        shapes = {key[:-6] + "shape": list(value.shape) for key, value in tensors.items() if key.endswith("weight")}
        for ending, factor in job["changes"].items():
            (name,) = [name for name in tensors if name.endswith(ending)]
            old = tensors.pop(name)
            if factor is not None:
                tensors[name] = old * factor
        layers = {}
        for prefix in ("model.layers.0", "model.layers.1"):
            for name in LAYERS:
                if f"{prefix}.{next(iter(LAYERS[name]))}.shape" in shapes:
                    layers[f"{prefix}.{name}"] = one(name, prefix, {**tensors, **shapes}, config)
        if f"{prefix}.mlp.experts.0.up_proj.shape" in shapes:
            config.get_quant_method(release.experts(), f"{prefix}.mlp.experts")
        return {"layers": layers, "dtypes": [str(dtype) for dtype in config.get_supported_act_dtypes()]}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


def probe(jobs: list[dict[str, Any]]) -> dict[str, Any]:
    with ExitStack() as stack:
        for name, function in release.OPERATORS.items():
            stack.enter_context(mock.patch.object(ops, name, function))
        stack.enter_context(set_current_vllm_config(VllmConfig()))
        init_distributed_environment(1, 0, f"file://{tempfile.mkdtemp()}/rendezvous", 0, "gloo")
        initialize_model_parallel(1, 1)
        return {job["name"]: load(job) for job in jobs}
