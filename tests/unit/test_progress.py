"""Progress in a log: a line now and then, with the time left where it is known."""

from __future__ import annotations

import pytest

from toolkit import console


def test_a_log_has_the_time_left(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    clock = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: clock[0])
    with console.Terminal().task("train", 400, "steps") as task:
        clock[0] += 5
        task.update(50)
        clock[0] += 15
        task.update(100)
        clock[0] += 20
        task.update(0, 400)
    assert capsys.readouterr().err.splitlines() == [
        "train: 100 of 400 steps, about 60 s left",
        "train",
        "train, 40 s",
    ]
