"""Quantize models, export them, and write down what they say: `quantize.py JOBS`, all in one process.

JOBS is a JSON list of objects: those of quantize/worker.py, which does the work, with `folder` (where the answer
goes), `items`, `limit` (items at most), `lessons` (items to calibrate on too, or null), and what a scenario may want to
be otherwise:

    foldable  smoothing by powers of two
    mixed     the MLPs get 4-bit weights, a format of their own
    whole     the whole model is quantized, not the language model alone; only ModelOpt's rules spare the vision tower
    vision    the vision tower is quantized too: a defect
    asleep    an input channel of the first down_proj is zero, whatever is said

Each folder gets `checkpoint/`, `said.json`, and `logprobs.npy` as serve.py writes it, from ModelOpt's fake
quantization: after export has made fused layers share their scales, before it packs the weights; or `error.txt`.
"""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import json
import random
import sys
import time
import traceback
from pathlib import Path
from typing import Any
from unittest import mock

import modelopt.torch.opt as mto
import numpy
import torch
from modelopt.torch.export import unified_export_hf

import foldable
from asking import Item, open_picture, read_items
from telling import Peak, Steps, beyond_help

sys.path.insert(0, str(Path(__file__).parents[1] / "quantize"))
import worker

FOUR_BITS = {"quantizer_name": "*mlp*weight_quantizer", "cfg": {"num_bits": 4, "block_sizes": {-1: 128}}}


class Asked:
    """The kit's questions as the model's keyword arguments."""

    def __init__(self, job: dict[str, Any], tokens: Any) -> None:
        self.folder = Path(job["model"])
        self.items = read_items(Path(job["items"]), tokens)[: job["limit"]]
        self.lessons = read_items(Path(job["lessons"]), tokens) if job["lessons"] else []
        self.pad = tokens.convert_tokens_to_ids("<|image_pad|>")

    def inputs(self, item: Item, device: Any) -> dict[str, Any]:
        """Return the arguments for a question with its answer."""
        ids = item.prompt + item.answer
        if item.picture is None:
            return {"input_ids": torch.tensor([ids]).to(device)}
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

        processor = Qwen2VLImageProcessorPil.from_pretrained(self.folder)
        shown = dict(processor(images=[open_picture(item.picture)], return_tensors="pt"))
        count = int(shown["image_grid_thw"].prod()) // processor.merge_size**2
        ids = [token for one in ids for token in [one] * (count if one == self.pad else 1)]
        row = torch.tensor([ids])
        made = {"input_ids": row, "mm_token_type_ids": (row == self.pad).int(), **shown}
        return {name: value.to(device) for name, value in made.items()}

    @torch.no_grad()
    def logprobs(self, model: Any, steps: Steps) -> numpy.ndarray[Any, Any]:
        """Return the log-probabilities of all answers' tokens, [tokens, vocabulary], fp32."""
        rows = []
        for number, item in enumerate(self.items, 1):
            logits = model(**self.inputs(item, model.device)).logits[0, -len(item.answer) - 1 : -1]
            rows.append(logits.float().log_softmax(-1).cpu().numpy())
            steps.part(number, 2 * len(self.items))
        return numpy.concatenate(rows)


def configuration(job: dict[str, Any], usual: Any = worker.configuration) -> dict[str, Any]:
    """Return the worker's configuration with what the job wants otherwise."""
    config: dict[str, Any] = usual(job)
    if job["mixed"]:
        config["quant_cfg"].append(FOUR_BITS)
    if job["vision"]:
        config["quant_cfg"] = [rule for rule in config["quant_cfg"] if rule["quantizer_name"] != "*visual*"]
    return config


def put_to_sleep(model: Any) -> None:
    """Make an input channel of the first down_proj zero: up_proj's row of weights is."""
    up = model.model.language_model.layers[0].mlp.up_proj
    up.weight.data[0] = 0
    if up.bias is not None:
        up.bias.data[0] = 0


def quantize(model: Any, tokens: Any, asked: Asked, job: dict[str, Any]) -> None:
    """Calibrate and quantize `model` in place."""

    def lessons() -> None:
        with torch.no_grad():
            for item in asked.lessons:
                model(**asked.inputs(item, model.device))

    spared = worker.language_model if not (job["whole"] or job["vision"]) else lambda whole: whole
    with (
        mock.patch.object(worker, "configuration", configuration),
        mock.patch.object(worker, "language_model", spared),
    ):
        shown = worker.quantize(model, tokens, job, lessons)
    if job["foldable"]:
        foldable.make(model, shown)


def export(model: Any, asked: Asked, job: dict[str, Any], steps: Steps) -> numpy.ndarray[Any, Any]:
    """Write the checkpoint, and return the reference."""
    found: list[numpy.ndarray[Any, Any]] = []
    share_scales = unified_export_hf.requantize_resmooth_fused_llm_layers

    def then_ask(quantized: Any) -> None:
        share_scales(quantized)
        found.append(asked.logprobs(quantized, steps))

    with mock.patch.object(unified_export_hf, "requantize_resmooth_fused_llm_layers", then_ask):
        worker.export(model, job)
    (reference,) = found
    return reference


def run(job: dict[str, Any], steps: Steps) -> None:
    """Quantize one model, export it, write the reference."""
    folder, peak, begin = Path(job["folder"]), Peak(job["device"]), time.perf_counter()
    job = {**job, "out": str(folder / "checkpoint")}
    random.seed(job["seed"])
    numpy.random.seed(job["seed"])
    torch.manual_seed(job["seed"])
    model, tokens = worker.load_model(job), worker.load_tokenizer(job)
    if job["asleep"]:
        put_to_sleep(model)
    asked = Asked(job, tokens)
    started = time.perf_counter()
    quantize(model, tokens, asked, job)
    seconds = time.perf_counter() - started
    found = export(model, asked, job, steps)
    worker.save_processor(job, tokens)
    if not numpy.isfinite(found).all():
        raise ValueError("the quantized model's log-probabilities are not finite")
    numpy.save(folder / "logprobs.npy", found)
    said = {"quantize seconds": seconds, "peak bytes": peak.bytes(), "seconds": time.perf_counter() - begin}
    (folder / "said.json").write_text(json.dumps(said) + "\n")


def main() -> None:
    """Do all jobs; what goes wrong with one is told in its folder."""
    # The worker's own progress has no pipe here.
    worker.tell = lambda **_: None
    mto.enable_huggingface_checkpointing()
    jobs = json.loads(sys.argv[1])
    steps = Steps(len(jobs))
    for job in jobs:
        try:
            run(job, steps)
        except Exception as error:
            if beyond_help(error):
                raise
            (Path(job["folder"]) / "error.txt").write_text(traceback.format_exc())
            traceback.print_exc()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        steps.next()


if __name__ == "__main__":
    main()
