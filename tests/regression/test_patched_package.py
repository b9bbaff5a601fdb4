"""An installed package with a series in front of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from patchset.model.series import Series
from patchset.project.project import load
from patchset.workflow.workspace import read_series
from regression.effects.patched_package import build
from regression.values.scenario import Edit
from tests.conftest import BASE, TRAILERS, Root, Upstream, write
from toolkit.errors import PatchConflict, UsageError


@pytest.fixture
def series(root: Root) -> Series:
    ((component, base),) = load(root.path).select(("foo",))
    return read_series(component, base)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    write(folder, {name: text for name, text in BASE.items() if name.startswith("pkg/")})
    write(folder, {"pkg/compiled.so": b"\x7fELF", "other/file.py": "other\n"})
    return folder


def test_what_the_series_changes_is_in_front(series: Series, site: Path, tmp_path: Path) -> None:
    package = build(tmp_path / "patched", site, "pkg", series)
    assert package.patches == ("change-one", "change-two")
    assert "line seven" in (package.folder / "pkg/one.py").read_text()
    assert (package.folder / "pkg/new/file.py").read_text() == "new\n"
    assert (package.folder / "pkg/compiled.so").is_symlink()
    assert not (package.folder / "other").exists()
    assert "line 7" in (site / "pkg/one.py").read_text(), "what is installed stays as it is"
    assert not (package.folder / "pkg/sub/three.txt").exists(), "a file that the series removes is gone"
    assert package.blobs["pkg/sub/three.txt"] is None


def test_bytecode_is_linked_but_for_what_changes(series: Series, site: Path, tmp_path: Path) -> None:
    cached = {f"pkg/__pycache__/{name}.cpython-311.pyc": b"code" for name in ("one", "two", "compiled")}
    write(site, {**cached, "pkg/untouched/file.py": "x\n"})
    package = build(tmp_path / "patched", site, "pkg", series)
    there = {file.name.partition(".")[0] for file in (package.folder / "pkg/__pycache__").iterdir()}
    assert "one" not in there, "it would be compiled from another source"
    assert "compiled" in there
    assert (package.folder / "pkg/untouched").is_symlink(), "a folder without a change is one link"
    assert not (package.folder / "pkg/__pycache__").is_symlink(), "what is compiled anew does not go into the site"


def test_a_patch_can_be_left_out(series: Series, site: Path, tmp_path: Path) -> None:
    package = build(tmp_path / "patched", site, "pkg", series, without="change-one")
    assert package.patches == ("change-two",)
    assert "line 7" in (package.folder / "pkg/one.py").read_text()
    with pytest.raises(UsageError, match="has no patch 'nothing'"):
        build(tmp_path / "patched", site, "pkg", series, without="nothing")


def test_what_is_built_upon_it_goes_too(root: Root, upstream: Upstream, site: Path, tmp_path: Path) -> None:
    changed = (upstream.path / "pkg/one.py").read_text().replace("line seven", "line seven, and more")
    commit = upstream.commit(f"Change three\n\nBecause.\n\n{TRAILERS}", {"pkg/one.py": changed})
    root.add_patch("change-three", upstream.format_patch(commit))
    ((component, base),) = load(root.path).select(("foo",))
    longer = read_series(component, base)
    assert build(tmp_path / "all", site, "pkg", longer).patches == ("change-one", "change-two", "change-three")
    package = build(tmp_path / "less", site, "pkg", longer, without="change-one")
    assert package.patches == ("change-two",)
    assert "line 7" in (package.folder / "pkg/one.py").read_text()


def test_installers_drop_the_executable_bit(root: Root, upstream: Upstream, site: Path, tmp_path: Path) -> None:
    (upstream.path / "pkg/one.py").chmod(0o755)
    upstream.commit_all("Executable, as the base has it")
    changed = (upstream.path / "pkg/one.py").read_text().replace("line seven", "line VII")
    commit = upstream.commit(f"Change three\n\nBecause.\n\n{TRAILERS}", {"pkg/one.py": changed})
    for name in ("change-one.patch", "change-two.patch", "series"):
        (root.series / name).unlink()
    root.add_patch("change-three", upstream.format_patch(commit))
    write(site, {"pkg/one.py": changed.replace("line VII", "line seven")})
    ((component, base),) = load(root.path).select(("foo",))
    package = build(tmp_path / "patched", site, "pkg", read_series(component, base))
    assert "line VII" in (package.folder / "pkg/one.py").read_text()


def test_another_base_is_refused(series: Series, site: Path, tmp_path: Path) -> None:
    write(site, {"pkg/one.py": "another release\n"})
    with pytest.raises(PatchConflict, match="change-one"):
        build(tmp_path / "patched", site, "pkg", series)


def test_a_defect_is_planted_on_top(series: Series, site: Path, tmp_path: Path) -> None:
    edit = Edit("pkg/one.py", "line seven", "line eight")
    package = build(tmp_path / "patched", site, "pkg", series, edits=(edit,))
    assert (package.folder / "pkg/one.py").read_text().count("line eight") == 1
    with pytest.raises(UsageError, match="does not stand exactly once in pkg/two"):
        build(tmp_path / "patched", site, "pkg", series, edits=(Edit("pkg/two.py", "two", "three"),))
    with pytest.raises(UsageError, match="does not stand exactly once in pkg/none"):
        build(tmp_path / "patched", site, "pkg", series, edits=(Edit("pkg/none.py", "two", "three"),))
