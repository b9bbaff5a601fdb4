"""The project's files, held against each other."""

from __future__ import annotations

import importlib
import re
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from patchset.authoring.lint import lint
from patchset.cli.main import COMMANDS
from patchset.project.project import load
from patchset.sources import archive
from toolkit import errors
from toolkit.progress import Quiet

ROOT = Path(__file__).parents[2]


def test_our_own_series_are_good() -> None:
    count, findings = lint(ROOT)
    assert [finding.render() for finding in findings] == []
    assert count >= 2


def every_cause() -> set[tuple[int, str]]:
    causes, classes = set(), [errors.PatchsetError]
    while classes:
        kind = classes.pop()
        causes.add((kind.exit_code, kind.slug))
        classes += kind.__subclasses__()
    return causes


def test_every_exit_code_is_documented() -> None:
    importlib.import_module("patchset.store.git")
    text = (ROOT / "docs/exit-codes.md").read_text()
    rows = {int(match[1]): match[2] for match in re.finditer(r"^\| (\d+) \| ([^|]*)\|", text, re.MULTILINE)}
    for code, slug in every_cause():
        assert f"`{slug}`" in rows[code], (code, slug)


def test_every_key_is_documented() -> None:
    text = (ROOT / "docs/formats.md").read_text()
    readers = ("project/project.py", "project/base_toml.py", "sources/submodule.py", "sources/archive.py")
    source = "".join((ROOT / "tools/patchset" / name).read_text() for name in readers)
    keys = set(re.findall(r'\.(?:text|strings|get|tables|integer)\("([a-z-]+)"', source))
    assert len(keys) > 15
    for key in keys:
        assert re.search(rf"`(?:\[*)?(?:\w+\.)?{key}\]*`", text), key


def test_pixi_pins_what_the_project_pins() -> None:
    pixi = tomllib.loads((ROOT / "pixi.toml").read_text())
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert set(pixi["environments"]) == {"default", "cpu", "rtx5090", "rtx5090-cu128"}
    features = pixi["feature"]
    for name, environment in pixi["environments"].items():
        for feature in environment.get("features", ()):
            assert feature in features, f"{name} names an unknown feature"
    minor = pixi["dependencies"]["python"].removesuffix(".*")
    assert minor in SpecifierSet(pyproject["project"]["requires-python"])
    from patchset.store.git import OLDEST

    assert pixi["dependencies"]["git"] == f">={OLDEST[0]}.{OLDEST[1]}"
    nox = re.search(r'needs_version = "([^"]+)"', (ROOT / "noxfile.py").read_text())
    assert nox is not None
    assert pixi["dependencies"]["nox"] == nox[1]
    older = features["rtx5090-cu128"]
    assert older["dependencies"]["cuda-toolkit"] == "12.8.1"
    assert older["pypi-dependencies"] == {"torch": "==2.9.1", "torchaudio": "==2.9.1", "torchvision": "==0.24.1"}
    assert features["rtx5090"]["dependencies"]["cuda-toolkit"].startswith("13.")
    for task in ("apply", "build", "status", "tests", "lint"):
        assert task in pixi["tasks"]
    for command in re.findall(r"patchset (\w+)", (ROOT / "pixi.toml").read_text()):
        assert command in COMMANDS, command


@pytest.mark.slow
@pytest.mark.network
def test_pixi_pins_the_torch_that_the_pinned_vllm_wants() -> None:
    component = load(ROOT).component("vllm")
    base = component.base(component.pinned or "")
    assert base is not None
    pixi = tomllib.loads((ROOT / "pixi.toml").read_text())
    for variant, feature in (("cuda", "rtx5090"), ("cpu", "cpu")):
        wheel = next(item for item in base.wheels if item.variant == variant)
        with zipfile.ZipFile(archive.download(wheel, Quiet())) as opened:
            name = next(item for item in opened.namelist() if item.endswith(".dist-info/METADATA"))
            wanted = re.search(r"^Requires-Dist: torch *(==[\d.]+)", opened.read(name).decode(), re.MULTILINE)
        assert wanted is not None
        assert pixi["feature"][feature]["pypi-dependencies"]["torch"] == wanted[1]
