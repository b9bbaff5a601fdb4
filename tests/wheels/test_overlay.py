"""Overlays of small wheels: what changes, what does not, and what is refused."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from patchset.wheels import record
from patchset.wheels.rawzip import RawArchive

from ..conftest import Run
from .conftest import PACKAGE, WheelRoot, write_wheel

ONE = str(PACKAGE["pkg/one.py"])


def built(root: WheelRoot, run: Run, *args: object) -> tuple[Path, dict[str, object]]:
    result = run("--root", root.path, "build", "--json", "--offline", *args)
    assert result.code == 0, result.err + result.out
    report = json.loads(result.out)[0]
    return Path(report["wheel"]), report


def raw(file: Path, name: str) -> bytes:
    """The compressed bytes of a member, as they lie in the archive."""
    with zipfile.ZipFile(file) as archive, file.open("rb") as stream:
        info = archive.getinfo(name)
        stream.seek(info.header_offset + 26)
        skip = sum(int.from_bytes(stream.read(2), "little") for _ in range(2))
        stream.seek(info.header_offset + 30 + skip)
        return stream.read(info.compress_size)


def check_record(file: Path) -> None:
    """RECORD against the specification, with nothing of ours."""
    with zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
        path = next(name for name in archive.namelist() if name.endswith(".dist-info/RECORD"))
        rows = record.parse(archive.read(path), "RECORD")
        assert {item.path for item in rows} == set(archive.namelist())
        assert archive.namelist()[-1] == path
        for item in rows:
            if item.path == path:
                assert (item.digest, item.size) == ("", "")
                continue
            data = archive.read(item.path)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            assert (item.digest, item.size) == (f"sha256={digest}", str(len(data)))


def test_replaces_adds_and_removes_just_what_the_series_does(wheel_root: WheelRoot, run: Run) -> None:
    new = ONE.replace("line 7\n", "line seven\n")
    wheel_root.add_patch("change", {"pkg/one.py": new, "pkg/new/deep.py": "deep\n", "pkg/gone.py": None})
    wheel, report = built(wheel_root, run)
    assert wheel.parent == wheel_root.path / "dist"
    assert report["changed"] == ["pkg/gone.py", "pkg/new/deep.py", "pkg/one.py"]
    check_record(wheel)
    version = report["version"]
    with zipfile.ZipFile(wheel_root.official) as before, zipfile.ZipFile(wheel) as after:
        assert after.read("pkg/one.py").decode() == new
        assert after.read("pkg/new/deep.py") == b"deep\n"
        assert "pkg/gone.py" not in after.namelist()
        for name in before.namelist():
            moved = name.replace("pkg-1.0.", f"pkg-{version}.")
            if name in ("pkg/one.py", "pkg/gone.py", "pkg/_version.py") or name.endswith(("METADATA", "RECORD")):
                continue
            assert raw(wheel, moved) == raw(wheel_root.official, name), name
            old, now = before.getinfo(name), after.getinfo(moved)
            assert (now.date_time, now.external_attr, now.CRC) == (old.date_time, old.external_attr, old.CRC)


def test_the_version_is_everywhere(wheel_root: WheelRoot, run: Run) -> None:
    wheel_root.add_patch("change", {"pkg/one.py": ONE + "more\n"})
    wheel, report = built(wheel_root, run)
    version = str(report["version"])
    assert version.startswith("1.0+patchset.")
    assert wheel.name == f"pkg-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        metadata = archive.read(f"pkg-{version}.dist-info/METADATA").decode()
        assert f"\nVersion: {version}\n" in metadata
        assert metadata.endswith("\nVersion: not this one\n")
        module = archive.read("pkg/_version.py").decode()
    assert f"__version__ = version = '{version}'" in module
    assert f"version_tuple = (1, 0, '{version.partition('+')[2]}')" in module


def test_the_version_follows_the_series(wheel_root: WheelRoot, run: Run) -> None:
    wheel_root.add_patch("change", {"pkg/one.py": ONE + "more\n"})
    _, first = built(wheel_root, run)
    wheel_root.add_patch("again", {"pkg/one.py": ONE + "more\nand more\n"})
    _, second = built(wheel_root, run)
    assert first["version"] != second["version"]


def test_same_input_gives_the_same_bytes(wheel_root: WheelRoot, run: Run, tmp_path: Path) -> None:
    wheel_root.add_patch("change", {"pkg/one.py": ONE + "more\n"})
    first, _ = built(wheel_root, run)
    second, _ = built(wheel_root, run, "--out", tmp_path / "elsewhere")
    assert first.read_bytes() == second.read_bytes()


def test_installs_and_says_what_it_is(wheel_root: WheelRoot, run: Run, tmp_path: Path) -> None:
    wheel_root.add_patch("change", {"pkg/one.py": 'line = "patched"\n'})
    wheel, report = built(wheel_root, run)
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    python = venv / "bin/python"
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", "--no-index", wheel], check=True)
    said = subprocess.run(
        [python, "-c", "import pkg, pkg.one; print(pkg.__version__, pkg.one.line)"], capture_output=True, check=True
    )
    assert said.stdout.decode().split() == [report["version"], "patched"]


def test_sbom_holds_the_pedigree(wheel_root: WheelRoot, run: Run) -> None:
    wheel_root.add_patch("change", {"pkg/one.py": ONE + "more\n"})
    wheel_root.add_patch("docs-only", {"docs/guide.md": "better\n"})
    wheel, report = built(wheel_root, run)
    with zipfile.ZipFile(wheel) as archive:
        sbom = json.loads(archive.read(f"pkg-{report['version']}.dist-info/sboms/patchset.cdx.json"))
    assert (sbom["bomFormat"], sbom["specVersion"]) == ("CycloneDX", "1.6")
    component = sbom["metadata"]["component"]
    assert component["version"] == report["version"]
    (ancestor,) = component["pedigree"]["ancestors"]
    assert ancestor["version"] == "1.0"
    assert ancestor["hashes"] == [{"alg": "SHA-256", "content": wheel_root.official.parent.name}]
    (patch,) = component["pedigree"]["patches"]
    assert patch["diff"]["text"]["content"] == (wheel_root.series / "change.patch").read_text()
    properties = {item["name"]: item["value"] for item in component["properties"]}
    assert properties["patchset:commit"] == wheel_root.base
    assert properties["patchset:left-out:docs-only"] == "changes nothing that the wheel ships"
    assert "timestamp" not in sbom["metadata"]


def test_sbom_is_valid_cyclonedx(wheel_root: WheelRoot, run: Run) -> None:
    wheel_root.add_patch("change", {"pkg/one.py": ONE + "more\n"})
    wheel, report = built(wheel_root, run)
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read(f"pkg-{report['version']}.dist-info/sboms/patchset.cdx.json").decode()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None


def test_patch_of_compiled_files_refuses_the_overlay_by_name(wheel_root: WheelRoot, run: Run) -> None:
    wheel_root.add_patch("kernel", {"csrc/kernel.cu": "// faster\n", "pkg/one.py": ONE + "more\n"})
    result = run("--root", wheel_root.path, "build", "--route", "overlay", "--offline")
    assert result.code == 10
    assert "kernel: changes csrc/kernel.cu" in result.err
    assert "--route source" in result.err
    assert not (wheel_root.path / "dist").exists()


def test_source_only_patch_is_left_out_by_name(wheel_root: WheelRoot, run: Run) -> None:
    wheel_root.add_patch("kernel", {"csrc/kernel.cu": "// faster\n"}, "Build-Route: source\n")
    wheel_root.add_patch("change", {"pkg/one.py": ONE + "more\n"})
    wheel, report = built(wheel_root, run)
    assert report["left_out"] == [{"name": "kernel", "reason": "marked `Build-Route: source`"}]
    assert report["patches"] == ["change"]
    check_record(wheel)
    text = run("--root", wheel_root.path, "build", "--offline")
    assert "left out kernel: marked `Build-Route: source`" in text.out
    assert run("--root", wheel_root.path, "verify", "--offline", wheel).code == 0


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"pkg/_version.py": "mine = 1\n"}, "pkg/_version.py: the series adds it, but the wheel has one already"),
        ({"pkg/link.py": "LINK"}, "pkg/link.py: a symbolic link"),
    ],
)
def test_what_wheel_and_base_do_not_share_is_refused(
    wheel_root: WheelRoot, run: Run, files: dict[str, str], words: str
) -> None:
    if "LINK" in files.values():
        (wheel_root.upstream.path / "pkg/link.py").symlink_to("one.py")
        files = {}
    wheel_root.add_patch("change", files)
    result = run("--root", wheel_root.path, "build", "--route", "overlay", "--offline")
    assert result.code == 10
    assert words in result.err


@pytest.mark.parametrize("what", ["other", "absent"])
def test_a_file_that_differs_between_wheel_and_base_is_refused(wheel_root: WheelRoot, run: Run, what: str) -> None:
    files = {path: data for path, data in PACKAGE.items() if path != "pkg/one.py"}
    if what == "other":
        files["pkg/one.py"] = "not the base's\n"
    version = "__version__ = version = '1.0'\nversion_tuple = (1, 0)\n"
    other = write_wheel(wheel_root.path / "pkg-1.0-py3-none-any.whl", {**files, "pkg/_version.py": version})
    digest = hashlib.sha256(other.read_bytes()).hexdigest()
    target = wheel_root.official.parent.parent / digest / other.name
    target.parent.mkdir()
    wheel_root.official = other.rename(target)
    wheel_root.add_patch("change", {"pkg/one.py": ONE + "more\n"})
    result = run("--root", wheel_root.path, "build", "--route", "overlay", "--offline")
    assert result.code == 10
    assert "pkg/one.py: " in result.err
    assert ("not the file of the base" if what == "other" else "does not ship it") in result.err


def test_a_tampered_official_wheel_is_refused(wheel_root: WheelRoot, run: Run) -> None:
    wheel_root.add_patch("change", {"pkg/one.py": ONE + "more\n"})
    data = bytearray(wheel_root.official.read_bytes())
    data[100] ^= 1
    wheel_root.official.write_bytes(data)
    result = run("--root", wheel_root.path, "build", "--offline")
    assert result.code == 5
    assert wheel_root.official.name in result.err


def test_a_platform_that_is_not_there_is_named(wheel_root: WheelRoot, run: Run) -> None:
    wheel_root.write_base(platform="manylinux_2_28_x86_64")
    result = run("--root", wheel_root.path, "build", "--offline", "--platform", "win_arm64")
    assert result.code == 2
    assert "one of: manylinux_2_28_x86_64" in result.err
    assert run("--root", wheel_root.path, "build", "--offline", "--platform", "x86_64").code == 0


def test_a_full_output_folder_leaves_nothing(wheel_root: WheelRoot, run: Run) -> None:
    (wheel_root.path / "file").write_text("not a folder")
    result = run("--root", wheel_root.path, "build", "--offline", "--out", wheel_root.path / "file/dist")
    assert result.code == 9
    assert "--out" in result.err


def test_a_damaged_zip_is_refused(tmp_path: Path) -> None:
    from toolkit.errors import IntegrityError

    file = write_wheel(tmp_path / "pkg-1.0-py3-none-any.whl", PACKAGE)
    whole = file.read_bytes()
    file.write_bytes(whole[:-30])
    with pytest.raises(IntegrityError, match="cannot be used"):
        RawArchive(file)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a", "1")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a", "2")
    with pytest.raises(IntegrityError, match="twice"):
        RawArchive(file)


def test_another_wheel_of_the_same_name_is_told_of(wheel_root: WheelRoot, run: Run) -> None:
    """As a source build of the same series leaves one: it has the same version."""
    made, report = built(wheel_root, run)
    assert report["replaced"] is None
    made.write_bytes(b"compiled")
    told = run("--root", wheel_root.path, "build", "--offline")
    assert told.code == 0
    digest = hashlib.sha256(b"compiled").hexdigest()
    assert digest in "".join(told.out.split())
    assert "replaced another wheel of that name" in " ".join(told.out.split())
    made.write_bytes(b"compiled")
    again, report = built(wheel_root, run)
    assert (again, report["replaced"]) == (made, digest)
    assert built(wheel_root, run)[1]["replaced"] is None
