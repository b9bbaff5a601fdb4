"""The questions of a kit, as tokens; the same for the model that is quantized and for the one that is served."""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Item:
    """One question: `prompt` and `answer` are token ids, `picture` a file or None, `text` the right answer."""

    prompt: list[int]
    answer: list[int]
    picture: Path | None
    text: str


def read_items(file: Path, tokens: Any) -> list[Item]:
    """Return the items of `items.json`, in order; pictures lie beside it."""
    ends = {tokens.eos_token_id}

    def encode(text: str) -> list[int]:
        found: list[int] = tokens(text, add_special_tokens=False)["input_ids"]
        return found

    return [
        Item(
            prompt=encode(item["prompt"]),
            answer=[*encode(item["answer"]), *(ends if item["ask"] else ())],
            picture=file.parent / item["picture"] if item["picture"] else None,
            text=item["answer"],
        )
        for item in json.loads(file.read_text())
    ]


def open_picture(path: Path) -> Any:
    """Return a picture in RGB."""
    from PIL import Image

    with Image.open(path) as picture:
        return picture.convert("RGB")
