"""Parts of the patched vLLM: what the CPU's int8 kernel does on AMX, and how pre_quant_scale is split."""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from release import release
from vllm.model_executor.parameter import PackedvLLMParameter


def method_on_amx(static: bool) -> str:
    """Return the method that the CPU's int8 kernel chooses where the CPU has AMX."""
    from vllm.model_executor.kernels.linear.scaled_mm import cpu

    kernel = object.__new__(cpu.CPUInt8ScaledMMLinearKernel)
    kernel.config = SimpleNamespace(input_symmetric=True, is_static_input_scheme=static)
    kernel.layer_param_names = ("weight", "weight_scale", "input_scale", "input_zero_point", "azp_adj")
    layer = SimpleNamespace(weight=torch.zeros(64, 64, dtype=torch.int8))
    with (
        # v0.26.0 uses AMX only where this is set.
        mock.patch.dict(os.environ, VLLM_CPU_SGL_KERNEL="1"),
        mock.patch.object(cpu, "check_cpu_sgl_kernel", return_value=True),
        mock.patch.object(kernel, "process_weights_for_sgl"),
        mock.patch.object(kernel, "process_weights_for_onednn"),
    ):
        kernel.process_weights_after_loading(layer)
    return str(kernel.linear_method.__name__)


@contextmanager
def as_rank(rank: int) -> Iterator[None]:
    """Be one of two processes."""
    names = {"get_tensor_model_parallel_rank": rank, "get_tensor_model_parallel_world_size": 2}
    with ExitStack() as stack:
        for module in release.RANKS:
            for name in names.keys() & vars(module).keys():
                stack.enter_context(mock.patch.object(module, name, return_value=names[name]))
        yield


def scale(*shape: int) -> Any:
    """Return the parameter."""
    return release.MODELOPT.PreQuantScaleParameter(data=torch.zeros(shape), weight_loader=None)


def load(way: str) -> Any:
    """Return what a rank loads."""
    if way == "row parallel":
        value = scale(4)
        value.load_row_parallel_weight(torch.arange(8.0))
    elif way == "column parallel":
        value = scale(8)
        value.load_column_parallel_weight(torch.arange(8.0))
    else:
        value = scale(3, 8)
        for number, shard in enumerate("qkv"):
            value.load_qkv_weight(
                torch.full((8,), number + 1.0), shard_id=shard, shard_size=4, shard_offset=4 * number, num_heads=1
            )
    return value.data.tolist()


def loaded(way: str) -> list[Any]:
    """Return what each of two ranks loads."""
    ranks = []
    for rank in (0, 1):
        with as_rank(rank):
            ranks.append(load(way))
    return ranks


def dequantized(gptq: bool) -> float:
    """Return how far the CPU's kernel for int8 weights is off, for one of the two layouts that layers have them in."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randint(-127, 128, (6, 8), dtype=torch.int8, generator=generator)
    scale = torch.rand(6, 1, generator=generator) + 0.5
    packed = (weight.view(torch.uint8) ^ 0x80).view(torch.int32)
    options = {"weight_loader": None, "packed_factor": 4}
    if gptq:
        packed, options = packed.t().contiguous(), {**options, "input_dim": 0, "output_dim": 1, "packed_dim": 0}
    else:
        options |= {"input_dim": 1, "output_dim": 0, "packed_dim": 1}
    layer = torch.nn.Module()
    layer.weight = PackedvLLMParameter(data=packed, **options)
    layer.scale = torch.nn.Parameter(scale.t() if gptq else scale, requires_grad=False)
    kernel = release.dequantizing((8, 6))
    kernel.process_weights_after_loading(layer)
    x = torch.randn(3, 8, generator=generator)
    return float((kernel.apply_weights(layer, x) - x @ (weight * scale).T).abs().max())


def probe(amx: bool) -> dict[str, Any]:
    """Answer; `amx`: of AMX too, which v0.10.1 does not know of."""
    answers: dict[str, Any] = {way: loaded(way) for way in ("row parallel", "column parallel", "fused qkv")}
    if amx:
        answers["static on AMX"] = method_on_amx(static=True)
        answers["dynamic on AMX"] = method_on_amx(static=False)
    with as_rank(0):
        answers["dequantized"] = dequantized(gptq=False)
        answers["dequantized, GPTQ"] = dequantized(gptq=True)
        try:
            scale(3, 8).load_qkv_weight(torch.zeros(1), shard_id="q", shard_size=4, shard_offset=0, num_heads=1)
        except AssertionError as error:
            answers["wrong size"] = repr(error)
    return answers
