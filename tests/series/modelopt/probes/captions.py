"""`coco2017_captions_local`: each case answers with the captions, or with the error's type and text."""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import torch
from modelopt.torch.utils import dataset_utils
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

NAME = "coco2017_captions_local"
THREE = "a red circle\na blue square\nein grünes Dreieck 狗\n".encode()
FILES = {
    "three": THREE,
    "windows": b"\xef\xbb\xbfone\r\n\r\n  two  \r\n",
    "no_newline": b"one\ntwo",
    "blank": b"\n  \n\t\n",
    "empty": b"",
    "latin": b"caf\xe9\n",
}
# case -> the file, the number of captions, and options of 0.46.0's function
CASES: dict[str, tuple[str | None, int, dict[str, Any]]] = {
    "order": ("three", 2, {}),
    "all": ("three", 3, {}),
    "more": ("three", 4096, {}),
    "none": ("three", 0, {}),
    "negative": ("three", -1, {}),
    "windows": ("windows", 5, {}),
    "no_newline": ("no_newline", 2, {}),
    "blank": ("blank", 5, {}),
    "empty": ("empty", 5, {}),
    "latin": ("latin", 5, {}),
    "folder": ("a_folder", 5, {}),
    "missing": ("nowhere.txt", 5, {}),
    "usual": (None, 5, {}),
}
NEWER: dict[str, tuple[str | None, int, dict[str, Any]]] = {
    "split": ("three", 1, {"split": "train"}),
    "other_split": ("three", 1, {"split": "test"}),
    "chat": ("three", 1, {"apply_chat_template": True}),
}


class Words(PreTrainedTokenizerFast):  # type: ignore[misc]
    """A tokenizer; 0.40.0 calls a method that transformers 5 dropped."""

    batch_encode_plus = PreTrainedTokenizerFast.__call__


def tokenizer() -> Words:
    """Return a tokenizer that knows the words of `windows` and of the other source."""
    words = {word: number for number, word in enumerate(["<pad>", "<unk>", "one", "two", "four"])}
    inner = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    return Words(tokenizer_object=inner, pad_token="<pad>", unk_token="<unk>", padding_side="left")


def samples(path: str | None, count: int, options: dict[str, Any]) -> dict[str, Any]:
    """Ask for captions as the release's own loader does."""
    os.environ.pop("COCO2017_CAPTIONS_LOCAL_PATH", None)
    if path is not None:
        os.environ["COCO2017_CAPTIONS_LOCAL_PATH"] = path
    ask = getattr(dataset_utils, "get_dataset_samples", None) or dataset_utils._get_dataset_samples
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = ask(NAME, count, **options)
        except Exception as error:
            result = [type(error).__name__, str(error)]
    return {"result": result, "warned": [str(item.message) for item in caught]}


def rows(names: str, counts: list[int]) -> list[list[int]]:
    """Return the token rows that a comma-separated `--dataset` gives."""
    loader = dataset_utils.get_dataset_dataloader(names.split(","), tokenizer(), num_samples=counts)
    return [row for batch in loader for row in torch.as_tensor(batch["input_ids"]).tolist()]


def probe(folder: Path) -> dict[str, Any]:
    """Ask for everything in a folder of its own."""
    supported = dataset_utils.get_supported_datasets()
    if NAME not in supported:
        return {"supported": supported}
    os.chdir(folder)
    for name, data in FILES.items():
        Path(name).write_bytes(data)
    Path("a_folder").mkdir()
    usual = Path("datasets/vlm-quantize-calib/coco2017_captions.txt")
    usual.parent.mkdir(parents=True)
    usual.write_text("the usual place\n")
    newer = hasattr(dataset_utils, "get_dataset_samples")
    cases = {name: samples(*case) for name, case in {**CASES, **(NEWER if newer else {})}.items()}
    os.environ["COCO2017_CAPTIONS_LOCAL_PATH"] = "windows"
    mixes = {"itself": rows(f"{NAME},{NAME}", [1, 9])}
    if newer:
        Path("other.jsonl").write_text('{"text": "four"}\n')
        mixes["other"] = rows(f"{NAME},other.jsonl", [2, 1])
    return {"supported": supported, "cases": cases, "mixes": mixes}
