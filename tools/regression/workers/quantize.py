"""Quantize models, export them, and compute their references: `quantize.py JOBS`, all in one process.

JOBS is a JSON list of objects: those of `checkpoint quantize`'s worker, which has to be on the path, with `folder`
(where the answer goes), `items`, `limit` (items at most), `calibration` (items to calibrate on too, or null), and the
properties of a scenario:

    foldable      smoothing by powers of two
    mixed         the MLPs get 4-bit weights, a format of their own
    whole         the whole model is quantized, not the language model alone; ModelOpt's rules spare the vision tower
    vision        the vision tower is quantized too: a defect
    dead channel  an input channel of the first down_proj is zero, whatever the prompt

Each folder gets `checkpoint/`, `output.json`, and `logprobs.npy` as serve.py writes it, from ModelOpt's fake
quantization: after export has let fused layers share their scales, before it packs the weights; or `error.txt`.
"""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import modelopt.torch.opt as mto
import modelopt.torch.quantization as mtq
import numpy
import torch
import worker

import foldable
from items import Item, open_image, tokenize_items
from progress_lines import Peak, StepProgress, do_jobs

FOUR_BITS = {"quantizer_name": "*mlp*weight_quantizer", "cfg": {"num_bits": 4, "block_sizes": {-1: 128}}}


class Prompts:
    """The fixture's questions as the model's keyword arguments."""

    def __init__(self, job: dict[str, Any], tokenizer: Any) -> None:
        self.folder = Path(job["model"])
        self.items = tokenize_items(Path(job["items"]), tokenizer)[: job["limit"]]
        self.calibration = tokenize_items(Path(job["calibration"]), tokenizer) if job["calibration"] else []
        self.pad = tokenizer.convert_tokens_to_ids("<|image_pad|>")

    def inputs(self, item: Item, device: Any) -> dict[str, Any]:
        """Return the arguments for a question with its answer."""
        ids = item.prompt + item.answer
        if item.image is None:
            return {"input_ids": torch.tensor([ids]).to(device)}
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

        processor = Qwen2VLImageProcessorPil.from_pretrained(self.folder)
        pixels = dict(processor(images=[open_image(item.image)], return_tensors="pt"))
        count = int(pixels["image_grid_thw"].prod()) // processor.merge_size**2
        ids = [token for one in ids for token in [one] * (count if one == self.pad else 1)]
        row = torch.tensor([ids])
        values = {"input_ids": row, "mm_token_type_ids": (row == self.pad).int(), **pixels}
        return {name: value.to(device) for name, value in values.items()}

    @torch.no_grad()
    def calibrate(self, model: Any) -> None:
        """Run the calibration items through the model."""
        for item in self.calibration:
            model(**self.inputs(item, model.device))

    @torch.no_grad()
    def logprobs(self, model: Any, steps: StepProgress) -> numpy.ndarray[Any, Any]:
        """Return the log-probabilities of all answers' tokens, [tokens, vocabulary], fp32."""
        rows = []
        for number, item in enumerate(self.items, 1):
            logits = model(**self.inputs(item, model.device)).logits[0, -len(item.answer) - 1 : -1]
            rows.append(logits.float().log_softmax(-1).cpu().numpy())
            steps.part(number, 2 * len(self.items))
        return numpy.concatenate(rows)


def configuration(job: dict[str, Any]) -> dict[str, Any]:
    """Return ModelOpt's configuration of the job."""
    config: dict[str, Any] = worker.configuration(job)
    if job["mixed"]:
        config["quant_cfg"].append(FOUR_BITS)
    if job["vision"]:
        config["quant_cfg"] = [rule for rule in config["quant_cfg"] if rule["quantizer_name"] != "*visual*"]
    return config


def zero_channel(model: Any) -> None:
    """Make an input channel of the first down_proj zero: up_proj's row of weights is."""
    up = model.model.language_model.layers[0].mlp.up_proj
    up.weight.data[0] = 0
    if up.bias is not None:
        up.bias.data[0] = 0


def quantize(job: dict[str, Any], steps: StepProgress) -> dict[str, Any]:
    """Quantize one model, export it, write the reference; return the seconds and the memory."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    folder, peak, begin = Path(job["folder"]), Peak(job["device"]), time.perf_counter()
    job = {**job, "out": str(folder / "checkpoint")}
    random.seed(job["seed"])
    numpy.random.seed(job["seed"])
    torch.manual_seed(job["seed"])
    model, tokenizer, progress = worker.load_model(job), worker.load_tokenizer(job), worker.ProgressPipe()
    if job["dead channel"]:
        zero_channel(model)
    part = model if job["whole"] or job["vision"] else worker.language_model(model)
    prompts, captions = Prompts(job, tokenizer), worker.calibration(job, model, tokenizer, progress)

    def calibrate(part: Any) -> None:
        captions(part)
        prompts.calibrate(model)

    started = time.perf_counter()
    mtq.quantize(part, configuration(job), forward_loop=calibrate)
    if job["foldable"]:
        foldable.make_foldable(model, lambda: calibrate(part))
    seconds = time.perf_counter() - started
    references: list[numpy.ndarray[Any, Any]] = []
    worker.export(
        model, Path(job["out"]), progress, lambda quantized: references.append(prompts.logprobs(quantized, steps))
    )
    worker.save_processor(job, tokenizer)
    (reference,) = references
    if not numpy.isfinite(reference).all():
        raise ValueError("the quantized model's log-probabilities are not finite")
    numpy.save(folder / "logprobs.npy", reference)
    return {"quantize seconds": seconds, "peak bytes": peak.bytes(), "seconds": time.perf_counter() - begin}


if __name__ == "__main__":
    mto.enable_huggingface_checkpointing()
    do_jobs(quantize)
