"""series, component.toml and base.toml: everything that is wrong, at once, with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from patchset.model.series import read_entries
from patchset.project.project import find_root, load, read
from toolkit.errors import SeriesError, UsageError

PATCH = "--- a/f\n+++ b/f\n@@ -1 +1 @@\n-a\n+b\n"


def make(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_toml", ".toml").replace("_patch", ".patch")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_series_with_comments_and_strip_levels(tmp_path: Path) -> None:
    make(tmp_path, series="# first\na.patch\n\nb.patch -p0 # why\n", a_patch=PATCH, b_patch=PATCH)
    entries, disabled, findings = read_entries(tmp_path / "series")
    assert findings == []
    assert [(entry.name, entry.strip) for entry in entries] == [("a.patch", 1), ("b.patch", 0)]
    assert disabled == ()


def test_a_patch_that_is_commented_out_is_known(tmp_path: Path) -> None:
    make(tmp_path, series="a.patch\n#b.patch\n# c.patch: not before 2.0\n", a_patch=PATCH, b_patch=PATCH, c_patch=PATCH)
    entries, disabled, findings = read_entries(tmp_path / "series")
    assert [entry.name for entry in entries] == ["a.patch"]
    assert disabled == ("b.patch", "c.patch")
    assert findings == []


def test_a_series_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "series").write_bytes(b"a.patch\nb\xe9.patch\n")
    _, _, (finding,) = read_entries(tmp_path / "series")
    assert "series: is not UTF-8: byte 9" in finding.render()


def test_every_problem_of_a_series_is_named(tmp_path: Path) -> None:
    make(tmp_path, series="a.patch\nmissing.patch\na.patch\n../x.patch\na2.patch -R\n", a_patch=PATCH, a2_patch=PATCH)
    make(tmp_path, stray_patch=PATCH)
    _, _, findings = read_entries(tmp_path / "series")
    text = "\n".join(finding.render() for finding in findings)
    assert "series:2:1: there is no patch missing.patch" in text
    assert "series:3:1: a.patch stands twice, first on line 1" in text
    assert "series:4:1: a patch outside the series folder" in text
    assert "series:5:10: the option -R is not supported" in text
    assert "stray.patch: is not listed in `series`" in text


def test_toml_errors_have_file_line_and_key(tmp_path: Path) -> None:
    make(
        tmp_path,
        patches__foo__component_toml='path = 3\npinned = "9.9"\ncolour = "red"\n',
        patches__foo__series="",
    )
    base = tmp_path / "patches/foo/1.0"
    base.mkdir()
    (base / "series").write_text("")
    (base / "base.toml").write_text(
        'commit = "abc"\n\n[archive]\nproject = "foo"\nsha256 = "0"\n\n[[wheel]]\nvariant = "x"\n'
    )
    _, findings = read(tmp_path)
    text = "\n".join(finding.render() for finding in findings)
    assert "component.toml:1:1: path must be a string" in text
    assert "component.toml:3:1: unknown key colour" in text
    assert "component.toml:2:1: pinned: there is no base 9.9; there is 1.0" in text
    assert "base.toml:1:1: commit must be 40 lower-case hex digits" in text
    assert "base.toml:5:1: archive.sha256 must be 64 lower-case hex digits" in text
    assert "base.toml:3:1: has no key archive.file" in text
    assert "has no key wheel.platform" in text
    with pytest.raises(SeriesError) as caught:
        load(tmp_path)
    assert len(caught.value.details) == len(findings)


def test_toml_syntax_error_has_its_place(tmp_path: Path) -> None:
    make(tmp_path, patches__foo__series="", patches__foo__component_toml='path = "x"\npinned = = "y"\n')
    _, findings = read(tmp_path)
    assert "component.toml:2:10: not valid TOML" in findings[0].render()
    assert 'pinned = = "y"' in findings[0].render()


def test_a_path_out_of_the_project_is_refused(tmp_path: Path) -> None:
    make(tmp_path, patches__foo__series="", patches__foo__component_toml='path = "../elsewhere"\n')
    _, findings = read(tmp_path)
    assert "path leaves the project" in findings[0].message


def test_plain_quilt_layouts(tmp_path: Path) -> None:
    make(tmp_path / "one", patches__series="")
    project = load(tmp_path / "one")
    assert [(item.name, item.path) for item in project.components] == [("one", ".")]
    make(tmp_path / "two", patches__foo__series="")
    project = load(tmp_path / "two")
    assert [(item.name, item.path, item.bases[0].name) for item in project.components] == [("foo", "extern/foo", "")]


def test_selection(tmp_path: Path) -> None:
    make(tmp_path, patches__foo__1__series="", patches__foo__v2__series="", patches__bar__1__series="")
    project = load(tmp_path)
    assert [base.name for _, base in project.select(("foo@2", "bar"))] == ["v2", "1"]
    for spec, why in (("nope", "no component"), ("foo", "pins no base"), ("foo@3", "no base '3'")):
        with pytest.raises(UsageError, match=why):
            project.select((spec,))
    with pytest.raises(UsageError, match="named twice"):
        project.select(("foo@1", "foo@2"))


def test_no_project_here(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no patches/ folder"):
        find_root(tmp_path)
