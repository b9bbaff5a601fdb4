"""The model that is quantized, its calibration captions and its questions: trained here, or the user's own."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from regression.effects.machine import Python
from regression.effects.process import Running, environment
from regression.effects.stages import Stages, digest
from regression.stages.bench import INSIDE, Unfinished, raise_unfinished
from toolkit.errors import UsageError
from toolkit.progress import Reporter

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

    @property
    def shape(self) -> str:
        """What its configuration says of its size."""
        said = json.loads((self.model / "config.json").read_text())
        text = said.get("text_config", said)
        layers, size = text.get("num_hidden_layers"), text.get("hidden_size")
        return f"{said.get('model_type')}, {layers} layers of {size}, vocabulary {text.get('vocab_size')}"

    @property
    def files(self) -> tuple[Path, ...]:
        """Everything in it, folders and files."""
        return self.model.parent if self.card is not None else self.model, self.captions, self.items


def trained(
    stages: Stages, python: Python, reporter: Reporter, steps: int | None, seed: int, device: str, cores: int
) -> Kit:
    """Return the shapes model, training it if it is not kept.

    Raises:
        Unfinished: training did not come to an end, or the model has not learned its lesson.
    """
    extra = ["--seed", str(seed), "--device", device, *(["--steps", str(steps)] if steps is not None else [])]
    card, folder = _write(stages, python, reporter, "train", "train the shapes model", "steps", extra, cores)
    return replace(made(folder), card=card)


def _write(
    stages: Stages,
    python: Python,
    reporter: Reporter,
    script: str,
    title: str,
    unit: str,
    extra: list[str],
    cores: int,
) -> tuple[dict[str, Any], Path]:
    """Return what a script measured, and the folder of the kit that it wrote."""
    inputs = {
        "scripts": digest(*(INSIDE / f"{name}.py" for name in (*SCRIPTS, *({script} - {*SCRIPTS})))),
        "versions": {name: python.versions.get(name) for name in ("torch", "transformers", "numpy")},
        "options": extra,
    }

    def work(folder: Path) -> dict[str, Any]:
        log = folder / "log.txt"
        command = [str(python.path), str(INSIDE / f"{script}.py"), str(folder / "kit"), *extra]
        env = environment(OMP_NUM_THREADS=str(cores), OMP_WAIT_POLICY="PASSIVE")
        with reporter.task(title, None, unit) as task, Running(command, env, folder, log, task) as running:
            ended = running.wait(TIMEOUT)
        raise_unfinished(title, ended, TIMEOUT, log)
        if not ended.good:
            words = ended.tail.strip().splitlines() or [""]
            raise Unfinished(f"{title}: {words[-1]}", remedy=f"{log} has all that was said")
        card = folder / "kit/card.json"
        measured: dict[str, Any] = json.loads(card.read_text()) if card.is_file() else {}
        return {**measured, "seconds": ended.seconds, "peak bytes": ended.peak}

    card = stages.run("kit", inputs, work)
    return card, stages.path("kit", inputs) / "kit"


def large(
    stages: Stages, python: Python, reporter: Reporter, layers: int | None, seed: int, device: str, cores: int
) -> Kit:
    """Return a kit with a random model of Qwen2.5-VL-3B's shape; `layers` of its decoder's 36, or all of them.

    Raises:
        Unfinished: it was not finished.
    """
    extra = ["--seed", str(seed), "--device", device, *(["--layers", str(layers)] if layers is not None else [])]
    _, folder = _write(stages, python, reporter, "large", "write the random model", "tensors", extra, cores)
    return made(folder)


def made(folder: Path) -> Kit:
    """Return a kit that `regression make-model --out` wrote.

    Raises:
        UsageError: something of it is not there.
    """
    lessons, card = folder / "lessons.json", folder / "card.json"
    kit = Kit(
        (folder / "model").absolute(),
        (folder / "captions.txt").absolute(),
        (folder / "items.json").absolute(),
        lessons.absolute() if lessons.is_file() else None,
        json.loads(card.read_text()) if card.is_file() else None,
    )
    for file in (kit.model / "config.json", kit.captions, kit.items):
        if not file.is_file():
            raise UsageError(f"{file} is not there", remedy="make the model anew: `regression make-model --out DIR`")
    return kit


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
