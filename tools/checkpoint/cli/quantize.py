"""`checkpoint quantize`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from checkpoint.formats import FORMATS, QUANTIZE_NAMES, by_name
from checkpoint.quantize.job import CACHES, QuantizeJob
from toolkit.errors import UsageError, VerifyFailed
from toolkit.extras import need

PATH = click.Path()
COUNT = click.IntRange(1)
CAPTIONS = "datasets/vlm-quantize-calib/coco2017_captions.txt"
VARIABLE = "COCO2017_CAPTIONS_LOCAL_PATH"
EPILOG = "\b\nFormats, by their names in hf_ptq.py:\n"
EPILOG += "".join(f"  {row.name:11}{row.title}\n" for row in FORMATS if row.name)
EPILOG += """
\b
Examples:
  checkpoint quantize Qwen/Qwen2.5-VL-3B-Instruct qwen-int8 --captions captions.txt
  checkpoint quantize ./Qwen2.5-VL-3B qwen-fp8 --format fp8 --images images/ --calib-size 256
  checkpoint quantize ./tiny out --device cpu --python .venv-modelopt/bin/python"""


@click.command("quantize", epilog=EPILOG, context_settings={"show_default": True})
@click.argument("model")
@click.argument("out", type=PATH)
@click.option("--format", "name", type=click.Choice(QUANTIZE_NAMES), default="int8_sq", help="Format; see below.")
@click.option("--kv-cache", type=click.Choice(list(CACHES)), default="fp8", help="Format of the KV cache.")
@click.option(
    "--captions", type=PATH, default=CAPTIONS, envvar=VARIABLE, show_envvar=True, help="Captions, one a line."
)
@click.option("--images", type=PATH, help="Folder of images, each calibrated with a caption.")
@click.option("--calib-size", "samples", type=COUNT, default=4096, help="Number of calibration samples.")
@click.option("--calib-seq", "length", type=COUNT, default=512, help="Longest sample, in tokens.")
@click.option("--batch-size", "batch", type=COUNT, default=16, help="Captions in a batch; an image has its own.")
@click.option("--device", default="auto", help="Device to run the model on: auto, cpu, cuda:0.")
@click.option("--alpha", type=click.FloatRange(0, 1), help="SmoothQuant's alpha.  [default: ModelOpt's, 1.0]")
@click.option("--python", type=PATH, help="Python that has ModelOpt.  [default: the one that runs this tool]")
@click.option("--unpatched", is_flag=True, help="Accept a ModelOpt that is not of this project's series.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for a program.")
def quantize_command(
    name: str, kv_cache: str, python: str | None, unpatched: bool, as_json: bool, **options: Any
) -> int:
    """Quantize MODEL with ModelOpt, export it to the folder OUT, and check the export.

    MODEL is a folder or a name on the Hugging Face hub. The checkpoint equals that of ModelOpt's hf_ptq.py, tensor for
    tensor, but the command needs only ModelOpt's wheel. Before the export the quantized model generates a few tokens;
    if a logit is NaN or infinite, nothing is exported. OUT appears when it is complete. Exit code 12 if the checkpoint
    breaks its format.
    """
    need("numpy", extra="checkpoint")
    from checkpoint.checks.check import check
    from checkpoint.cli.check import print_result
    from checkpoint.quantize.run import quantize, require_modelopt
    from toolkit.console import Terminal, print_json
    from toolkit.process import interrupt_on_termination

    interrupt_on_termination()
    form = by_name(name)
    if options["alpha"] is not None and not form.smoothquant:
        raise UsageError(f"--alpha is SmoothQuant's, and {name} has none")
    # Not resolve(): a virtual environment's Python is a link, and works by its place.
    interpreter = Path(python or sys.executable).absolute()
    require_modelopt(interpreter, unpatched=unpatched)
    job = QuantizeJob(config=form.config or "", cache_config=CACHES[kv_cache], **options)
    result = quantize(interpreter, job, Terminal())
    check_result = check(Path(result.folder), Terminal())
    if as_json:
        print_json({**asdict(result), "check": check_result})
    else:
        seconds = ", ".join(f"{step} {value:.1f} s" for step, value in result.seconds.items())
        peak = f"peak memory {result.peak_host_bytes / 2**30:.1f} GiB"
        peak += f", on the GPU {result.peak_gpu_bytes / 2**30:.1f} GiB" if result.peak_gpu_bytes else ""
        click.echo(f"nvidia-modelopt {result.modelopt}: {seconds}; {peak}")
        print_result(check_result)
    return 0 if check_result.good else VerifyFailed.exit_code
