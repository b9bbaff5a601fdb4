"""What the CUDA extensions are built for, whatever TORCH_CUDA_ARCH_LIST holds."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.slow


def test_what_torch_does_not_know_is_left_out(base: dict[str, Any], patched: dict[str, Any]) -> None:
    """CUDA 12.8's environments list 10.1, which torch does not know any more: the extension was not built at all."""
    before, after = (tree["arch"]["built"]["cuda 12.8"] for tree in (base, patched))
    assert before["extension"] is None
    assert after["extension"] == "built"
    assert after["seen"] == ["12.0"]
    (warning,) = after["warned"]
    assert "10.1 (unknown to torch" in warning


def test_the_present_device_is_added(base: dict[str, Any], patched: dict[str, Any]) -> None:
    """A list without the present device gave code that it cannot run."""
    before, after = (tree["arch"]["built"]["other device"] for tree in (base, patched))
    assert before["seen"] == ["12.0"]
    assert after["seen"] == ["12.0;9.0"]
    assert after["warned"] == []


@pytest.mark.parametrize(
    ("case", "architectures"),
    [
        ("unset", "12.0"),
        ("empty", "12.0"),
        ("spaces", "9.0;12.0+PTX;12.0"),
        ("junk", "9.0"),
        ("nvcc", "9.0"),
        ("two devices", "12.0;9.0"),
        ("two alike", "9.0"),
        ("device unknown to nvcc", "9.0;8.9"),
    ],
)
def test_the_list_that_is_built_for(patched: dict[str, Any], case: str, architectures: str) -> None:
    assert patched["arch"]["built"][case]["seen"] == [architectures]


def test_what_nvcc_does_not_know_is_named(patched: dict[str, Any]) -> None:
    (warning,) = patched["arch"]["built"]["nvcc"]["warned"]
    assert "left out 7.0 (unknown to" in warning
    assert "nvcc" in warning


def test_the_environment_is_as_before(patched: dict[str, Any]) -> None:
    for case in ("built", "failed"):
        assert patched["arch"][case]["cuda 12.8"]["after"] == "10.1;12.0"
    assert patched["arch"]["built"]["unset"]["after"] is None
    assert patched["arch"]["built"]["empty"]["after"] == ""


def test_a_failed_build_says_why_and_what_to_do(patched: dict[str, Any]) -> None:
    failed = patched["arch"]["failed"]
    warning = failed["cuda 12.8"]["warned"][-1]
    assert "Error building extension" in warning
    assert "TORCH_CUDA_ARCH_LIST=12.0" in warning
    assert "nvcc of that CUDA release" in warning
    assert "8.9 is unknown to" in failed["device unknown to nvcc"]["warned"][-1]
    assert "install a newer CUDA toolkit" in failed["device unknown to nvcc"]["warned"][-1]
