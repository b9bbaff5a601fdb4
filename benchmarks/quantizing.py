"""Measure `checkpoint quantize` on a random Qwen2.5-VL of 3B's size: time by step, peak memory, and the check.

    python benchmarks/quantizing.py                       INT8 + FP8 KV, FP8 + FP8 KV; 4096 captions of COCO's length
    python benchmarks/quantizing.py --words 150           captions that fill the 512 tokens
    python benchmarks/quantizing.py --tiny --device cpu   a dry run without a GPU
    python benchmarks/quantizing.py --out results.json

Needs the patched ModelOpt, torch, accelerate and transformers in the environment, 20 GB in --folder, and a GPU with
24 GB. The model has the shape of Qwen2.5-VL-3B-Instruct, with the output head tied to the embeddings as there, and a
tokenizer that has a token for each byte: a caption has about four times as many tokens as with Qwen's own. Each
format is quantized in a process of its own, which generates 16 tokens before the export (`try`: all logits must be
finite) and checks the checkpoint afterwards (`check`).
"""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests/series/vllm")]
WORDS = (
    "a the man woman child dog cat horse bus train street table plate pizza umbrella skateboard tennis racket kitchen "
    "bathroom standing sitting riding holding looking next to in front of on top with red white black large small"
)
GIB = 2**30


def build(folder: Path, small: bool, device: str) -> None:
    """Write the model in bf16, with its tokenizer and processor."""
    import serving_model
    import tiny
    import torch
    import transformers as hf

    config = serving_model.config(small)
    config.tie_word_embeddings = config.text_config.tie_word_embeddings = True
    torch.manual_seed(0)
    with torch.device(device):
        model = hf.AutoModelForImageTextToText.from_config(config, dtype=torch.bfloat16).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "layernorm" in name and "visual" not in name:
                # Channels of different ranges, which smoothing evens out.
                parameter.copy_((torch.randn_like(parameter) * 0.7).exp())
    model.config.architectures = [type(model).__name__]
    model.save_pretrained(folder)
    tiny.write_processor("qwen2_5_vl", folder)


def write_captions(file: Path, count: int, words: int) -> None:
    """Write random captions; COCO's have 8 to 15 words."""
    draw = random.Random(0)
    vocabulary = WORDS.split()
    lengths = (draw.randint(round(words * 0.8), round(words * 1.5)) for _ in range(count))
    file.write_text("".join(" ".join(draw.choices(vocabulary, k=length)) + ".\n" for length in lengths))


def quantize(arguments: argparse.Namespace, folder: Path, name: str) -> dict[str, Any]:
    """Quantize to one format and return its figures."""
    out = folder / name
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "checkpoint", "quantize", str(folder / "model"), str(out), "--format", name]
    command += ["--captions", str(folder / "captions.txt"), "--calib-size", str(arguments.size), "--json"]
    command += ["--batch-size", str(arguments.batch), "--device", arguments.device]
    began = time.perf_counter()
    # The progress goes to standard error.
    process = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if process.returncode:
        raise SystemExit(process.stdout)
    result: dict[str, Any] = json.loads(process.stdout)
    seconds = result["seconds"]
    total = time.perf_counter() - began
    size = sum(file.stat().st_size for file in out.glob("*.safetensors"))
    return {
        "modelopt": result["modelopt"],
        "seconds": {**seconds, "check": total - sum(seconds.values()), "total": total},
        **{key: result[key] for key in ("peak_gpu_bytes", "peak_host_bytes")},
        "weights_bytes": size,
        "check": {key: result["check"][key] for key in ("good", "algo", "cache", "quantized")},
    }


def show(results: dict[str, Any]) -> None:
    """Print a Markdown table."""
    steps = ("load", "calibrate", "try", "export", "check", "total")
    print("| format |", " | ".join(f"{step}, s" for step in steps), "| GPU, GiB | host, GiB | weights, GiB | good |")
    print("|---" * (len(steps) + 5) + "|")
    for name, figures in results["formats"].items():
        cells = [f"{figures['seconds'][step]:.1f}" for step in steps]
        cells += [f"{figures[key] / GIB:.1f}" for key in ("peak_gpu_bytes", "peak_host_bytes", "weights_bytes")]
        print("|", " | ".join([name, *cells, "yes" if figures["check"]["good"] else "no"]), "|")


def main() -> None:
    """Build the model, quantize it to each format, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--formats", default="int8_sq,fp8", help="as for `checkpoint quantize`  [%(default)s]")
    parser.add_argument("--size", type=int, default=4096, help="captions  [%(default)s]")
    parser.add_argument("--words", type=int, default=10, help="words of a caption, about  [%(default)s]")
    parser.add_argument("--batch", type=int, default=16, help="captions in a batch  [%(default)s]")
    parser.add_argument("--device", default="cuda", help="cuda or cpu  [%(default)s]")
    parser.add_argument("--tiny", action="store_true", help="a tiny model")
    parser.add_argument("--folder", type=Path, help="folder of the models; an existing one is used again  [temporary]")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--build", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.build:  # a process of its own, so that the GPU is empty afterwards
        build(arguments.folder / "model", arguments.tiny, arguments.device)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        if not (folder / "model/config.json").exists():
            subprocess.run([sys.executable, __file__, "--build", "--folder", folder, *sys.argv[1:]], check=True)
        write_captions(folder / "captions.txt", arguments.size, arguments.words)
        results: dict[str, Any] = {"hardware": hardware(arguments.device), "formats": {}}
        results |= {key: getattr(arguments, key) for key in ("size", "words", "batch", "tiny")}
        for name in arguments.formats.split(","):
            results["formats"][name] = quantize(arguments, folder, name)
            if arguments.out:  # after each format, in case that a later one fails
                arguments.out.write_text(json.dumps(results, indent=1) + "\n")
            show(results)


def hardware(device: str) -> dict[str, Any]:
    """Return the device and the versions of the libraries."""
    import torch
    import transformers

    card = torch.cuda.get_device_name() if device.startswith("cuda") else f"{os.cpu_count()} CPUs"
    return {"device": card, "torch": torch.__version__, "transformers": transformers.__version__}


if __name__ == "__main__":
    main()
