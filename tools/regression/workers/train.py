"""Train the shapes model: `train.py FOLDER [--steps N] [--seed N] [--device cpu|cuda]`.

FOLDER becomes a fixture: `model/`, `captions.txt`, `calibration.json` with known questions to calibrate on beside the
captions, `items.json` with held-out ones, their images, and `card.json` with the measurements. Progress goes to
standard output, one JSON object a line.
"""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import argparse
import json
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import numpy
import torch

import fake_quant
import outliers
import shapes_model
from batches import Batches
from progress_lines import progress
from scenes import Scene, draw, scenes

BATCH = 32
TEXT = 10  # one batch in so many is text
RATE = 3e-3
WIDTH = 0.08  # standard deviation of the first weights: about 1 / sqrt(hidden size)
ITEMS = (160, 48)  # held-out images, and questions without an image, that become items
CALIBRATION = (24, 8)  # known images and texts to calibrate on
MORE = 2  # times that training goes on for half as many batches
RIGHT = 0.95  # share of held-out captions that must be right, or there is no model


def build(tokens: Any, seed: int) -> Any:
    """Return the model with random weights."""
    from transformers import Qwen2_5_VLForConditionalGeneration

    torch.manual_seed(seed)
    config = shapes_model.config(tokens)
    for part in (config, config.text_config, config.vision_config):
        part.initializer_range = WIDTH
    config.architectures = ["Qwen2_5_VLForConditionalGeneration"]
    return Qwen2_5_VLForConditionalGeneration(config).float()


def train(model: Any, batches: Batches, known: list[Scene], steps: int, device: str, before: int = 0) -> None:
    """Train on images and, in every tenth step, on the text task; `before` steps were taken earlier."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps, pct_start=0.1)
    model.train()
    for step in range(steps):
        chosen = [known[index] for index in batches.random.integers(0, len(known), BATCH)]
        batch = batches.batch(chosen, image=step % TEXT != TEXT - 1)
        loss = model(**{name: value.to(device) for name, value in batch.items()}).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 5 == 4:
            progress(before + step + 1, before + steps, "steps")
    model.eval()


@torch.no_grad()
def share_right(model: Any, seed: int, scenes: list[Scene], image: bool, device: str, tokens: Any) -> float:
    """Return the share of answers that are right in every token, as greedy decoding would generate them."""
    batches, right = Batches(tokens, seed), 0
    for start in range(0, len(scenes), 64):
        batch = batches.batch(scenes[start : start + 64], image)
        labels = batch.pop("labels")[:, 1:]
        logits = model(**{name: value.to(device) for name, value in batch.items()}).logits[:, :-1].cpu()
        right += int(((logits.argmax(-1) == labels) | (labels < 0)).all(1).sum())
    return right / len(scenes)


@torch.no_grad()
def measure(model: Any, tokens: Any, known: list[Scene], held: list[Scene], device: str) -> dict[str, float]:
    """Return the held-out shares: as it is, with plain int8, and with SmoothQuant."""

    def calibrate() -> None:
        for scene in known[::16]:
            model(input_ids=tokens(scene.caption, return_tensors="pt")["input_ids"].to(device))
        for image in (True, False):
            batch = Batches(tokens, 3).batch(known[::32], image)
            del batch["labels"]
            model(**{name: value.to(device) for name, value in batch.items()})

    def shares(kind: str) -> dict[str, float]:
        return {
            f"{kind} images": share_right(model, 7, held, True, device, tokens),
            f"{kind} text": share_right(model, 7, held, False, device, tokens),
        }

    measurements = shares("full")
    for kind, smooth in (("int8", False), ("int8_sq", True)):
        with fake_quant.int8(model, calibrate, smooth):
            measurements |= shares(kind)
    return measurements


def tokenizer(known: list[Scene]) -> Any:
    """Return the tokenizer of all questions and answers about known scenes."""
    answers = [text for scene in known for text in (scene.caption, scene.turned)]
    questions = [shapes_model.prompt(shapes_model.DESCRIBE, 1), shapes_model.prompt(shapes_model.TURN)]
    return shapes_model.tokenizer([*answers, *questions * len(known)])


def write_fixture(
    folder: Path, model: Any, tokens: Any, known: list[Scene], held: list[Scene], counts: tuple[int, int], seed: int
) -> None:
    """Write the model, the captions and items that it is calibrated on, and held-out items: images, and texts."""
    folder.mkdir(parents=True)
    model.save_pretrained(folder / "model")
    shapes_model.write_processor(tokens, folder / "model")
    (folder / "captions.txt").write_text("".join(f"{scene.caption}\n" for scene in known))
    write_items(folder / "calibration.json", known, *CALIBRATION, seed + 2)
    write_items(folder / "items.json", held, *counts, seed + 3)


def write_items(file: Path, scenes: list[Scene], images: int, texts: int, seed: int) -> None:
    """Write questions about scenes, with their images and right answers: `images`, and `texts` without one."""
    from PIL import Image

    random = numpy.random.default_rng(seed)
    folder = file.with_suffix("")
    folder.mkdir()
    order = random.permutation(len(scenes))
    items = []
    for number, index in enumerate(order[:images]):
        name = f"{folder.name}/{number:03}.png"
        Image.fromarray(draw(scenes[index], random)).save(file.parent / name)
        prompt, answer = shapes_model.prompt(shapes_model.DESCRIBE, 1), scenes[index].caption
        items.append({"prompt": prompt, "question": shapes_model.DESCRIBE, "image": name, "answer": answer})
    for index in order[-texts:]:
        question, answer = shapes_model.TURN + scenes[index].caption, scenes[index].turned
        items.append({"prompt": shapes_model.prompt(question), "question": question, "image": None, "answer": answer})
    # Every fourth one is a text, so that the first few are of both kinds.
    first, second = iter(items[:images]), iter(items[images:])
    mixed = [item for _ in range(texts) for item in (*islice(first, 3), *islice(second, 1))]
    file.write_text(json.dumps([*mixed, *first], indent=1) + "\n")


def parse_arguments(count: str, default: int) -> argparse.Namespace:
    """Return the arguments of the command line; `count` is the option for the model's steps, or its layers."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument(f"--{count}", type=int, default=default)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


def main() -> int:
    """Train, insert the outliers, measure, write."""
    options = parse_arguments("steps", 1500)
    torch.use_deterministic_algorithms(True)
    known, held = scenes()
    tokens = tokenizer(known)
    model = build(tokens, options.seed).to(options.device)
    # Another processor rounds otherwise, and learns another model: one that is a few answers short is trained further.
    steps = 0
    for more in range(1 + MORE):
        count = options.steps // 2 if more else options.steps
        train(model, Batches(tokens, options.seed + 1 + more), known, count, options.device, steps)
        steps += count
        before = share_right(model, 7, held, True, options.device, tokens)
        if min(before, share_right(model, 7, held, False, options.device, tokens)) >= RIGHT:
            break
    outliers.insert(model, options.seed)
    right = measure(model, tokens, known, held, options.device)
    if right["full images"] != before:
        sys.exit("the outlier channels changed the model's answers: the rescaling is not exact here")
    if min(right["full images"], right["full text"]) < RIGHT:
        sys.exit(f"the model has not learned its task: {right}; more --steps help")
    write_fixture(options.folder, model.cpu(), tokens, known, held, ITEMS, options.seed)
    card = {"seed": options.seed, "steps": steps, "held out": len(held), "right": right}
    (options.folder / "card.json").write_text(json.dumps(card, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
