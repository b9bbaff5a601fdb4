"""verify: good wheels and environments are proved, every kind of tampering is found and named."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from patchset.wheels import record

from ..conftest import Run
from .conftest import PACKAGE, WheelRoot

ONE = str(PACKAGE["pkg/one.py"])


@pytest.fixture
def wheel(wheel_root: WheelRoot, run: Run) -> Path:
    wheel_root.add_patch("change", {"pkg/one.py": ONE + "more\n", "pkg/gone.py": None, "pkg/new.py": "new = 1\n"})
    assert run("--root", wheel_root.path, "build", "--offline").code == 0
    (made,) = (wheel_root.path / "dist").glob("*.whl")
    return made


def rewrite(wheel: Path, changed: dict[str, bytes | None], *, mend_record: bool) -> None:
    """Tamper with a wheel; `mend_record` hides it from whoever checks RECORD alone."""
    with zipfile.ZipFile(wheel) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    path = next(name for name in files if name.endswith(".dist-info/RECORD"))
    for name, data in changed.items():
        if data is None:
            del files[name]
        else:
            files[name] = data
    if mend_record:
        rows = [record.entry_of(name, data) for name, data in files.items() if name != path]
        files[path] = record.dump([*rows, record.RecordEntry(path, "", "")])
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)


def test_a_good_wheel(wheel_root: WheelRoot, run: Run, wheel: Path) -> None:
    result = run("--root", wheel_root.path, "verify", "--offline", wheel)
    assert result.code == 0, result.out
    assert "verified" in result.out
    report = json.loads(run("--root", wheel_root.path, "verify", "--offline", "--json", wheel).out)[0]
    assert report["good"] is True
    assert [check["name"] for check in report["checks"]] == [
        "RECORD",
        "series",
        "official wheel",
        "patched files",
        "other files",
    ]
    assert all(check["good"] for check in report["checks"])


@pytest.mark.parametrize("mend_record", [False, True])
@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"pkg/one.py": b"tampered\n"}, "pkg/one.py"),
        ({"pkg/__init__.py": b"tampered\n"}, "pkg/__init__.py"),
        ({"pkg/_C.so": b"tampered"}, "pkg/_C.so"),
        ({"pkg/_version.py": b"__version__ = version = '9'\n"}, "pkg/_version.py"),
        ({"pkg/stranger.py": b"import os\n"}, "pkg/stranger.py"),
        ({"pkg/gone.py": b"back\n"}, "pkg/gone.py"),
        ({"pkg/new.py": None}, "pkg/new.py: missing"),
        ({"pkg/data,with comma.json": None}, "pkg/data,with comma.json: missing"),
    ],
)
def test_tampering_is_found(
    wheel_root: WheelRoot, run: Run, wheel: Path, changed: dict[str, bytes | None], words: str, mend_record: bool
) -> None:
    rewrite(wheel, changed, mend_record=mend_record)
    result = run("--root", wheel_root.path, "verify", "--offline", wheel)
    assert result.code == 12
    assert "not verified" in result.out
    assert words in result.out


def test_metadata_is_proved_too(wheel_root: WheelRoot, run: Run, wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        name = next(item for item in archive.namelist() if item.endswith("METADATA"))
        data = archive.read(name)
    rewrite(wheel, {name: data.replace(b"Name: pkg", b"Name: pkg\nRequires-Dist: evil")}, mend_record=True)
    result = run("--root", wheel_root.path, "verify", "--offline", wheel)
    assert result.code == 12
    assert "METADATA" in result.out


def test_another_series_is_told_apart(wheel_root: WheelRoot, run: Run, wheel: Path) -> None:
    wheel_root.add_patch("again", {"pkg/one.py": ONE + "more\nand more\n"})
    result = run("--root", wheel_root.path, "verify", "--offline", wheel)
    assert result.code == 12
    assert "again: not in the wheel" in result.out


def test_a_wheel_that_is_not_ours(wheel_root: WheelRoot, run: Run) -> None:
    result = run("--root", wheel_root.path, "verify", wheel_root.official)
    assert result.code == 12
    assert "is not a wheel of patchset" in result.err


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda path: None, 2),
        (lambda path: path.write_text("no zip"), 5),
        (lambda path: path.write_bytes(b""), 5),
    ],
)
def test_no_wheel_at_all(wheel_root: WheelRoot, run: Run, tmp_path: Path, make: object, code: int) -> None:
    path = tmp_path / "pkg-1.0-py3-none-any.whl"
    make(path)  # type: ignore[operator]
    assert run("--root", wheel_root.path, "verify", path).code == code


def test_nothing_to_verify(wheel_root: WheelRoot, run: Run) -> None:
    assert run("--root", wheel_root.path, "verify").code == 2


def test_without_the_official_wheel_the_answer_is_not_known(wheel_root: WheelRoot, run: Run, wheel: Path) -> None:
    shutil.rmtree(wheel_root.official.parent)
    result = run("--root", wheel_root.path, "verify", "--offline", wheel)
    assert result.code == 0
    assert "unknown" in result.out
    assert "not compared with pkg-1.0-py3-none-any.whl" in result.out


def test_an_environment(wheel_root: WheelRoot, run: Run, wheel: Path, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    python = venv / "bin/python"
    verify = ("--root", wheel_root.path, "verify", "--offline", "--installed", "--python", python)
    empty = run(*verify)
    assert empty.code == 12
    assert "has none of pkg installed" in empty.err
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", "--no-index", wheel], check=True)
    subprocess.run([python, "-c", "import pkg.new"], check=True)
    good = run(*verify)
    assert good.code == 0, good.out + good.err
    site = next((venv / "lib").glob("python*/site-packages"))
    (site / "pkg/stray.py").write_text("stray\n")
    assert "pkg/stray.py: not in RECORD" in run(*verify).out
    (site / "pkg/stray.py").unlink()
    (site / "pkg/one.py").write_text("edited\n")
    bad = run(*verify)
    assert bad.code == 12
    assert "pkg/one.py: not the bytes that RECORD lists" in bad.out
    assert run("--root", wheel_root.path, "verify", "--installed", "--python", "/no/python").code == 9
