"""Files that are written in one step."""

from __future__ import annotations

from pathlib import Path

import pytest

from toolkit.files import replace_file, sha256_of


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_is_replaced_and_nothing_is_left_beside_it(tmp_path: Path, durable: bool) -> None:
    file = tmp_path / "folder/file.json"
    replace_file(file, "one", durable=durable)
    replace_file(file, b"\xff", durable=durable)
    assert file.read_bytes() == b"\xff"
    assert [path.name for path in file.parent.iterdir()] == ["file.json"]


def test_a_refused_write_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.mkdir()
    (file / "inside").write_text("kept")
    with pytest.raises(OSError, match=str(file)):
        replace_file(file, "new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (file / "inside").read_text() == "kept"


def test_sha256_is_that_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    assert sha256_of(tmp_path / "empty") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
