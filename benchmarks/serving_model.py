"""A random Qwen2.5-VL, quantized in ModelOpt's format, and what its fake quantization says. Used by serving.py.

ModelOpt itself is not needed: the arithmetic is that of `INT8_SMOOTHQUANT_CFG` (alpha 0.5), `INT8_WEIGHT_ONLY_CFG` and
`FP8_DEFAULT_CFG`, with the scales shared in fused layers as `export_hf_checkpoint` shares them. tests/series/vllm holds
real exports against vLLM; here the model has the real size.
"""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

GROUPS = (("q_proj", "k_proj", "v_proj"), ("o_proj",), ("gate_proj", "up_proj"), ("down_proj",))
FP8_MAX = 448.0
ALPHA = 0.5


@dataclass(frozen=True)
class Format:
    """What a checkpoint is called, and what it says of itself."""

    name: str
    algo: str | None
    kv: bool


FORMATS = {
    form.name: form
    for form in (
        Format("bf16", None, False),
        Format("int8", "W8A8_SQ_PER_CHANNEL", False),
        Format("int8-kv", "W8A8_SQ_PER_CHANNEL", True),
        Format("fp8-kv", "FP8", True),
        Format("int8-weights", "W8A16", False),
    )
}


def config(small: bool, layers: int) -> Any:
    """Return the configuration: Qwen2.5-VL-3B's shape with as many layers, or a tiny one; tokens are tiny.py's."""
    import tiny
    import transformers as hf

    if small:
        made = tiny.config("qwen2_5_vl")
        made.text_config.max_position_embeddings = 2048
        return made
    rope = {"rope_type": "default", "type": "default", "mrope_section": [16, 24, 24], "rope_theta": 1e6}
    text = {
        "vocab_size": 151936, "hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": layers,
        "num_attention_heads": 16, "num_key_value_heads": 2, "max_position_embeddings": 32768, "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False, "bos_token_id": None, "eos_token_id": 256, "pad_token_id": 256,
        "rope_parameters": rope, "rope_scaling": rope,
    }  # fmt: skip
    vision = {
        "depth": 32, "hidden_size": 1280, "num_heads": 16, "intermediate_size": 3420, "out_hidden_size": 2048,
        "fullatt_block_indexes": [7, 15, 23, 31], "window_size": 112,
    }  # fmt: skip
    ids = {f"{name}_token_id": tiny.TOKEN[f"<|{name}_pad|>"] for name in ("image", "video")}
    return hf.Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        tie_word_embeddings=False,
        vision_start_token_id=tiny.TOKEN["<|vision_start|>"],
        **ids,
    )


@torch.no_grad()
def build(small: bool, device: str, layers: int) -> Any:
    """Return the model in fp32, with weights that bf16 holds exactly.

    Every linear layer keeps its input's variance, what goes into the residual stream is divided by the depth, and
    the head gives logits with a standard deviation of about 2: the distributions are neither flat nor one-hot.
    """
    import transformers as hf

    torch.manual_seed(0)
    made = config(small, layers)
    with torch.device(device):
        model = hf.AutoModelForImageTextToText.from_config(made, dtype=torch.float32).eval()
    depth = made.text_config.num_hidden_layers
    generator = torch.Generator(device).manual_seed(0)
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2:
            # A norm's weight stays one; some channels louder than others is what smoothing is for.
            if name.endswith("bias"):
                parameter.normal_(std=0.05, generator=generator)
            elif "layernorm" in name and "visual" not in name:
                parameter.copy_((torch.randn(parameter.shape, generator=generator, device=device) * 0.7).exp())
            continue
        std = 1 / math.sqrt(parameter[0].numel())
        if name.endswith(("o_proj.weight", "down_proj.weight")) and "visual" not in name:
            std /= math.sqrt(2 * depth)
        if name.endswith("embed_tokens.weight"):
            std = 0.5
        if name.endswith("lm_head.weight"):
            std *= 2
        parameter.normal_(std=std, generator=generator)
        parameter.copy_(parameter.bfloat16())
    model.config.architectures = [type(model).__name__]
    return model


def groups(model: Any) -> Iterator[tuple[str, list[tuple[str, torch.nn.Linear]]]]:
    """Yield the linear layers of the language model that share an input, with their names in the checkpoint."""
    text = model.model.language_model
    for number, layer in enumerate(text.layers):
        for group in GROUPS:
            block = "self_attn" if group[0][0] in "qo" else "mlp"
            base = f"model.layers.{number}.{block}"
            yield base, [(f"{base}.{part}", layer.get_submodule(f"{block}.{part}")) for part in group]


def name_in_checkpoint(name: str) -> str:
    """Return what ModelOpt's export calls a parameter."""
    return name.replace("model.language_model.", "model.").replace("model.visual.", "visual.")


def watch_attention() -> None:
    """Let attention quantize k and v where its module says so, and note their largest values where it asks for that."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    sdpa = ALL_ATTENTION_FUNCTIONS["sdpa"]

    def attention(module: Any, query: Any, key: Any, value: Any, *arguments: Any, **options: Any) -> Any:
        seen = getattr(module, "kv_seen", None)
        if seen is not None:
            seen[0], seen[1] = max(seen[0], key.abs().max().item()), max(seen[1], value.abs().max().item())
        scales = getattr(module, "kv_scales", None)
        if scales is not None:
            key, value = to_fp8(key, scales[0]), to_fp8(value, scales[1])
        return sdpa(module, query, key, value, *arguments, **options)

    ALL_ATTENTION_FUNCTIONS.register("sdpa", attention)


def to_fp8(value: torch.Tensor, scale: float | torch.Tensor) -> torch.Tensor:
    """Round to what e4m3 holds, in steps of `scale`."""
    return (value / scale).clamp(-FP8_MAX, FP8_MAX).to(torch.float8_e4m3fn).to(value.dtype) * scale


def to_int8(value: torch.Tensor, scale: float | torch.Tensor) -> torch.Tensor:
    """Round to what int8 holds, in steps of `scale`."""
    return (value / scale).round().clamp(-128, 127) * scale


@dataclass
class Calibration:
    """The largest magnitudes: of each group's input by channel, and of k and v of each layer."""

    inputs: dict[str, torch.Tensor]
    kv: list[list[float]]


@torch.no_grad()
def calibrate(model: Any, prompts: list[dict[str, Any]]) -> Calibration:
    """Show the model the prompts, and note what it sees."""
    inputs: dict[str, torch.Tensor] = {}
    hooks = []
    for _, parts in groups(model):
        name, first = parts[0]

        def note(_: Any, arguments: tuple[torch.Tensor], name: str = name) -> None:
            largest = arguments[0].abs().flatten(0, -2).amax(0)
            inputs[name] = torch.maximum(inputs[name], largest) if name in inputs else largest

        hooks.append(first.register_forward_pre_hook(note))
    attentions = [layer.self_attn for layer in model.model.language_model.layers]
    for attention in attentions:
        attention.kv_seen = [0.0, 0.0]
    for prompt in prompts:
        model(**prompt)
    for hook in hooks:
        hook.remove()
    kv = [attention.kv_seen for attention in attentions]
    for attention in attentions:
        del attention.kv_seen
    return Calibration(inputs, kv)


Rounding = Callable[[torch.Tensor], torch.Tensor]


def quantize_group(
    form: Format, parts: list[tuple[str, torch.nn.Linear]], seen: torch.Tensor
) -> tuple[dict[str, torch.Tensor], list[torch.Tensor], Rounding | None]:
    """Return the group's tensors, the weights that they stand for, and what happens to the input."""
    weights = [linear.weight for _, linear in parts]
    tensors: dict[str, torch.Tensor] = {}
    if form.algo == "FP8":
        # One scale for a fused layer: vLLM requantizes those that differ.
        scale = torch.stack([weight.abs().max() for weight in weights]).max() / FP8_MAX
        step = seen.max() / FP8_MAX
        for (name, _), weight in zip(parts, weights, strict=True):
            tensors[f"{name}.weight"] = (weight / scale).to(torch.float8_e4m3fn)
            tensors[f"{name}.weight_scale"], tensors[f"{name}.input_scale"] = scale, step
        return tensors, [to_fp8(weight, scale) for weight in weights], lambda x: to_fp8(x, step)
    smooth = None
    if form.algo == "W8A8_SQ_PER_CHANNEL":
        largest = torch.stack([weight.abs().amax(0) for weight in weights]).amax(0)
        smooth = (largest ** (1 - ALPHA) / seen.clamp(min=1e-4) ** ALPHA).bfloat16().float()
        weights = [weight / smooth for weight in weights]
        step = (seen * smooth).max() / 127
    meant = []
    for (name, _), weight in zip(parts, weights, strict=True):
        channel = weight.abs().amax(1) / 127
        tensors[f"{name}.weight"] = (weight / channel[:, None]).round().clamp(-128, 127).to(torch.int8)
        tensors[f"{name}.weight_scale"] = channel
        if smooth is not None:
            tensors[f"{name}.input_scale"], tensors[f"{name}.pre_quant_scale"] = step, smooth.bfloat16()
        meant.append(to_int8(weight, channel[:, None]))
    if smooth is None:
        return tensors, meant, None
    return tensors, meant, lambda x: to_int8(x * smooth, step)


@contextmanager
def quantized(model: Any, form: Format, calibration: Calibration) -> Iterator[dict[str, torch.Tensor]]:
    """Make the model compute what the served checkpoint has to, and yield its tensors; then take it back."""
    tensors = {
        name_in_checkpoint(name): (value.bfloat16() if value.is_floating_point() else value).cpu()
        for name, value in model.state_dict().items()
    }
    hooks, before = [], []
    if form.algo is not None:
        for _, parts in groups(model):
            made, meant, rounding = quantize_group(form, parts, calibration.inputs[parts[0][0]])
            tensors.update(made)
            for (_, linear), weight in zip(parts, meant, strict=True):
                # bf16 holds them exactly; see build.
                before.append((linear, linear.weight.data.bfloat16().cpu()))
                linear.weight.data = weight
                if rounding is not None:
                    hooks.append(linear.register_forward_pre_hook(lambda _, x, f=rounding: (f(x[0]),)))
    layers = model.model.language_model.layers
    if form.kv:
        for number, (layer, seen) in enumerate(zip(layers, calibration.kv, strict=True)):
            scales = [torch.tensor(largest / FP8_MAX) for largest in seen]
            layer.self_attn.kv_scales = [scale.item() for scale in scales]
            for letter, scale in zip("kv", scales, strict=True):
                tensors[f"model.layers.{number}.self_attn.{letter}_proj.{letter}_scale"] = scale
    try:
        yield tensors
    finally:
        for hook in hooks:
            hook.remove()
        for linear, weight in before:
            linear.weight.data = weight.to(linear.weight)
        for layer in layers:
            layer.self_attn.__dict__.pop("kv_scales", None)


def write(folder: Path, model: Any, form: Format, tensors: dict[str, torch.Tensor]) -> None:
    """Write a checkpoint as ModelOpt's export does, with tokenizer and processor."""
    import tiny

    folder.mkdir(parents=True)
    said = model.config.to_dict()
    said["dtype"] = "bfloat16"
    if form.algo is not None:
        ignore = ["lm_head", "model.embed_tokens", "visual*"]
        quantization = {"quant_algo": form.algo, "kv_cache_quant_algo": "FP8" if form.kv else None}
        producer = {"name": "modelopt", "version": "0.46.0"}
        other = {"producer": producer, "quantization": {**quantization, "exclude_modules": ignore}}
        (folder / "hf_quant_config.json").write_text(json.dumps(other))
        said["quantization_config"] = {
            "quant_method": "modelopt", "producer": producer, "quant_algo": form.algo, "ignore": ignore,
            **({"kv_cache_scheme": {"dynamic": False, "num_bits": 8, "type": "float"}} if form.kv else {}),
        }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(said))
    save_file({name: value.contiguous().cpu().clone() for name, value in tensors.items()}, folder / "model.safetensors")
    tiny.write_processor("qwen2_5_vl", folder)
