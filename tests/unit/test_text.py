"""Counts and lists in messages."""

from __future__ import annotations

from toolkit.text import count_of, first_of


def test_a_count_has_its_noun() -> None:
    assert [count_of(number, "patch") for number in (0, 1, 2)] == ["0 patches", "1 patch", "2 patches"]
    assert [count_of(number, "file") for number in (0, 1, 2)] == ["0 files", "1 file", "2 files"]


def test_a_long_list_ends_with_the_count_of_the_others() -> None:
    assert first_of(["a", "b"], 2) == "a, b"
    assert first_of(["a", "b", "c", "d"], 2) == "a, b and 2 more"
    assert first_of([]) == ""
