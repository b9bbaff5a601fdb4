"""The model that is quantized, its calibration captions and its questions: trained here, or the user's own."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from regression.effects.cache import StepCache, digest
from regression.effects.machine import environment
from regression.session.bench import WORKERS, Unfinished, raise_unfinished
from toolkit.errors import UsageError
from toolkit.process import Command, WatchedProcess
from toolkit.progress import Reporter
from toolkit.python import Python

SCRIPTS = ("train", "batches", "scenes", "shapes_model", "outliers", "fake_quant", "progress_lines")
TIMEOUT = 3600.0
OWN_ITEMS = 64  # captions of the user's that become fixed tokens


@dataclass(frozen=True)
class Fixture:
    """A model's folder, its captions (one a line) and its questions.

    `calibration` are questions to calibrate on beside the captions, and `card` is what training measured; the user's
    own model has neither.
    """

    model: Path
    captions: Path
    items: Path
    calibration: Path | None
    card: dict[str, Any] | None

    @property
    def shape(self) -> str:
        """The model's type and size, from its configuration."""
        config = json.loads((self.model / "config.json").read_text())
        text = config.get("text_config", config)
        layers, size = text.get("num_hidden_layers"), text.get("hidden_size")
        return f"{config.get('model_type')}, {layers} layers of {size}, vocabulary {text.get('vocab_size')}"

    @property
    def files(self) -> tuple[Path, ...]:
        """Everything in it, folders and files."""
        return self.model.parent if self.card is not None else self.model, self.captions, self.items


@dataclass(frozen=True)
class Maker:
    """A maker of fixtures: into `cache`, by an environment with ModelOpt, on `device` with `cores` threads."""

    cache: StepCache
    python: Python
    reporter: Reporter
    device: str
    cores: int

    def fixture(self, model: Path | None, captions: Path | None, steps: int | None, seed: int) -> Fixture:
        """Return the user's model as a fixture, or else the shapes model, which is trained if it is not kept.

        Raises:
            UsageError: one of `model` and `captions` is missing, or one of their files.
            Unfinished: training was not finished, or the model has not learned its task.
        """
        if model is not None and captions is None and (model / "items.json").is_file():
            return read_fixture(model)
        if (model is None) != (captions is None):
            raise UsageError(
                "--model and --captions go together",
                remedy="give both, or neither for the shapes model; a folder that make-model wrote needs no captions",
            )
        if model is not None and captions is not None:
            return _own(self.cache, model, captions)
        extra = ["--steps", str(steps)] if steps is not None else []
        card, folder = self._write("train", "train the shapes model", "steps", extra, seed)
        return replace(read_fixture(folder), card=card)

    def large(self, layers: int | None, seed: int) -> Fixture:
        """Return a fixture with a random model of Qwen2.5-VL-3B's shape; `layers` of its decoder's 36, or all of them.

        Raises:
            Unfinished: it was not finished.
        """
        extra = ["--layers", str(layers)] if layers is not None else []
        _, folder = self._write("large", "write the random model", "tensors", extra, seed)
        return read_fixture(folder)

    def _write(self, script: str, title: str, unit: str, extra: list[str], seed: int) -> tuple[dict[str, Any], Path]:
        """Return a script's card, and the folder of the fixture that it wrote."""
        options = ["--seed", str(seed), "--device", self.device, *extra]
        inputs = {
            "scripts": digest(*(WORKERS / f"{name}.py" for name in (*SCRIPTS, *({script} - {*SCRIPTS})))),
            "versions": {name: self.python.versions.get(name) for name in ("torch", "transformers", "numpy")},
            "options": options,
        }

        def work(folder: Path) -> dict[str, Any]:
            log = folder / "log.txt"
            arguments = [str(self.python.path), str(WORKERS / f"{script}.py"), str(folder / "fixture"), *options]
            env = environment(OMP_NUM_THREADS=str(self.cores), OMP_WAIT_POLICY="PASSIVE")
            command = Command(arguments, env, folder, log, TIMEOUT)
            with self.reporter.task(title, None, unit) as task, WatchedProcess(command, task.update) as process:
                end = process.wait()
            raise_unfinished(title, end, TIMEOUT, log)
            if not end.succeeded:
                lines = end.tail.strip().splitlines() or [""]
                raise Unfinished(f"{title}: {lines[-1]}", remedy=f"{log} has all of its output")
            card = folder / "fixture/card.json"
            measurements: dict[str, Any] = json.loads(card.read_text()) if card.is_file() else {}
            return {**measurements, "seconds": end.seconds, "peak bytes": end.peak}

        card = self.cache.run("fixture", inputs, work)
        return card, self.cache.path("fixture", inputs) / "fixture"


def read_fixture(folder: Path) -> Fixture:
    """Return a fixture that `regression make-model --out` wrote, of this version or an earlier one.

    Raises:
        UsageError: something of it is not there.
    """
    folder = folder.absolute()
    # Earlier versions wrote lessons.json.
    names = ("calibration.json", "lessons.json")
    calibration = next((folder / name for name in names if (folder / name).is_file()), None)
    card = json.loads((folder / "card.json").read_text()) if (folder / "card.json").is_file() else None
    fixture = Fixture(folder / "model", folder / "captions.txt", folder / "items.json", calibration, card)
    for file in (fixture.model / "config.json", fixture.captions, fixture.items):
        if not file.is_file():
            raise UsageError(f"{file} is not there", remedy="make the model anew: `regression make-model --out DIR`")
    return fixture


def _own(cache: StepCache, model: Path, captions: Path) -> Fixture:
    """Return a fixture of the user's model: its captions calibrate, and the first of them are the fixed tokens.

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
    folder = cache.path("captions", {"captions": digest(captions)})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "items.json").write_text(json.dumps(items))
    return Fixture(model.absolute(), captions.absolute(), folder / "items.json", None, None)


def _continued(caption: str) -> dict[str, object]:
    """Return an item that asks for a caption to be continued after its first words."""
    words = caption.split(" ")
    head = " ".join(words[: max(1, len(words) // 3)])
    return {"prompt": head, "question": "", "image": None, "answer": caption[len(head) :] or "."}
