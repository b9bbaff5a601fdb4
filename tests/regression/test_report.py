"""The three forms of a report, and the differences between two."""

from __future__ import annotations

import copy
import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy
import pytest

from regression.cli.main import main
from regression.figures import metrics
from regression.figures.verdict import ScenarioCheck, Verdict
from regression.report import render
from regression.report.compare import compare
from regression.report.plots import Bar, linear, logarithmic
from regression.report.read import read_report
from regression.report.render import write
from regression.values.result import FlippedItem, PairFigures, ScenarioResult, SessionResult, SideResult, TaskScore
from regression.values.scenario import read_folder

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


FIGURES = {
    "tokens": 10, "kl_mean": 1e-6, "kl_p99": 2e-6, "kl_max": 3e-6, "top1_agreement": 1.0, "perplexity_ratio": 1.0001,
    "diverged": 1, "n": 8, "first_divergence": 4,
}  # fmt: skip


def session() -> SessionResult:
    flipped = FlippedItem(3, "Describe <it> & more", "a | b", "a | b", "a\nc", "data:image/png;base64,AAAA")
    good = ScenarioResult(
        name="one",
        title="A title with <b>markup</b>",
        reason="",
        checks=(
            ScenarioCheck("served", Verdict.PASS, "yes", "yes"), ScenarioCheck("odd", Verdict.PASS, "a | b", "<i>")
        ),
        quantize_seconds=3.0,
        quantize_peak_bytes=2**30,
        export={"quant_algo": "X", "kv_cache_quant_algo": None, "excluded": ["v*"], "quantized layers": 3, "scales": 9,
                "bytes": 2**20},
        sides=(
            SideResult("patched", "patched", "served", contract={"quantization": "Q", "dtype": "float32",
                "kv cache": "auto", "layers": {"a": "M/K", "b": "M/K"}}, start_seconds=4.0, peak_bytes=2**30,
                timings=TIMES),
            SideResult("released", "unpatched", "refused", error="ValueError: no"),
        ),
        fidelity=(PairFigures("patched", "fake-quant", FIGURES),),
        tasks=(TaskScore("patched", 90, 100, 0.82, 0.94, 91, 1.0, (flipped,), ()),),
    )  # fmt: skip
    gpu = ScenarioResult("two", "On a GPU", "no GPU", (ScenarioCheck("run", Verdict.NOT_RUN, "no GPU"),))
    processes = ({"process": "serve <with> the series", "steps": ["one", "two"], "begin": 0.0, "seconds": 9.5},)
    return SessionResult(copy.deepcopy(IDENTITY), (good, gpu), processes)


class Parser(HTMLParser):
    """Lists tags, and checks that each one is closed."""

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


def test_a_scenario_that_was_not_run_is_a_row_with_its_reason() -> None:
    report = session().as_json()
    page, text = render.html(report), render.markdown(report)
    assert '<tr id="two"><td>two</td>' in page
    assert 'On a GPU<br><span class="not-run">no GPU</span>' in page
    assert "| two | not run | On a GPU (no GPU) |" in text
    assert page.count("no GPU</span>") == 1
    assert "## two" not in text
    assert '<h2 id="two">' not in page


def test_json_has_all_of_it(tmp_path: Path) -> None:
    files = write(session().as_json(), tmp_path, None)
    assert [file.name for file in files] == ["report.json", "report.md", "report.html"]
    report = json.loads(files[0].read_text())
    assert (report["schema"], report["verdict"]) == (3, "pass")
    assert [item["verdict"] for item in report["scenarios"]] == ["pass", "not run"]
    before = [file.read_bytes() for file in files]
    assert [file.read_bytes() for file in write(session().as_json(), tmp_path, None)] == before, (
        "same input, same bytes"
    )
    assert sorted(file.name for file in tmp_path.iterdir()) == ["report.html", "report.json", "report.md"]


def test_plots_of_odd_values() -> None:
    for rows in ([], [Bar("zero", 0.0)], [Bar("inf", float("inf"))], [Bar("a", 1e-9), Bar("b", 3.0)]):
        for text in (logarithmic("t", rows), linear("t", [row for row in rows if row.value < 9])):
            Parser().feed(text)
            assert "nan" not in text


def changed(path: str, value: Any) -> dict[str, Any]:
    """Return the report with one value replaced; `path` as `scenarios.0.verdict`."""
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
def test_differences(path: str, value: object, line: str | None) -> None:
    difference = compare(session().as_json(), changed(path, value))
    assert not difference.worse
    lines = difference.lines
    assert lines == [] if line is None else any(line in one for one in lines), lines


def test_a_report_read_back_is_the_same_report() -> None:
    report = session().as_json()
    assert compare(json.loads(json.dumps(report)), report).lines == []


def test_a_changed_series_explains_a_verdict() -> None:
    new = changed("scenarios.0.verdict", "regression")
    new["identity"]["series"]["vllm@v1"] |= {"sha256": "c" * 64, "patches": ["one"]}
    new["scenarios"][0]["checks"][0] |= {"verdict": "regression", "actual": "ValueError: no"}
    difference = compare(session().as_json(), new)
    assert difference.worse == ["one"]
    assert difference.lines[:2] == [
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


def test_a_metric_is_one_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """JSON, Markdown, HTML, the comparison and the scenarios derive from the table."""
    total = metrics.Metric(
        "kl_sum", "KL sum", lambda pair: float(pair.divergence.sum()), "{:.2f}", "nats", ideal=0.0,
        limit=metrics.Limit("kl-sum", "KL sum"), change="sum of divergences",
    )  # fmt: skip
    monkeypatch.setattr(metrics, "METRICS", (*metrics.METRICS, total))

    def report(logit: float) -> dict[str, Any]:
        pair = metrics.Pair(numpy.log([[0.5, 0.5]]), numpy.log([[logit, 1 - logit]]), [0])
        fidelity = (PairFigures("patched", "released", metrics.figures(pair)),)
        result = ScenarioResult("one", "t", "", (ScenarioCheck("served", Verdict.PASS, "yes"),), fidelity=fidelity)
        return SessionResult(copy.deepcopy(IDENTITY), (result,)).as_json()

    old, new = report(0.5), report(0.9)
    assert new["scenarios"][0]["fidelity"][0]["kl_sum"] == pytest.approx(0.5108, abs=1e-4)
    assert "<th>KL sum, nats</th>" in render.html(new)
    assert "<td>0.51</td>" in render.html(new)
    assert " KL sum, nats |\n" in render.markdown(new)
    assert " 0.51 |\n" in render.markdown(new)
    assert "one: patched against released: sum of divergences 0 became 0.511 nats" in compare(old, new).lines
    (tmp_path / "one.toml").write_text(
        'title = "t"\nformat = "none"\ndtype = "float32"\n[[side]]\nname = "a"\nvllm = "patched"\n'
        '[[distance]]\nside = "a"\nreference = "unquantized"\nkl-sum = 0.5\n'
    )
    ((scenario,), _) = read_folder(tmp_path)
    assert scenario.distances[0].limits == {"kl_sum": 0.5}


def test_an_older_report_is_upgraded(tmp_path: Path) -> None:
    """tests/regression/report-2.json is one of schema 2, with every key that has another name now."""
    file = Path(__file__).with_name("report-2.json")
    old, report = json.loads(file.read_text()), read_report(file)
    assert report["schema"] == 3
    assert report["processes"] == old["spent"]
    http, dead, lost = report["scenarios"]
    assert [check["name"] for check in http["checks"]] == ["server: an image, streamed"]
    assert (dead["name"], dead["checks"][0]["name"]) == ("control-dead-channel", "export: no dead channel")
    assert (dead["checks"][0]["actual"], dead["checks"][0]["expected"]) == ("none", "none")
    controls = report["identity"]["series"]["modelopt@0.46.0"]["controls"]
    assert controls["smoothquant-sleeping-channels"]["scenarios"] == ["control-dead-channel"]
    assert report["identity"]["model"]["card"]["right"] == {"full images": 0.97, "full text": 1.0}
    (item,) = lost["tasks"][0]["lost"]
    assert (item["question"], item["answer"], item["image"]) == ("Describe the picture.", "a red circle", "")
    assert lost["fidelity"] == old["scenarios"][2]["fidelity"], "figures stay"
    assert render.html(report)
    assert render.markdown(report)
    assert compare(report, report).lines == []


@pytest.mark.parametrize("name", ["tests/e2e/baseline-cpu.json", "docs/e2e-gpu.json"])
def test_the_projects_own_reports_are_of_the_present_schema(name: str) -> None:
    file = Path(__file__).parents[2] / name
    assert json.loads(file.read_text()) == read_report(file)
