"""Who applies pre_quant_scale. No GPU is there: the fused operator is replaced by one that records its arguments."""

# mypy: disable-error-code="import-not-found,import-untyped"

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
import vllm.model_executor.kernels.linear.scaled_mm.fused_int8 as fused
from release import release


class Layer(torch.nn.Module):
    """A layer of two outputs and three inputs, as it is once it is loaded."""

    logical_widths = (2,)
    bias = None

    def __init__(self) -> None:
        super().__init__()
        values = {
            "weight": torch.ones(2, 3, dtype=torch.int8),
            "weight_scale": torch.ones(2, 1),
            "input_scale": torch.tensor(0.5),
            "pre_quant_scale": torch.tensor([1.0, 2.0, 3.0]),
        }
        for name, value in values.items():
            setattr(self, name, torch.nn.Parameter(value, requires_grad=False))


class Operator:
    """Stand for the fused operator: record the arguments, whether eager or in a graph that torch.compile traced."""

    def __init__(self) -> None:
        self.given: list[list[Any]] = []
        self.counts: Any = None
        self.graphs = 0

    def __call__(
        self,
        x: Any,
        pre: Any,
        weight: Any,
        weight_scale: Any,
        input_scale: Any,
        bias: Any,
        counts: Any,
        out_dtype: Any,
        choice: str,
    ) -> Any:
        values = [x.tolist(), str(x.dtype), None if pre is None else pre.tolist(), list(weight.shape), str(out_dtype)]
        self.given.append([*values, choice, counts is self.counts])
        return x.new_zeros(*x.shape[:-1], weight.shape[1], dtype=out_dtype)

    def backend(self, graph: Any, inputs: Any) -> Any:
        """Run a traced graph as it is, with this in the operator's place."""
        self.graphs += 1
        say = self

        class Spy(torch.fx.Interpreter):  # type: ignore[misc]
            def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
                if "fused_int8_linear" in str(target):
                    return say(*args, **kwargs)
                return super().call_function(target, args, kwargs)

        return Spy(graph).run


def in_torch() -> dict[str, float]:
    """Quantize every finite bfloat16: how far is it from what the exact quotient rounds to, and that from a tie."""
    numbers = torch.arange(-32768, 32768, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    numbers = numbers[numbers.isfinite()]
    off, from_tie = 0.0, 0.0
    for step in (0.021, 1.0, 3.3e-4):
        scale = torch.tensor(step)
        exact = numbers.double() / scale.double()
        wrong = (fused.quantize_in_torch(numbers, None, scale).double() - exact.round().clamp(-128, 127)).abs()
        off = max(off, wrong.max().item())
        from_tie = max([from_tie, *(exact - exact.floor() - 0.5).abs()[wrong > 0].tolist()])
    return {"off": off, "from tie": from_tie}


def warmed(kernel: Any) -> dict[str, Any]:
    """Say with which numbers of rows a layer is multiplied once it is loaded, and which need all of its kernels."""
    layer, gpu, rows = Layer(), fused.Gpu(90, 132), []
    layer.weight = torch.nn.Parameter(torch.ones(2048, 2560, dtype=torch.int8), requires_grad=False)
    with (
        mock.patch.object(fused, "_gpu", return_value=gpu),
        mock.patch.object(kernel, "multiply", lambda _, x, *__: rows.append([len(x), str(x.dtype)])),
    ):
        kernel.warm_up(layer, layer.weight.shape, torch.half)
    needed = fused.kernel_rows(2560, 2048, gpu, kernel.choice, kernel.compiled)
    return {"rows": rows, "needed": needed}


def probe(_: None) -> dict[str, Any]:
    def meta(*shape: int, dtype: Any = torch.half) -> Any:
        return torch.empty(*shape, dtype=dtype, device="meta")

    fake = fused._fused_int8_linear_fake(
        meta(2, 0, 3, dtype=torch.int8), None, meta(3, 5), None, None, None, None, torch.half, "auto"
    )
    kernel = object.__new__(fused.FusedInt8ScaledMMLinearKernel)
    kernel.config = fused.Int8ScaledMMLinearLayerConfig(
        is_static_input_scheme=True, is_channelwise=True, input_symmetric=True
    )
    kernel.layer_param_names = ["weight", "weight_scale", "input_scale", "input_zero_point", "azp_adj"]
    kernel.choice, kernel.compiled = "triton", True
    ours, others, operator = Layer(), Layer(), Operator()
    kernel.process_weights_after_loading(ours)
    operator.counts = ours.int8_split_counts
    # The weights are loaded once more, as at a reload.
    for name, value in Layer().named_parameters():
        setattr(ours, name, value)
    kernel.process_weights_after_loading(ours)
    smooth = release.smoother(kernel.apply_weights)
    x = torch.tensor([[1.0, 0.25, -0.26], [1000.0, -1000.0, 0.0], [0.25, 0.375, 0.76]])
    out = torch.compile(smooth, backend=operator.backend, fullgraph=True)(ours, x)
    compiled = operator.given.pop()
    with mock.patch.object(torch, "ops", SimpleNamespace(vllm=SimpleNamespace(fused_int8_linear=operator))):
        smooth(ours, x)
        plain = release.smoother(lambda layer, value, bias: value)(others, x)
    return {
        "eager": operator.given,
        "compiled": compiled,
        "graphs": operator.graphs,
        "out": [list(out.shape), str(out.dtype)],
        "plain": plain.tolist(),
        "fake": [list(fake.shape), str(fake.dtype)],
        "buffers": sorted(ours.state_dict()),
        "warm": warmed(kernel),
        **in_torch(),
    }
