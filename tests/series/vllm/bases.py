"""The releases of vLLM that have a series, and what of each there is on a machine without a GPU."""

from __future__ import annotations

from dataclasses import dataclass


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
    lacks: frozenset[str] = frozenset()
    """The patches of `PATCHES` that the release's series does without."""


BASES = {
    "v0.30.0": Base(serve="serve"),
    "v0.33.0": Base(),
}

PATCHES = (
    "int8-cutlass-capability",
    "modelopt-int8-smoothquant",
    "cpu-int8-static-scale",
    "modelopt-int8-weight-only",
    "modelopt-mixed-unknown-algo",
    "int8-fused-linear",
    "modelopt-int8-fused-scale",
)
