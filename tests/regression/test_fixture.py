"""The model: one that make-model wrote, the user's own; and what a machine lacks to serve it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from regression.effects.cache import StepCache, digest
from regression.effects.machine import Hardware, probe
from regression.session.fixture import Maker
from toolkit.errors import EnvironmentProblem, UsageError
from toolkit.progress import Quiet
from toolkit.python import Python


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    return Maker(StepCache(tmp_path / "cache"), Python(Path("nobody"), {}, {}), Quiet(), "cpu", 2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A fixture as make-model writes it, without a card: nothing was learned."""
    (tmp_path / "fixture/model").mkdir(parents=True)
    config = {
        "model_type": "qwen2_5_vl",
        "text_config": {"num_hidden_layers": 3, "hidden_size": 128, "vocab_size": 384},
    }
    (tmp_path / "fixture/model/config.json").write_text(json.dumps(config))
    (tmp_path / "fixture/captions.txt").write_text("a circle\n")
    (tmp_path / "fixture/items.json").write_text("[]")
    return tmp_path / "fixture"


def test_a_folder_that_make_model_wrote_needs_no_captions(folder: Path, maker: Maker) -> None:
    fixture = maker.fixture(folder, None, None, 0)
    assert (fixture.card, fixture.calibration, fixture.items) == (None, None, folder / "items.json")
    assert fixture.shape == "qwen2_5_vl, 3 layers of 128, vocabulary 384"
    (folder / "card.json").write_text('{"seed": 0}')
    (folder / "calibration.json").write_text("[]")
    learned = maker.fixture(folder, None, None, 0)
    assert (learned.card, learned.calibration) == ({"seed": 0}, folder / "calibration.json")
    assert digest(*learned.files) != digest(*fixture.files)
    (folder / "calibration.json").rename(folder / "lessons.json")
    older = maker.fixture(folder, None, None, 0)
    assert older.calibration == folder / "lessons.json", "as an earlier version wrote it"


@pytest.mark.parametrize("name", ["captions.txt", "model/config.json"])
def test_what_is_missing_from_it_is_named(folder: Path, maker: Maker, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(UsageError, match=name):
        maker.fixture(folder, None, None, 0)


def test_a_checkpoint_of_ones_own_needs_captions(folder: Path, maker: Maker) -> None:
    with pytest.raises(UsageError, match="go together"):
        maker.fixture(folder / "model", None, None, 0)
    fixture = maker.fixture(folder / "model", folder / "captions.txt", None, 0)
    (item,) = json.loads(fixture.items.read_text())
    assert item["prompt"] + item["answer"] == "a circle"


@pytest.mark.parametrize(
    ("gpus", "cuda", "device", "needs", "lacks"),
    [
        ((), False, "cpu", (), None),
        ((), False, "cuda", (), "no GPU"),
        (("H100 sm_90",), False, "cuda", (), "built for a CPU"),
        (("H100 sm_90",), True, "cpu", (), "built for a GPU"),
        (("H100 sm_90",), True, "cuda", ("sm_100",), "no GPU of sm_100 or newer"),
        (("RTX 5090 sm_120",), True, "cuda", ("sm_100",), None),
        ((), False, "cpu", ("amx",), "no AMX"),
        ((), False, "cpu", ("avx512",), "no AVX-512"),
        ((), False, "cpu", ("vnni",), "no VNNI"),
    ],
)
def test_what_a_machine_lacks(
    gpus: tuple[str, ...], cuda: bool, device: str, needs: tuple[str, ...], lacks: str | None
) -> None:
    reason = Hardware("", 2, 0, (), gpus, None).lacks(device, needs, cuda)
    assert reason is None if lacks is None else lacks in (reason or "")


def test_an_upstream_is_looked_up_where_it_is_and_not_on_our_own_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site/vllm").mkdir(parents=True)
    (tmp_path / "site/vllm/__init__.py").touch()
    (tmp_path / "ours/modelopt").mkdir(parents=True)
    (tmp_path / "ours/modelopt/__init__.py").touch()
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="$PYTHONPATH:{tmp_path}/site" exec python3 "$@"\n')
    python.chmod(0o755)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "ours"))
    sites = probe("serve", str(python)).sites
    assert (sites.get("vllm"), sites.get("modelopt")) == (tmp_path / "site", None)
    with pytest.raises(EnvironmentProblem, match="is no Python that runs"):
        probe("serve", str(tmp_path / "none"))


def test_two_upstreams_of_one_environment_have_a_folder_each(tmp_path: Path) -> None:
    for name in ("vllm", "modelopt"):
        (tmp_path / name / name).mkdir(parents=True)
        (tmp_path / name / name / "__init__.py").touch()
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{tmp_path}/vllm:{tmp_path}/modelopt" exec python3 "$@"\n')
    python.chmod(0o755)
    sites = probe("serve", str(python)).sites
    assert {name: sites[name] for name in ("vllm", "modelopt")} == {
        name: tmp_path / name for name in ("vllm", "modelopt")
    }
