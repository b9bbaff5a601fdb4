"""`checkpoint quantize`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from checkpoint.quantize.job import CACHES, FORMATS, Job
from toolkit.errors import UsageError, VerifyFailed

USUAL_CAPTIONS = Path("datasets/vlm-quantize-calib/coco2017_captions.txt")


@click.command("quantize")
@click.argument("model")
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--format", "name", type=click.Choice(list(FORMATS)), default="int8_sq", show_default=True, help="As for hf_ptq.py."
)
@click.option("--kv-cache", type=click.Choice(list(CACHES)), default="fp8", show_default=True, help="The KV cache.")
@click.option(
    "--captions",
    type=click.Path(path_type=Path),
    envvar="COCO2017_CAPTIONS_LOCAL_PATH",
    default=USUAL_CAPTIONS,
    show_default=True,
    help="Text to calibrate with: one caption a line.",
)
@click.option(
    "--images", type=click.Path(path_type=Path), help="A folder of pictures, to calibrate with picture and caption."
)
@click.option("--calib-size", type=click.IntRange(1), default=4096, show_default=True, help="Samples.")
@click.option("--calib-seq", type=click.IntRange(1), default=512, show_default=True, help="Longest sample, in tokens.")
@click.option("--batch-size", type=click.IntRange(1), default=16, show_default=True, help="Captions at a time.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda:0.")
@click.option("--alpha", type=click.FloatRange(0, 1), help="SmoothQuant's alpha.  [default: ModelOpt's, 1.0]")
@click.option(
    "--python",
    type=click.Path(path_type=Path),
    help="The Python that has ModelOpt.  [default: the one that runs this tool]",
)
@click.option("--unpatched", is_flag=True, help="Go on with a ModelOpt that is not of this project's series.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for a program.")
def quantize_command(
    model: str,
    out: Path,
    name: str,
    kv_cache: str,
    captions: Path,
    images: Path | None,
    calib_size: int,
    calib_seq: int,
    batch_size: int,
    device: str,
    alpha: float | None,
    python: Path | None,
    unpatched: bool,
    as_json: bool,
) -> int:
    """Quantize MODEL with ModelOpt's library, export it to OUT, and check what was exported.

    The checkpoint is the one that ModelOpt's hf_ptq.py makes, tensor for tensor; this needs only the wheel. Before the
    export the quantized model says a few tokens: one that says NaN is not exported. MODEL is a folder or a name on
    the Hugging Face hub. OUT appears when it is complete. Exit code 12 if the checkpoint breaks its format.

    \b
    Examples:
      checkpoint quantize Qwen/Qwen2.5-VL-3B-Instruct qwen-int8 --captions captions.txt
      checkpoint quantize ./Qwen2.5-VL-3B qwen-fp8 --format fp8 --images pictures --calib-size 256
      checkpoint quantize ./tiny out --device cpu --python .venv-modelopt/bin/python
    """
    from checkpoint.checks.check import check
    from checkpoint.cli.check import print_verdict
    from checkpoint.quantize.run import quantize, require_modelopt
    from toolkit.console import Terminal, print_json

    if alpha is not None and name != "int8_sq":
        raise UsageError(f"--alpha is SmoothQuant's, and {name} has none")
    # Not resolve(): a virtual environment's Python is a link, and found by its place.
    interpreter = (python or Path(sys.executable)).absolute()
    require_modelopt(interpreter, unpatched=unpatched)
    job = Job(
        model=model,
        out=str(out),
        config=FORMATS[name],
        cache_config=CACHES[kv_cache],
        captions=str(captions),
        images=str(images.absolute()) if images else "",
        samples=calib_size,
        length=calib_seq,
        batch=batch_size,
        device=device,
        alpha=alpha,
    )
    made = quantize(interpreter, job, Terminal())
    verdict = check(Path(made.folder), Terminal())
    if as_json:
        print_json({**made.as_json(), "check": verdict.as_json()})
    else:
        seconds = ", ".join(f"{step} {value:.1f} s" for step, value in made.seconds.items())
        peak = f"peak memory {made.peak_host_bytes / 2**30:.1f} GiB"
        peak += f", on the GPU {made.peak_gpu_bytes / 2**30:.1f} GiB" if made.peak_gpu_bytes else ""
        click.echo(f"nvidia-modelopt {made.modelopt}: {seconds}; {peak}")
        print_verdict(verdict)
    return 0 if verdict.good else VerifyFailed.exit_code
