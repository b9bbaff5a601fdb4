"""Quantize and export a model with ModelOpt: `worker.py JOB PIPE`, by an interpreter that has ModelOpt.

It imports nothing of this project. JOB is job.py's in JSON. Progress goes to the file descriptor PIPE, a JSON object
a line: `{"task", "total", "unit"}` opens a task, `{"done"}` is its progress, `{"result"}` ends the work.

The steps are those of ModelOpt's examples/hf_ptq/hf_ptq.py, so that the checkpoint is the same, tensor for tensor: of a
vision-language model only the language model is quantized, the rest is marked as left alone. Each step is a function
that takes all that it depends on, so that another worker can replace a part of it, as `main` puts them together.
"""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import copy
import itertools
import json
import os
import random
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

TRIAL = 16  # tokens that the quantized model generates before it is exported
IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
# A forward loop of ModelOpt: it runs the calibration data through the model that it gets.
Loop = Callable[[Any], None]


class ProgressPipe:
    """Lines of progress for the file descriptor `pipe`; without one they go nowhere."""

    def __init__(self, pipe: int | None = None) -> None:
        self.pipe = pipe

    def send(self, **values: Any) -> None:
        if self.pipe is not None:
            os.write(self.pipe, (json.dumps(values) + "\n").encode())


class Counted:
    """A data loader that reports its progress each time that it is gone through."""

    def __init__(self, loader: Any, progress: ProgressPipe, unit: str) -> None:
        self.loader = loader
        self.progress = progress
        self.unit = unit

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        self.progress.send(task="calibrate", total=len(self), unit=self.unit)
        for number, batch in enumerate(self.loader, 1):
            yield batch
            self.progress.send(done=number)


def load_model(job: dict[str, Any]) -> Any:
    """Return the model as its own class loads it, in the job's `dtype` or else the checkpoint's."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(job["model"])
    architecture = (config.architectures or ["AutoModelForCausalLM"])[0]
    kind = getattr(transformers, architecture, transformers.AutoModelForCausalLM)
    older = tuple(map(int, transformers.__version__.split(".")[:2])) < (4, 56)
    options = {"torch_dtype" if older else "dtype": job.get("dtype", "auto")}
    model = kind.from_pretrained(job["model"], device_map=job["device"], **options)
    return model.eval()


def load_tokenizer(job: dict[str, Any]) -> Any:
    """Return the tokenizer, padding on the left with the end of text, as hf_ptq.py has it."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    if tokenizer.pad_token != "<unk>":  # noqa: S105, the name of a token
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "left"
    return tokenizer


def language_model(model: Any) -> Any:
    """Return the part that is quantized; what stands beside it is marked as left alone, for the export."""
    import modelopt.torch.quantization as mtq
    from modelopt.torch.export.model_utils import get_language_model_from_vl

    lineage = get_language_model_from_vl(model)
    if lineage is None:
        return model
    *ancestors, language = lineage
    listed = isinstance(mtq.FP8_DEFAULT_CFG["quant_cfg"], list)  # before 0.43 it is a dictionary
    nothing = [{"quantizer_name": "*", "enable": False}] if listed else {"default": {"enable": False}}
    seen = {*ancestors, language}
    for ancestor in ancestors:
        for module in ancestor.children():
            if module not in seen:
                mtq.quantize(module, {"quant_cfg": nothing, "algorithm": "max"}, forward_loop=None)
                seen.add(module)
    return language


def configuration(job: dict[str, Any]) -> dict[str, Any]:
    """Return ModelOpt's configuration of the format and the KV cache."""
    import modelopt.torch.quantization as mtq

    config: dict[str, Any] = copy.deepcopy(getattr(mtq, job["config"]))
    if job["cache_config"]:
        cache = copy.deepcopy(getattr(mtq, job["cache_config"])["quant_cfg"])
        config = mtq.utils.update_quant_cfg_with_kv_cache_quant(config, cache)
    if job["alpha"] is not None:
        config["algorithm"] = {"method": "smoothquant", "alpha": job["alpha"]}
    return config


def calibration(job: dict[str, Any], model: Any, tokenizer: Any, progress: ProgressPipe) -> Loop:
    """Return the loop over the job's calibration data: its images with captions, or its captions alone."""
    if job["images"]:
        return _image_loop(job, model, progress)
    device = model.model.device if hasattr(model, "model") else model.device
    return _text_loop(job, tokenizer, device, progress)


def _text_loop(job: dict[str, Any], tokenizer: Any, device: Any, progress: ProgressPipe) -> Loop:
    """Return a loop over the captions."""
    from modelopt.torch.utils.dataset_utils import create_forward_loop, get_dataset_dataloader

    os.environ["COCO2017_CAPTIONS_LOCAL_PATH"] = job["captions"]
    loader = get_dataset_dataloader(
        dataset_name=["coco2017_captions_local"],
        tokenizer=tokenizer,
        batch_size=job["batch"],
        num_samples=[job["samples"]],
        max_sample_length=job["length"],
        device=device,
    )
    loop: Loop = create_forward_loop(dataloader=Counted(loader, progress, "batches"))
    return loop


def _image_loop(job: dict[str, Any], model: Any, progress: ProgressPipe) -> Loop:
    """Return a loop over images with captions, one at a time, through the whole model."""
    import torch
    from modelopt.torch.utils import dataset_utils
    from PIL import Image
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(job["model"])
    files = sorted(path for path in Path(job["images"]).iterdir() if path.suffix.lower() in IMAGES)[: job["samples"]]
    samples = getattr(dataset_utils, "get_dataset_samples", None) or dataset_utils._get_dataset_samples
    os.environ["COCO2017_CAPTIONS_LOCAL_PATH"] = job["captions"]
    pairs = list(zip(files, itertools.cycle(samples("coco2017_captions_local", len(files))), strict=False))

    def loop(_: Any) -> None:
        for file, caption in Counted(pairs, progress, "images"):
            content = [{"type": "image"}, {"type": "text", "text": caption}]
            text = f"<|vision_start|><|image_pad|><|vision_end|>{caption}"
            if getattr(processor, "chat_template", None):
                text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
            with Image.open(file) as image:
                batch = processor(images=[image.convert("RGB")], text=[text], return_tensors="pt").to(model.device)
            with torch.no_grad():
                model(**batch, use_cache=False)

    return loop


def try_out(model: Any, job: dict[str, Any], tokenizer: Any) -> None:
    """Let the quantized model continue a caption: a model with NaN in its logits is not worth exporting.

    Raises:
        FloatingPointError: a logit is NaN or infinite.
    """
    with Path(job["captions"]).open(encoding="utf-8") as lines:
        caption = next(line.strip() for line in lines if line.strip())
    prompt = tokenizer(caption, truncation=True, max_length=job["length"], return_tensors="pt").to(model.device)
    output = model.generate(
        input_ids=prompt["input_ids"],
        attention_mask=prompt["attention_mask"],
        min_new_tokens=TRIAL,
        max_new_tokens=TRIAL,
        do_sample=False,
        return_dict_in_generate=True,
        output_logits=True,
    )
    bad = sum(not bool(logits.isfinite().all()) for logits in output.logits)
    if bad:
        raise FloatingPointError(f"the quantized model has NaN or infinity in {bad} of {TRIAL} tokens' logits")


def export(
    model: Any, folder: Path, progress: ProgressPipe, before_packing: Callable[[Any], None] | None = None
) -> None:
    """Write the checkpoint, with a line of progress for each layer that is packed.

    `before_packing` gets the model when fused layers share their scales and before the weights are packed: it is then
    the fake-quantized model of the checkpoint.
    """
    import torch
    from modelopt.torch.export import export_hf_checkpoint, unified_export_hf
    from modelopt.torch.quantization.utils import is_quantized_linear

    total = sum(is_quantized_linear(module) and module.weight_quantizer.is_enabled for module in model.modules())
    progress.send(task="export", total=total, unit="layers")
    packed = 0

    def count(*_: Any) -> None:
        nonlocal packed
        packed += 1
        if packed <= total:
            progress.send(done=packed)

    share_scales = "requantize_resmooth_fused_llm_layers"
    with (
        _followed(unified_export_hf, share_scales, before_packing) if before_packing is not None else nullcontext(),
        _followed(unified_export_hf, "_export_quantized_weight", count),
        torch.no_grad(),
    ):
        export_hf_checkpoint(model, export_dir=str(folder))


@contextmanager
def _followed(module: Any, name: str, after: Callable[..., None]) -> Iterator[None]:
    """Let `after` follow a function of ModelOpt, which has no hook there; it gets the same positional arguments."""
    function = getattr(module, name)

    def both(*arguments: Any, **options: Any) -> Any:
        result = function(*arguments, **options)
        after(*arguments)
        return result

    setattr(module, name, both)
    try:
        yield
    finally:
        setattr(module, name, function)


def save_processor(job: dict[str, Any], tokenizer: Any) -> None:
    """Write tokenizer and processor; what lies beside the source's weights wins, as in hf_ptq.py."""
    import shutil

    out = Path(job["out"])
    tokenizer.save_pretrained(out)
    source = Path(job["model"])
    for pattern in ("*processor*.json", "*.jinja", "tokenizer*", "vocab*", "merges.txt", "added_tokens.json"):
        for file in source.glob(pattern) if source.is_dir() else ():
            shutil.copy2(file, out / file.name)
    if not source.is_dir():
        from transformers import AutoProcessor

        AutoProcessor.from_pretrained(job["model"]).save_pretrained(out)


def main() -> None:
    """Do the job."""
    job, progress = json.loads(sys.argv[1]), ProgressPipe(int(sys.argv[2]))
    progress.send(task="load ModelOpt and the model")
    began = time.monotonic()
    import modelopt
    import modelopt.torch.opt as mto
    import modelopt.torch.quantization as mtq
    import numpy
    import torch

    mto.enable_huggingface_checkpointing()
    random.seed(job["seed"])
    numpy.random.seed(job["seed"])
    model, tokenizer = load_model(job), load_tokenizer(job)
    seconds = {"load": time.monotonic() - began}

    def lap(step: str) -> None:
        seconds[step] = time.monotonic() - began - sum(seconds.values())

    part, config = language_model(model), configuration(job)
    mtq.quantize(part, config, forward_loop=calibration(job, model, tokenizer, progress))
    lap("calibrate")
    progress.send(task="try the quantized model")
    try_out(model, job, tokenizer)
    lap("try")
    export(model, Path(job["out"]), progress)
    save_processor(job, tokenizer)
    lap("export")
    gpu = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    peaks = {"peak_gpu_bytes": gpu, "peak_host_bytes": host}
    progress.send(result={"modelopt": modelopt.__version__, "seconds": seconds, **peaks})


if __name__ == "__main__":
    main()
