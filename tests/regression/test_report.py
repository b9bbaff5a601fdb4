"""The three forms of a report, and what differs between two."""

from __future__ import annotations

import copy
import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from regression.cli.main import main
from regression.figures.verdict import Check, Verdict
from regression.model.result import Item, Measured, Ran, ScenarioResult, Session, Task
from regression.report import render
from regression.report.compare import compare
from regression.report.plots import Bar, linear, logarithmic
from regression.report.write import write

HARDWARE = {"cpu": "A CPU", "cores": 2, "memory": 2**33, "features": ("avx2",), "gpus": (), "driver": None}
IDENTITY = {
    "commit": "0" * 40,
    "series": {
        "vllm@v1": {
            "sha256": "a" * 64,
            "patches": ["one", "two"],
            "controls": {
                "one": {"scenarios": ["one"], "reason": "", "tests": ["tests/a.py::test_a"]},
                "two": {"scenarios": [], "reason": "it needs | a machine", "tests": ["tests/a.py::test_b"]},
            },
            "commit": None,
            "wheels": {},
        }
    },
    "environments": {"quantize": {"torch": "2.13.0"}, "serve": {"vllm": "0.30.0"}},
    "model": {"sha256": "b" * 64, "card": None, "shape": "qwen2_5_vl, 3 layers of 128, vocabulary 384"},
    "hardware": HARDWARE,
}
TIMES = {"first token": [0.01, 0.012], "per token": [0.002, 0.003], "throughput": [900.0, 1000.0]}


def session() -> Session:
    flipped = Item(3, "Describe <it> & more", "a | b", "a | b", "a\nc", "data:image/png;base64,AAAA")
    good = ScenarioResult(
        name="one",
        title="A title with <b>markup</b>",
        reason="",
        checks=(Check("served", Verdict.PASS, "yes", "yes"), Check("odd", Verdict.PASS, "a | b", "<i>")),
        quantize_seconds=3.0,
        quantize_peak_bytes=2**30,
        export={"quant_algo": "X", "kv_cache_quant_algo": None, "excluded": ["v*"], "quantized layers": 3, "scales": 9,
                "bytes": 2**20},
        sides=(
            Ran("patched", "patched", "served", contract={"quantization": "Q", "dtype": "float32", "kv cache": "auto",
                "layers": {"a": "M/K", "b": "M/K"}}, start_seconds=4.0, peak_bytes=2**30, timings=TIMES),
            Ran("released", "unpatched", "refused", error="ValueError: no"),
        ),
        fidelity=(Measured("patched", "fake-quant", 10, 1e-6, 2e-6, 3e-6, 1.0, 1.0001, 1, 8, 4),),
        tasks=(Task("patched", 90, 100, 0.82, 0.94, 91, 1.0, (flipped,), ()),),
    )  # fmt: skip
    gpu = ScenarioResult("two", "On a GPU", "no GPU", (Check("run", Verdict.NOT_RUN, "no GPU"),))
    spent = ({"process": "serve <with> the series", "steps": ["one", "two"], "begin": 0.0, "seconds": 9.5},)
    return Session(copy.deepcopy(IDENTITY), (good, gpu), spent)


class Parser(HTMLParser):
    """Counts tags, and holds that what is opened is closed."""

    VOID = frozenset({"meta", "img", "br", "line", "rect", "circle"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_html_is_whole_escaped_and_self_contained() -> None:
    text = render.html(session().as_json(), ["a line"])
    parser = Parser()
    parser.feed(text)
    assert not parser.open
    tags = [tag for tag, _ in parser.seen]
    assert tags.count("svg") == 5, "divergence, task, and three times"
    assert "b" not in tags, "titles are escaped"
    assert "i" not in tags
    links = [value for _, attrs in parser.seen for key, value in attrs.items() if key in ("src", "href")]
    assert all(value is not None and value.startswith(("#", "data:")) for value in links)
    assert not re.search(r"https?://", text)


def test_markdown_tables_hold() -> None:
    text = render.markdown(session().as_json())
    assert "| odd | pass | a \\| b | <i> |" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    widths = [len(re.findall(r"(?<!\\)\|", row)) for row in rows]
    for before, row in pairwise(rows):
        if set(row) <= set("|-"):
            assert len(re.findall(r"(?<!\\)\|", row)) == len(re.findall(r"(?<!\\)\|", before))
    assert min(widths) >= 3
    assert "90 of 100 answers right (82.0 to 94.0 % at 95 %)" in text
    assert "2 x M/K" in text
    assert "| vllm@v1 | two | it needs \\| a machine | tests/a.py::test_b |" in text
    assert "| serve <with> the series | 2 | 0.0 | 9.5 |" in text


def test_what_was_not_run_is_a_row_with_its_reason() -> None:
    report = session().as_json()
    page, text = render.html(report), render.markdown(report)
    assert '<tr id="two"><td>two</td>' in page
    assert 'On a GPU<br><span class="not-run">no GPU</span>' in page
    assert "| two | not run | On a GPU (no GPU) |" in text
    assert page.count("no GPU</span>") == 1
    assert "## two" not in text
    assert '<h2 id="two">' not in page


def test_json_says_all_of_it(tmp_path: Path) -> None:
    files = write(session(), tmp_path, None)
    assert [file.name for file in files] == ["report.json", "report.md", "report.html"]
    report = json.loads(files[0].read_text())
    assert (report["schema"], report["verdict"]) == (2, "pass")
    assert [item["verdict"] for item in report["scenarios"]] == ["pass", "not run"]
    before = [file.read_bytes() for file in files]
    assert [file.read_bytes() for file in write(session(), tmp_path, None)] == before, "same input, same bytes"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["report.html", "report.json", "report.md"]


def test_plots_of_odd_values() -> None:
    for rows in ([], [Bar("zero", 0.0)], [Bar("inf", float("inf"))], [Bar("a", 1e-9), Bar("b", 3.0, good=False)]):
        for text in (logarithmic("t", rows), linear("t", [row for row in rows if row.value < 9])):
            Parser().feed(text)
            assert "nan" not in text


def changed(path: str, value: Any) -> dict[str, Any]:
    """The report with one value replaced; `path` as `scenarios.0.verdict`."""
    report: dict[str, Any] = json.loads(json.dumps(session().as_json()))
    *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    at: Any = report
    for part in way:
        at = at[part]
    at[last] = value
    return report


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        ("identity.series.vllm@v1.patches", ["one", "three"], None),
        ("identity.environments.serve", {"vllm": "0.33.0"}, "to serve: vllm 0.30.0 became 0.33.0"),
        ("identity.model.sha256", "c", "the model is another one"),
        ("identity.hardware", {**HARDWARE, "cores": 8}, "cores 2 became 8"),
        ("scenarios.0.fidelity.0.kl_max", 1e-3, "largest divergence 3e-06 became 0.001 nats"),
        ("scenarios.0.fidelity.0.kl_max", 4e-6, None),
        ("scenarios.0.tasks.0.right", 70, "90 of 100 right became 70 of 100, outside the old 95 % interval"),
        ("scenarios.0.sides.0.timings.throughput", [90.0, 91.0], "throughput is 0.10 times the old median"),
        ("scenarios.0.sides.0.timings.throughput", [990.0, 1100.0], None),
        ("scenarios.0.name", "new", "one: is gone"),
    ],
)
def test_what_differs(path: str, value: object, line: str | None) -> None:
    found = compare(session().as_json(), changed(path, value))
    assert not found.worse
    assert found.lines == [] if line is None else any(line in one for one in found.lines), found.lines


def test_a_report_read_back_is_the_same_report() -> None:
    made = session().as_json()
    assert compare(json.loads(json.dumps(made)), made).lines == []


def test_a_changed_series_explains_a_verdict() -> None:
    new = changed("scenarios.0.verdict", "regression")
    new["identity"]["series"]["vllm@v1"] |= {"sha256": "c" * 64, "patches": ["one"]}
    new["scenarios"][0]["checks"][0] |= {"verdict": "regression", "found": "ValueError: no"}
    found = compare(session().as_json(), new)
    assert found.worse == ["one"]
    assert found.lines[:2] == [
        "series vllm@v1 differs: without two",
        "one: pass became regression (served: ValueError: no)",
    ]


def test_times_of_another_machine_are_not_compared() -> None:
    new = changed("scenarios.0.sides.0.timings.throughput", [9.0])
    new["identity"]["hardware"] = {**HARDWARE, "cpu": "Another"}
    assert not [line for line in compare(session().as_json(), new).lines if "throughput" in line]


def test_compare_as_a_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    old.write_text(json.dumps(session().as_json()))
    new.write_text(json.dumps(changed("scenarios.0.verdict", "inconclusive")))
    assert main(["compare", str(old), str(old)]) == 0
    assert capsys.readouterr().out == "nothing differs\n"
    assert main(["compare", str(old), str(new), "--json"]) == 13
    assert json.loads(capsys.readouterr().out)["worse"] == ["one"]
    new.write_text("{}")
    assert main(["compare", str(old), str(new)]) == 2
    assert "is no report" in capsys.readouterr().err
    new.write_text(json.dumps({"schema": 99}))
    assert main(["compare", str(old), str(new)]) == 2
    assert main(["compare", str(old), str(tmp_path / "none.json")]) == 2
