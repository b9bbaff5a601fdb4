"""Write a fixture with a random model of Qwen2.5-VL-3B's shape.

    large.py FOLDER [--layers N] [--seed N] [--device cpu|cuda]

It has learned nothing, so that there is no score; but layers, types, kernels and memory are those of the real one.
FOLDER gets `model/`, and captions, calibration items and questions as train.py writes them. Every linear layer keeps
its input's variance, outputs into the residual stream are divided by the depth, the distributions are as narrow as
those of a trained one, and outliers.py's channels are inserted, so that the effect of quantization can be measured.
"""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import math
from typing import Any

import torch

import outliers
import shapes_model
import train
from progress_lines import progress
from scenes import scenes

LAYERS = 36
ITEMS = (24, 8)  # images and texts
HEAD = 5.0  # standard deviation of the logits: the likeliest few of 151 936 tokens then share the mass


def config(tokens: Any, layers: int) -> Any:
    """Return the configuration that Qwen2.5-VL-3B-Instruct publishes, but for its embeddings: they are not tied."""
    return shapes_model.configuration(
        tokens,
        {"mrope_section": [16, 24, 24], "rope_theta": 1e6},
        {
            "vocab_size": 151936, "hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": layers,
            "num_attention_heads": 16, "num_key_value_heads": 2, "max_position_embeddings": 32768, "rms_norm_eps": 1e-6,
        },
        {
            "depth": 32, "hidden_size": 1280, "num_heads": 16, "intermediate_size": 3420, "out_hidden_size": 2048,
            "fullatt_block_indexes": [7, 15, 23, 31],
        },
    )  # fmt: skip


@torch.no_grad()
def build(config: Any, seed: int, device: str) -> Any:
    """Return the model in bfloat16."""
    from transformers import Qwen2_5_VLForConditionalGeneration

    with torch.device(device):
        model = Qwen2_5_VLForConditionalGeneration._from_config(config, dtype=torch.bfloat16).eval()
    depth = config.text_config.num_hidden_layers
    generator = torch.Generator(device).manual_seed(seed)
    total = sum(1 for _ in model.parameters())
    for number, (name, parameter) in enumerate(model.named_parameters(), 1):
        if parameter.ndim > 1:
            std = 1 / math.sqrt(parameter[0].numel())
            if name.endswith(("o_proj.weight", "down_proj.weight")) and "visual" not in name:
                std /= math.sqrt(2 * depth)
            elif name.endswith("embed_tokens.weight"):
                std = 0.5
            elif name.endswith("lm_head.weight"):
                std *= HEAD
            parameter.normal_(std=std, generator=generator)
        elif name.endswith("bias"):
            parameter.normal_(std=0.05, generator=generator)
        progress(number, total, "tensors")
    outliers.insert(model, seed, device=device)
    model.config.architectures = [type(model).__name__]
    return model


def main() -> None:
    """Build the model, write the fixture."""
    options = train.parse_arguments("layers", LAYERS)
    known, held = scenes()
    tokens = train.tokenizer(known)
    model = build(config(tokens, options.layers), options.seed, options.device)
    train.write_fixture(options.folder, model, tokens, known, held, ITEMS, options.seed)


if __name__ == "__main__":
    main()
