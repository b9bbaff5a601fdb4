"""The questions of a fixture, as tokens; the same for the model that is quantized and for the one that is served."""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Keys of an items.json that an earlier version wrote.
OLD_KEYS = {"ask": "question", "picture": "image"}


@dataclass(frozen=True)
class Item:
    """One question: `prompt` and `answer` are token ids, `image` a file or None, `text` the right answer."""

    prompt: list[int]
    answer: list[int]
    image: Path | None
    text: str


def load_items(file: Path) -> list[dict[str, Any]]:
    """Return the items of `items.json`, in order: `prompt`, `question`, `answer`, `image` (a path or None)."""
    return [{OLD_KEYS.get(key, key): value for key, value in item.items()} for item in json.loads(file.read_text())]


def tokenize_items(file: Path, tokenizer: Any) -> list[Item]:
    """Return the items of `items.json` as tokens, in order."""
    ends = {tokenizer.eos_token_id}

    def encode(text: str) -> list[int]:
        ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    return [
        Item(
            prompt=encode(item["prompt"]),
            answer=[*encode(item["answer"]), *(ends if item["question"] else ())],
            image=file.parent / item["image"] if item["image"] else None,
            text=item["answer"],
        )
        for item in load_items(file)
    ]


def open_image(path: Path) -> Any:
    """Return an image in RGB."""
    from PIL import Image

    with Image.open(path) as image:
        return image.convert("RGB")
