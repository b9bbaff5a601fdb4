"""`coco2017_captions_local` in ModelOpt's own data set functions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ..conftest import Answer, Ask, Trees

pytestmark = pytest.mark.slow

NAME = "coco2017_captions_local"
SPECS = ("modelopt@0.46.0",)

# Each case answers with the captions or with the error's type and text.
CASES = """
import os, warnings
from modelopt.torch.utils.dataset_utils import get_dataset_samples, get_supported_datasets
def attempt(path, count, **options):
    os.environ.pop("COCO2017_CAPTIONS_LOCAL_PATH", None)
    if path is not None:
        os.environ["COCO2017_CAPTIONS_LOCAL_PATH"] = path
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = get_dataset_samples("coco2017_captions_local", count, **options)
        except Exception as error:
            result = [type(error).__name__, str(error)]
    return {"result": result, "warned": [str(item.message) for item in caught]}
cases = json.load(open("cases.json"))
answer({"supported": get_supported_datasets(),
        "cases": {name: attempt(case["path"], case["count"], **case["options"]) for name, case in cases.items()}})
"""


@pytest.fixture(scope="session", params=SPECS)
def captions(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, trees: Callable[[str], Trees], ask: Ask
) -> dict[str, Answer]:
    """One run over every case: importing torch takes longer than all of them."""
    import json

    folder = tmp_path_factory.mktemp("captions")

    def file(name: str, data: bytes) -> str:
        (folder / name).write_bytes(data)
        return str(folder / name)

    usual = folder / "datasets/vlm-quantize-calib/coco2017_captions.txt"
    usual.parent.mkdir(parents=True)
    usual.write_text("the usual place\n")
    (folder / "a_folder").mkdir()
    three = file("three", "a red circle\na blue square\nein grünes Dreieck 狗\n".encode())
    cases = {
        "order": (three, 2, {}),
        "all": (three, 3, {}),
        "more": (three, 4096, {}),
        "none": (three, 0, {}),
        "negative": (three, -1, {}),
        "split": (three, 1, {"split": "train"}),
        "other_split": (three, 1, {"split": "test"}),
        "chat": (three, 1, {"apply_chat_template": True}),
        "windows": (file("windows", b"\xef\xbb\xbfone\r\n\r\n  two  \r\n"), 5, {}),
        "blank": (file("blank", b"\n  \n\t\n"), 5, {}),
        "empty": (file("empty", b""), 5, {}),
        "latin": (file("latin", b"caf\xe9\n"), 5, {}),
        "folder": (str(folder / "a_folder"), 5, {}),
        "missing": (str(folder / "nowhere.txt"), 5, {}),
        "usual": (None, 5, {}),
    }
    values = {
        name: {"path": path, "count": count, "options": options} for name, (path, count, options) in cases.items()
    }
    (folder / "cases.json").write_text(json.dumps(values))
    both = trees(request.param)
    return {
        "patched": ask(both.patched, CASES, cwd=folder),
        "base": ask(both.base, "from modelopt.torch.utils.dataset_utils import *\nanswer(get_supported_datasets())"),
    }


def result(captions: dict[str, Answer], case: str) -> list[str]:
    found: list[str] = captions["patched"].value["cases"][case]["result"]
    return found


def test_the_unpatched_release_does_not_know_the_data_set(captions: dict[str, Answer]) -> None:
    assert NAME not in captions["base"].value
    assert NAME in captions["patched"].value["supported"]
    assert set(captions["base"].value) < set(captions["patched"].value["supported"])


def test_reads_captions_in_order(captions: dict[str, Answer]) -> None:
    assert result(captions, "order") == ["a red circle", "a blue square"]
    assert result(captions, "all") == ["a red circle", "a blue square", "ein grünes Dreieck 狗"]
    assert result(captions, "split") == ["a red circle"]


def test_takes_what_is_there_and_says_so(captions: dict[str, Answer]) -> None:
    assert len(result(captions, "more")) == 3
    assert "holds 3 of 4096 captions" in " ".join(captions["patched"].value["cases"]["more"]["warned"])
    assert captions["patched"].value["cases"]["all"]["warned"] == []


def test_none_and_fewer(captions: dict[str, Answer]) -> None:
    assert result(captions, "none") == []
    assert result(captions, "negative")[0] == "ValueError"


def test_windows_files_and_blank_lines(captions: dict[str, Answer]) -> None:
    assert result(captions, "windows") == ["one", "two"]


def test_the_usual_place(captions: dict[str, Answer]) -> None:
    assert result(captions, "usual") == ["the usual place"]


def test_a_chat_template_is_not_applied_and_that_is_said(captions: dict[str, Answer]) -> None:
    assert result(captions, "chat") == ["a red circle"]
    assert "chat template" in " ".join(captions["patched"].value["cases"]["chat"]["warned"])


@pytest.mark.parametrize(
    ("case", "kind", "words"),
    [
        ("blank", "ValueError", "holds no caption"),
        ("empty", "ValueError", "holds no caption"),
        ("latin", "ValueError", "is not UTF-8"),
        ("folder", "IsADirectoryError", "cannot read captions"),
        ("missing", "FileNotFoundError", "nowhere.txt"),
        ("other_split", "ValueError", "only the split 'train'"),
    ],
)
def test_bad_files_are_named_with_the_remedy(captions: dict[str, Answer], case: str, kind: str, words: str) -> None:
    found = result(captions, case)
    assert found[0] == kind
    assert words in found[1]
    if case != "other_split":
        assert "COCO2017_CAPTIONS_LOCAL_PATH" in found[1]


@pytest.mark.parametrize("spec", SPECS)
def test_in_a_mix(trees: Callable[[str], Trees], ask: Ask, tmp_path: Path, spec: str) -> None:
    """In one data loader with another source, as a comma-separated `--dataset` gives it."""
    (tmp_path / "captions.txt").write_text("one two\nthree\n")
    (tmp_path / "other.jsonl").write_text('{"text": "four"}\n')
    script = """
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from modelopt.torch.utils.dataset_utils import get_dataset_dataloader
words = {w: i for i, w in enumerate(["<pad>", "<unk>", "one", "two", "three", "four"])}
inner = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
inner.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", unk_token="<unk>", padding_side="left")
loader = get_dataset_dataloader(["coco2017_captions_local", "other.jsonl"], tokenizer, num_samples=[2, 1])
answer([batch["input_ids"].tolist() for batch in loader])
"""
    env = {"COCO2017_CAPTIONS_LOCAL_PATH": "captions.txt"}
    assert ask(trees(spec).patched, script, env=env, cwd=tmp_path).value == [[[2, 3]], [[0, 4]], [[0, 5]]]
