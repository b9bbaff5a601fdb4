"""A small Qwen2.5-VL: upstream's architecture, tokenizer class and processor, sized for training on a CPU."""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SPECIAL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
VOCABULARY = 384  # embeddings; the tokenizer has fewer tokens
PATCH = 14
MERGE = 2
LENGTH = 512  # tokens, the longest context

DESCRIBE = "Describe the picture."
TURN = "Turn it round: "

# Qwen's own template, cut down to what the model has learned: one user's turn, with or without images.
TEMPLATE = """\
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content -%}
{%- if part.type in ('image', 'image_url') or 'image' in part %}<|vision_start|><|image_pad|><|vision_end|>
{%- elif 'text' in part %}{{ part.text }}{% endif %}{% endfor %}{% endif %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def prompt(text: str, images: int = 0) -> str:
    """Return TEMPLATE's text for one user's message with images before the text."""
    image = "<|vision_start|><|image_pad|><|vision_end|>" * images
    return f"<|im_start|>user\n{image}{text}<|im_end|>\n<|im_start|>assistant\n"


def config(tokens: Any) -> Any:
    """Return the configuration of the shapes model."""
    # The sections are 16 + 24 + 24 for head size 128; here half of it.
    return configuration(
        tokens,
        {"mrope_section": [8, 12, 12], "rope_theta": 1e4},
        {
            "vocab_size": VOCABULARY, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 3,
            "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 64, "max_position_embeddings": LENGTH,
        },
        {
            "depth": 2, "hidden_size": 96, "num_heads": 3, "intermediate_size": 192, "out_hidden_size": 128,
            "fullatt_block_indexes": [1],
        },
    )  # fmt: skip


def configuration(tokens: Any, rope: dict[str, Any], text: dict[str, Any], vision: dict[str, Any]) -> Any:
    """Return a Qwen2.5-VL's configuration, with embeddings that are not tied; the arguments hold its sizes."""
    from transformers import Qwen2_5_VLConfig

    ids = {name: tokens.convert_tokens_to_ids(name) for name in SPECIAL}
    rope = {"rope_type": "default", "type": "default", **rope}
    return Qwen2_5_VLConfig(
        text_config={
            "tie_word_embeddings": False, "rope_parameters": rope, "rope_scaling": rope,
            "bos_token_id": None, "eos_token_id": ids["<|im_end|>"], "pad_token_id": ids["<|endoftext|>"], **text,
        },
        vision_config={"window_size": 112, "patch_size": PATCH, "spatial_merge_size": MERGE, **vision},
        tie_word_embeddings=False,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )  # fmt: skip


def tokenizer(lines: list[str]) -> Any:
    """Return a byte-level BPE tokenizer, trained on `lines`, with Qwen's special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    room = VOCABULARY - len(SPECIAL)
    bpe.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=room, initial_alphabet=alphabet, show_progress=False))
    bpe.add_special_tokens(list(SPECIAL))
    ends = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    return PreTrainedTokenizerFast(tokenizer_object=bpe, model_max_length=LENGTH, **ends)


def processor_settings() -> dict[str, Any]:
    """Return the settings of the image processor; images whose sides are multiples of 28 keep their size."""
    return {
        "size": {"shortest_edge": (PATCH * MERGE) ** 2, "longest_edge": (16 * PATCH * MERGE) ** 2},
        "patch_size": PATCH,
        "temporal_patch_size": 2,
        "merge_size": MERGE,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }


def write_processor(tokens: Any, folder: Path) -> None:
    """Write the tokenizer, the chat template and the processor's configuration into `folder`."""
    tokens.chat_template = TEMPLATE
    tokens.save_pretrained(folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["tokenizer_class"] = "Qwen2Tokenizer"
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2, sort_keys=True))
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": TEMPLATE}))
    for kind, prefix in (("image", ""), ("video", "video_")):
        settings = {
            **processor_settings(),
            f"{kind}_processor_type": f"Qwen2VL{kind.title()}Processor",
            "processor_class": "Qwen2_5_VLProcessor",
        }
        (folder / f"{prefix}preprocessor_config.json").write_text(json.dumps(settings, indent=2))
