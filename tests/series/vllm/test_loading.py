"""ModelOpt's checkpoints in vLLM's own linear layers, on every release: no compiled part is needed for that."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import Probe
from .loaded import BAD, GOOD, Load

pytestmark = pytest.mark.slow

INT8, DEQUANTIZED = "CPUInt8ScaledMMLinearKernel", "CPUDequantW8A16LinearKernel"
# v0.10.1 has the CPU's operators under the names of CUTLASS's.
NAMES = {"v0.10.1": {INT8: "CutlassScaledMMLinearKernel"}}
# The kernels of qkv_proj, o_proj, gate_up_proj and down_proj, where they are not all of INT8's.
KERNELS = {
    "qwen3, weights": [DEQUANTIZED] * 4,
    "qwen3, mixed": [INT8, INT8, DEQUANTIZED, DEQUANTIZED],
}


def params(cases: dict[str, Load]) -> list[Any]:
    return [pytest.param(name, marks=pytest.mark.patch(*load.patches)) for name, load in cases.items()]


@pytest.mark.parametrize("name", params(GOOD))
def test_layers_compute_what_the_checkpoint_says(base: str, probe: Probe, name: str) -> None:
    answer = probe("patched")["loading"][name]
    assert "error" not in answer, answer["error"]
    names = NAMES.get(base, {})
    kernels = [names.get(kernel, kernel) for kernel in KERNELS.get(GOOD[name].checkpoint, [INT8] * 4)]
    assert [layer["kernel"] for layer in answer["layers"].values()] == kernels * 2
    for prefix, layer in answer["layers"].items():
        assert layer["off"] < 1e-6, prefix


@pytest.mark.parametrize("name", params(GOOD))
def test_the_release_refuses_what_the_patched_one_loads(probe: Probe, name: str) -> None:
    loading = probe("base")["loading"]
    assert "error" in loading[name], loading[name]
    if name == "config.json":
        assert "ModelOpt currently only supports" in loading[name]["error"]


@pytest.mark.parametrize("name", params(BAD))
def test_a_bad_checkpoint_is_named(probe: Probe, name: str) -> None:
    answer = probe("patched")["loading"][name]
    for part in BAD[name].says:
        assert part in answer.get("error", "it loads")


@pytest.mark.patch("modelopt-int8-weight-only")
@pytest.mark.parametrize("layout", ["dequantized", "dequantized, GPTQ"])
def test_int8_weights_are_dequantized_on_the_cpu(probe: Probe, layout: str) -> None:
    """vLLM's own GPTQ has 8-bit weights the other way round, and may ask for the kernel as well."""
    assert probe("patched")["parts"][layout] < 1e-5


@pytest.mark.patch("modelopt-int8-smoothquant")
def test_float32_is_for_int8_on_the_cpu(base: str, probe: Probe) -> None:
    # v0.10.1's int8 operators have no such output.
    assert ("torch.float32" in probe("patched")["loading"]["config.json"]["dtypes"]) == (base != "v0.10.1")
