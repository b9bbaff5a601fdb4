"""`coco2017_captions_local` in ModelOpt's own data set functions."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.slow

NAME = "coco2017_captions_local"


def result(patched: dict[str, Any], case: str) -> list[str]:
    captions: list[str] = patched["captions"]["cases"][case]["result"]
    return captions


def warned(patched: dict[str, Any], case: str) -> str:
    return " ".join(patched["captions"]["cases"][case]["warned"])


def test_the_unpatched_release_does_not_know_the_data_set(base: dict[str, Any], patched: dict[str, Any]) -> None:
    before, after = base["captions"]["supported"], patched["captions"]["supported"]
    assert NAME not in before
    assert set(after) == {*before, NAME}


def test_reads_captions_in_order(patched: dict[str, Any]) -> None:
    assert result(patched, "order") == ["a red circle", "a blue square"]
    assert result(patched, "all") == ["a red circle", "a blue square", "ein grünes Dreieck 狗"]
    assert result(patched, "no_newline") == ["one", "two"]


def test_takes_what_is_there_and_says_so(patched: dict[str, Any]) -> None:
    assert len(result(patched, "more")) == 3
    assert "holds 3 of 4096 captions" in warned(patched, "more")
    assert warned(patched, "all") == ""


def test_none_and_fewer(patched: dict[str, Any]) -> None:
    assert result(patched, "none") == []
    assert result(patched, "negative")[0] == "ValueError"


def test_windows_files_and_blank_lines(patched: dict[str, Any]) -> None:
    assert result(patched, "windows") == ["one", "two"]


def test_the_usual_place(patched: dict[str, Any]) -> None:
    assert result(patched, "usual") == ["the usual place"]


def test_in_a_comma_separated_mix(patched: dict[str, Any], spec: str) -> None:
    mixes = patched["captions"]["mixes"]
    assert mixes["itself"] == [[2], [2], [3]]
    if spec != "modelopt@0.40.0":  # which has no other source without the Hugging Face hub
        assert mixes["other"] == [[2], [3], [4]]


@pytest.mark.parametrize(
    ("case", "kind", "message"),
    [
        ("blank", "ValueError", "holds no caption"),
        ("empty", "ValueError", "holds no caption"),
        ("latin", "ValueError", "is not UTF-8"),
        ("folder", "IsADirectoryError", "cannot read captions"),
        ("missing", "FileNotFoundError", "nowhere.txt"),
    ],
)
def test_bad_files_are_named_with_the_remedy(patched: dict[str, Any], case: str, kind: str, message: str) -> None:
    error = result(patched, case)
    assert error[0] == kind
    assert message in error[1]
    assert "COCO2017_CAPTIONS_LOCAL_PATH" in error[1]


def test_splits_and_chat_templates(patched: dict[str, Any], spec: str) -> None:
    if spec == "modelopt@0.40.0":
        pytest.skip("0.40.0 takes neither a split nor a chat template")
    assert result(patched, "split") == ["a red circle"]
    assert "only the split 'train'" in result(patched, "other_split")[1]
    assert result(patched, "chat") == ["a red circle"]
    assert "chat template" in warned(patched, "chat")
