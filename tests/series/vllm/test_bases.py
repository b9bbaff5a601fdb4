"""bases.py says what there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from .bases import BASES, PATCHES

FOLDER = Path(__file__).parents[3] / "patches/vllm"


def test_every_release_with_a_series_is_tested() -> None:
    assert set(BASES) == {file.parent.name for file in FOLDER.glob("*/base.toml")}


@pytest.mark.parametrize("name", BASES)
def test_the_patches_that_a_series_lacks_are_named(name: str) -> None:
    listed = [line.split("#")[0].strip() for line in (FOLDER / name / "series").read_text().splitlines()]
    held = [line.removesuffix(".patch") for line in listed if line]
    assert held == [patch for patch in PATCHES if patch not in BASES[name].lacks]
