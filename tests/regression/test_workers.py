"""The assumptions of the workers, held against upstream's own code; and their items."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy
import pytest

from regression.session.bench import WORKERS
from regression.workers.items import load_items
from regression.workers.scenes import SIDE, draw, scenes

CHECKS = """
import json, sys
import numpy, torch
from PIL import Image
import batches, fake_quant, large, outliers, scenes, shapes_model, train
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

torch.use_deterministic_algorithms(True)
known, held = scenes.scenes()
tokens = shapes_model.tokenizer([scene.caption for scene in known])
results = {}

def trained():
    model = train.build(tokens, 0)
    train.train(model, batches.Batches(tokens, 1), known, 20, "cpu")
    return model

one, other = trained(), trained()
results["the same twice"] = all(bool((a == b).all()) for a, b in zip(one.parameters(), other.parameters()))

maker = batches.Batches(tokens, 2)
shown = [scenes.draw(scene, maker.random) for scene in known[:3]]
processor = Qwen2VLImageProcessorPil(**shapes_model.processor_settings())
upstream = processor(images=[Image.fromarray(pixels) for pixels in shown], return_tensors="pt")
results["patches"] = (upstream["pixel_values"] - batches.patches(shown)).abs().max().item()

batch = maker.batch(known[:5], True)
row = (batch["input_ids"] == maker.image).int()
positions = one.model.get_rope_index(batch["input_ids"], mm_token_type_ids=row, image_grid_thw=batch["image_grid_thw"])
results["positions"] = bool((positions[0] == batch["position_ids"]).all())

@torch.no_grad()
def logits():
    return one(**{name: value for name, value in batch.items() if name != "labels"}).logits

def calibrate():
    logits()

before = logits()
def cost(smooth):
    with fake_quant.int8(one, calibrate, smooth):
        return (logits() - before).abs().mean().item()

plain, smooth = cost(False), cost(True)
outliers.insert(one, 0)
results["outliers change nothing"] = bool((logits() == before).all())
results["plain int8 costs"] = [plain, cost(False)]
results["SmoothQuant costs"] = [smooth, cost(True)]
results["undone"] = bool((logits() == before).all())

real = large.config(tokens, 36)
results["parameters"] = [real.text_config.num_hidden_layers, real.text_config.hidden_size, real.vision_config.depth]
random = large.build(shapes_model.config(tokens), 0, "cpu")
with torch.no_grad():
    output = random(**{name: value for name, value in batch.items() if name != "labels"}).logits.float()
results["large"] = [bool(output.isfinite().all()), output.std().item()]
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    python = os.environ.get("PATCHSET_QUANTIZE_PYTHON")
    if python is None:
        pytest.skip("PATCHSET_QUANTIZE_PYTHON names no interpreter; `nox -s tests` makes one")
    env = {**os.environ, "PYTHONPATH": str(WORKERS), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    process = subprocess.run([python, "-c", CHECKS], env=env, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr[-3000:]
    values: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return values


@pytest.mark.slow
def test_training_gives_the_same_weights_twice(results: dict[str, Any]) -> None:
    assert results["the same twice"]


@pytest.mark.slow
def test_patches_and_positions_are_upstreams(results: dict[str, Any]) -> None:
    assert results["patches"] == 0
    assert results["positions"]


@pytest.mark.slow
def test_outliers_change_no_logit_and_cost_plain_int8_alone(results: dict[str, Any]) -> None:
    assert results["outliers change nothing"]
    assert results["undone"]
    (plain, hurt), (smooth, kept) = results["plain int8 costs"], results["SmoothQuant costs"]
    assert hurt > 5 * plain
    assert kept == pytest.approx(smooth, rel=0.2)


@pytest.mark.slow
def test_the_random_model_is_of_the_real_shape_and_has_distinct_logits(results: dict[str, Any]) -> None:
    assert results["parameters"] == [36, 2048, 32]
    finite, spread = results["large"]
    assert finite
    assert 3 < spread < 8


def test_held_out_scenes_are_not_trained_on() -> None:
    known, held = scenes()
    captions = {scene.caption for scene in known}
    assert len(captions) == len(known)
    assert not captions & {scene.caption for scene in held}
    assert 0.15 < len(held) / (len(known) + len(held)) < 0.25


def test_a_caption_turned_round_has_the_same_meaning() -> None:
    known, _ = scenes()
    scene = next(scene for scene in known if scene.relation == "above")
    assert scene.caption == f"{scene.first} above {scene.second}"
    assert scene.turned == f"{scene.second} below {scene.first}"


def test_images_are_the_same_for_a_seed_and_show_their_colours() -> None:
    known, _ = scenes()
    for scene in known[::97]:
        one, other = (draw(scene, numpy.random.default_rng(4)) for _ in range(2))
        assert one.shape == (SIDE, SIDE, 3)
        assert numpy.array_equal(one, other)
        assert not numpy.array_equal(one, draw(scene, numpy.random.default_rng(5)))


def test_the_scripts_import_nothing_of_this_package() -> None:
    """They run where it is not installed."""
    for file in WORKERS.glob("*.py"):
        assert "regression." not in file.read_text(), file
    assert "regression" in sys.modules


def test_no_tool_replaces_parts_of_another_with_mocks() -> None:
    """A worker takes as arguments what another may want to be otherwise."""
    for file in WORKERS.parents[1].rglob("*.py"):
        assert "unittest" not in file.read_text(), file


def test_items_of_an_earlier_version_are_read(tmp_path: Path) -> None:
    old = {"prompt": "p", "ask": "what?", "picture": "items/000.png", "answer": "a"}
    (tmp_path / "items.json").write_text(json.dumps([old]))
    assert load_items(tmp_path / "items.json") == [
        {"prompt": "p", "question": "what?", "image": "items/000.png", "answer": "a"}
    ]
