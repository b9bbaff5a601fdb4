"""Quantize a model with ModelOpt, export it, and write down what it says: `quantize.py FOLDER JOB`.

JOB is a JSON object: `model`, `items`, `captions`, `lessons` (items to calibrate on too, or null), `samples` (captions
at most), `format` (int8_sq, fp8), `kv` (auto, fp8), `dtype`, `limit` (items at most), `foldable`, `vision` (true
quantizes the vision tower too: a defect). FOLDER gets `checkpoint/`, `said.json`, and `logprobs.npy` as serve.py writes
it, from ModelOpt's fake quantization: after export has made fused layers share their scales, before it packs the
weights.
"""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import copy
import json
import os
import resource
import shutil
import sys
import time
from pathlib import Path
from typing import Any
from unittest import mock

import modelopt.torch.quantization as mtq
import numpy
import torch
from modelopt.torch.export import export_hf_checkpoint, unified_export_hf

import foldable
from asking import Item, open_picture, read_items
from telling import progress

CONFIGS = {"int8_sq": "INT8_SMOOTHQUANT_CFG", "fp8": "FP8_DEFAULT_CFG"}
DATA_SET = "coco2017_captions_local"
# What serving needs beside the weights and save_pretrained does not write.
PROCESSOR = ("preprocessor_config.json", "video_preprocessor_config.json", "chat_template*", "*token*", "vocab.json")


class Asked:
    """The kit's questions as the model's keyword arguments."""

    def __init__(self, job: dict[str, Any]) -> None:
        from transformers import AutoTokenizer

        self.folder = Path(job["model"])
        self.tokens = AutoTokenizer.from_pretrained(self.folder)
        self.items = read_items(Path(job["items"]), self.tokens)[: job["limit"]]
        self.pad = self.tokens.convert_tokens_to_ids("<|image_pad|>")

    def inputs(self, item: Item) -> dict[str, Any]:
        """Return the arguments for a question with its answer."""
        ids = item.prompt + item.answer
        if item.picture is None:
            return {"input_ids": torch.tensor([ids])}
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

        processor = Qwen2VLImageProcessorPil.from_pretrained(self.folder)
        shown = dict(processor(images=[open_picture(item.picture)], return_tensors="pt"))
        count = int(shown["image_grid_thw"].prod()) // processor.merge_size**2
        ids = [token for one in ids for token in [one] * (count if one == self.pad else 1)]
        row = torch.tensor([ids])
        return {"input_ids": row, "mm_token_type_ids": (row == self.pad).int(), **shown}

    @torch.no_grad()
    def logprobs(self, model: Any) -> numpy.ndarray[Any, Any]:
        """Return the log-probabilities of all answers' tokens, [tokens, vocabulary], fp32."""
        rows = []
        for item in self.items:
            inputs = {name: value.to(model.device) for name, value in self.inputs(item).items()}
            logits = model(**inputs).logits[0, -len(item.answer) - 1 : -1]
            rows.append(logits.float().log_softmax(-1).cpu().numpy())
        return numpy.concatenate(rows)


def captions(job: dict[str, Any]) -> list[str]:
    """Return the calibration captions, through ModelOpt's own data set of that name."""
    from modelopt.torch.utils.dataset_utils import get_dataset_samples

    os.environ["COCO2017_CAPTIONS_LOCAL_PATH"] = job["captions"]
    found: list[str] = get_dataset_samples(DATA_SET, job["samples"])
    return found


def configuration(job: dict[str, Any]) -> dict[str, Any]:
    """Return ModelOpt's configuration; the vision tower is left alone, by the last rule."""
    config = copy.deepcopy(getattr(mtq, CONFIGS[job["format"]]))
    if job["kv"] == "fp8":
        config = mtq.utils.update_quant_cfg_with_kv_cache_quant(config, mtq.FP8_KV_CFG["quant_cfg"])
    # ModelOpt's own rule for it stands before those of the KV cache, which may turn it on again.
    rules = [rule for rule in config["quant_cfg"] if rule["quantizer_name"] != "*visual*"]
    config["quant_cfg"] = rules if job.get("vision") else [*rules, {"quantizer_name": "*visual*", "enable": False}]
    made: dict[str, Any] = config
    return made


def quantize(model: Any, asked: Asked, job: dict[str, Any]) -> None:
    """Calibrate and quantize `model` in place."""
    lines = captions(job)
    lessons = read_items(Path(job["lessons"]), asked.tokens) if job["lessons"] else []

    def calibrate(model: Any) -> None:
        for number, line in enumerate(lines, 1):
            model(input_ids=asked.tokens(line, return_tensors="pt")["input_ids"].to(model.device))
            if number % 16 == 0:
                progress(number, len(lines), "captions")
        for item in lessons:
            model(**{name: value.to(model.device) for name, value in asked.inputs(item).items()})

    mtq.quantize(model, configuration(job), calibrate)
    if job.get("foldable"):
        foldable.make(model, calibrate)


def export(model: Any, asked: Asked, folder: Path) -> numpy.ndarray[Any, Any]:
    """Write the checkpoint, and return the reference."""
    found: list[numpy.ndarray[Any, Any]] = []
    share_scales = unified_export_hf.requantize_resmooth_fused_llm_layers

    def then_ask(quantized: Any) -> None:
        share_scales(quantized)
        found.append(asked.logprobs(quantized))

    with mock.patch.object(unified_export_hf, "requantize_resmooth_fused_llm_layers", then_ask):
        export_hf_checkpoint(model, export_dir=folder)
    for pattern in PROCESSOR:
        for file in sorted(asked.folder.glob(pattern)):
            shutil.copy2(file, folder / file.name)
    (reference,) = found
    return reference


def main() -> None:
    """Quantize, export, write the reference."""
    from transformers import AutoModelForImageTextToText

    folder, job = Path(sys.argv[1]), json.loads(sys.argv[2])
    torch.manual_seed(0)
    asked = Asked(job)
    model = AutoModelForImageTextToText.from_pretrained(job["model"], dtype=getattr(torch, job["dtype"])).eval()
    model = model.to(job["device"])
    begin = time.perf_counter()
    quantize(model, asked, job)
    seconds = time.perf_counter() - begin
    found = export(model, asked, folder / "checkpoint")
    numpy.save(folder / "logprobs.npy", found)
    said = {"quantize seconds": seconds, "peak bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
    if not numpy.isfinite(found).all():
        sys.exit("the quantized model's log-probabilities are not finite")
    (folder / "said.json").write_text(json.dumps(said) + "\n")


if __name__ == "__main__":
    main()
