"""ModelOpt's INT8 SmoothQuant through vLLM's own engine, on the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.series.vllm.conftest import Serve

CHAIN = Path(__file__).with_name("chain.py")
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("algo", ["W8A8_SQ_PER_CHANNEL", "INT8_SMOOTHQUANT", "int8_sq"])
def test_logits_equal_fake_quantization(serve: Serve, tmp_path: Path, algo: str) -> None:
    said = serve("patched", CHAIN, str(tmp_path / "model"), algo)
    assert said.returncode == 0, said.output[-4000:]
    assert said.value["difference"] < 1e-5, said.value
    assert said.value["same token"]
    assert said.value["spread"] > 0.1, "logits this flat would hide an error"


def test_amx_uses_the_static_scale(serve: Serve, tmp_path: Path) -> None:
    if "amx_int8" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("this CPU has no AMX")
    said = serve("patched", CHAIN, str(tmp_path / "model"), "W8A8_SQ_PER_CHANNEL")
    assert said.returncode == 0, said.output[-4000:]
    assert said.value["difference"] < 1e-5, said.value


def test_the_published_wheel_refuses_it(serve: Serve, tmp_path: Path) -> None:
    said = serve("base", CHAIN, str(tmp_path / "model"), "W8A8_SQ_PER_CHANNEL")
    assert said.returncode != 0
    assert "Unknown ModelOpt quant algo: W8A8_SQ_PER_CHANNEL" in said.output


@pytest.mark.parametrize(
    ("tensor", "value", "message"),
    [
        ("layers.1.self_attn.k_proj.input_scale", "none", "qkv_proj: no valid input_scale in the checkpoint for shard"),
        ("layers.1.mlp.down_proj.input_scale", "none", "down_proj: no valid input_scale in the checkpoint"),
        ("layers.1.mlp.up_proj.pre_quant_scale", "none", "gate_up_proj: no valid pre_quant_scale"),
        ("layers.0.self_attn.v_proj.weight_scale", "none", "qkv_proj: no valid weight_scale"),
        ("layers.0.self_attn.v_proj.weight", "none", "qkv_proj: no valid weight in"),
        ("layers.0.self_attn.o_proj.input_scale", "0", "o_proj: no valid input_scale"),
        ("layers.1.mlp.up_proj.input_scale", "1.5", "gate_up_proj: the input_scale of its shards differ"),
        ("layers.1.self_attn.q_proj.pre_quant_scale", "1.5", "qkv_proj: the pre_quant_scale of its shards differ"),
    ],
)
def test_a_bad_checkpoint_is_named(serve: Serve, tmp_path: Path, tensor: str, value: str, message: str) -> None:
    said = serve("patched", CHAIN, str(tmp_path / "model"), "W8A8_SQ_PER_CHANNEL", tensor, value)
    assert said.returncode != 0
    assert message in said.output, said.output[-4000:]
