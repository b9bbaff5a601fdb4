"""The model that is quantized, its calibration captions and its questions: trained here, or the user's own."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from patchset.errors import UsageError
from patchset.progress import Reporter
from regression.effects.machine import Python
from regression.effects.process import Running, environment
from regression.effects.stages import Stages, digest
from regression.stages.bench import INSIDE, Unfinished, raise_unfinished

SCRIPTS = ("train", "lesson", "pictures", "shapes_model", "outliers", "fake_quant", "telling")
TIMEOUT = 3600.0
OWN_ITEMS = 64  # captions of the user's that become fixed tokens


@dataclass(frozen=True)
class Kit:
    """A model's folder, its captions (one a line) and its questions.

    `lessons` are questions to calibrate on beside the captions, and `card` is what training measured; the user's own
    model has neither.
    """

    model: Path
    captions: Path
    items: Path
    lessons: Path | None
    card: dict[str, Any] | None

    @cached_property
    def digest(self) -> str:
        """The sha256 of everything in it."""
        return digest(self.model.parent if self.card is not None else self.model, self.captions, self.items)


def trained(
    stages: Stages, python: Python, reporter: Reporter, steps: int | None, seed: int, device: str, cores: int
) -> Kit:
    """Return the shapes model, training it if it is not kept.

    Raises:
        Unfinished: training did not come to an end, or the model has not learned its lesson.
    """
    extra = ["--seed", str(seed), "--device", device, *(["--steps", str(steps)] if steps is not None else [])]
    inputs = {
        "scripts": digest(*(INSIDE / f"{name}.py" for name in SCRIPTS)),
        "versions": {name: python.versions.get(name) for name in ("torch", "transformers", "numpy")},
        "options": extra,
    }

    def work(folder: Path) -> dict[str, Any]:
        log = folder / "log.txt"
        command = [str(python.path), str(INSIDE / "train.py"), str(folder / "kit"), *extra]
        env = environment(OMP_NUM_THREADS=str(cores), OMP_WAIT_POLICY="PASSIVE")
        with (
            reporter.task("train the shapes model", None, "steps") as task,
            Running(command, env, folder, log, task) as running,
        ):
            ended = running.wait(TIMEOUT)
        raise_unfinished("training", ended, TIMEOUT, log)
        if not ended.good:
            words = ended.tail.strip().splitlines() or [""]
            raise Unfinished(f"training failed: {words[-1]}", remedy=f"{log} has all that was said")
        card: dict[str, Any] = json.loads((folder / "kit/card.json").read_text())
        return {**card, "seconds": ended.seconds, "peak bytes": ended.peak}

    card = stages.run("kit", inputs, work)
    folder = stages.path("kit", inputs) / "kit"
    return Kit(folder / "model", folder / "captions.txt", folder / "items.json", folder / "lessons.json", card)


def own(stages: Stages, model: Path, captions: Path) -> Kit:
    """Return a kit of the user's model: its captions calibrate, and the first of them are the fixed tokens.

    Raises:
        UsageError: a file is not there, or holds no caption.
    """
    if not (model / "config.json").is_file():
        raise UsageError(f"{model} holds no model: there is no config.json", remedy="name the folder of a checkpoint")
    try:
        lines = [line.strip() for line in captions.read_text("utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{captions}: {error}", remedy="name a UTF-8 text file with one caption a line") from None
    if not lines:
        raise UsageError(f"{captions} holds no caption", remedy="write one caption a line")
    items = [_continued(line) for line in lines[:OWN_ITEMS]]
    folder = stages.path("own", {"captions": digest(captions)})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "items.json").write_text(json.dumps(items))
    return Kit(model.absolute(), captions.absolute(), folder / "items.json", None, None)


def _continued(caption: str) -> dict[str, object]:
    """Return an item that asks for a caption to be continued after its first words."""
    words = caption.split(" ")
    head = " ".join(words[: max(1, len(words) // 3)])
    return {"prompt": head, "ask": "", "picture": None, "answer": caption[len(head) :] or "."}
