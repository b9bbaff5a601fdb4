"""From log-probabilities and answers to figures and checks: distances, task scores, the server's answers."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy

from regression.figures.metrics import Array, Pair, figures, limited
from regression.figures.score import paired, wilson
from regression.figures.verdict import ScenarioCheck, at_most, holds, not_worse
from regression.session.bench import StepOutput
from regression.session.fixture import Fixture
from regression.values.result import FlippedItem, PairFigures, TaskScore
from regression.values.scenario import Distance, Scenario
from regression.workers.items import load_items
from toolkit.progress import Reporter

TINY = 1e-12  # nats
IMAGES = 8  # flipped items that are shown with their image


@dataclass(frozen=True)
class Evidence:
    """The outputs of a scenario's steps: the sides that were served, the checkpoint, the unquantized model."""

    served: Mapping[str, StepOutput]
    quantized: StepOutput | None
    unquantized: StepOutput | None

    def logprobs(self, name: str) -> Array | None:
        """Return the log-probabilities of a side or a reference, [tokens, vocabulary], or None."""
        output = self.quantized if name == "fake-quant" else self._served(name)
        if output is None or output.error is not None:
            return None
        array: Array = numpy.load(output.folder / "logprobs.npy", mmap_mode="r")
        return array

    def answers(self, name: str) -> list[dict[str, Any]] | None:
        """Return the greedy answers of a side or a reference, `text` and `tokens` of each, or None."""
        output = self._served(name)
        answers = output.answer.get("answers") if output is not None else None
        return answers if isinstance(answers, list) else None

    def _served(self, name: str) -> StepOutput | None:
        return self.unquantized if name == "unquantized" else self.served.get(name)


def judge(
    scenario: Scenario, fixture: Fixture, evidence: Evidence, reporter: Reporter
) -> tuple[tuple[PairFigures, ...], tuple[TaskScore, ...], list[ScenarioCheck]]:
    """Return all figures of a scenario, and the checks that follow from them."""
    pairs, checks = _distances(scenario, evidence, reporter)
    tasks = []
    for side in scenario.sides:
        if side.http and side.name in evidence.served:
            checks += _http_checks(side.name, evidence.served[side.name].answer)
        elif scenario.task_loss is not None and fixture.card is not None and side.name in evidence.served:
            task, check = _task(side.name, scenario, scenario.task_loss, fixture, evidence)
            tasks.append(task)
            checks.append(check)
    return tuple(pairs), tuple(tasks), checks


def _distances(
    scenario: Scenario, evidence: Evidence, reporter: Reporter
) -> tuple[list[PairFigures], list[ScenarioCheck]]:
    """Return the figures of the noise floors and the distances, and the checks of the distances."""
    repeated = [side.name for side in scenario.sides if f"{side.name}, again" in evidence.served]
    checks: list[ScenarioCheck] = []
    pairs: list[PairFigures] = []
    with reporter.task(f"compare {scenario.name}", len(repeated) + len(scenario.distances), "pairs") as task:
        for number, name in enumerate(repeated, 1):
            pairs += _compare(evidence, name, f"{name}, again")
            task.update(number)
        noise = max((pair.figures["kl_max"] or 0.0 for pair in pairs), default=0.0)
        for number, distance in enumerate(scenario.distances, len(repeated) + 1):
            pair = _compare(evidence, distance.side, distance.reference)
            relative = pair and distance.fake_quant_times is not None
            own = _compare(evidence, "fake-quant", distance.reference) if relative else []
            pairs += [*pair, *own]
            checks += _distance_checks(distance, pair, own, noise)
            task.update(number)
    return pairs, checks


def _compare(evidence: Evidence, side: str, reference: str) -> list[PairFigures]:
    """Return the figures of a side against a reference; none where one of them has no distributions."""
    before, after = evidence.logprobs(reference), evidence.logprobs(side)
    if before is None or after is None:
        return []
    mine, theirs = evidence.answers(side), evidence.answers(reference)
    answers = []
    if mine is not None and theirs is not None:
        answers = [(a["tokens"], b["tokens"]) for a, b in zip(theirs, mine, strict=True)]
    # The targets of the fixed tokens are the reference's likeliest: this needs no tokenizer.
    return [PairFigures(side, reference, figures(Pair(before, after, before.argmax(1).tolist(), answers)))]


def _distance_checks(
    distance: Distance, pairs: list[PairFigures], fake: list[PairFigures], noise: float
) -> list[ScenarioCheck]:
    """Return the checks of a pair's figures; `fake` are those of fake quantization against the same reference."""
    name = f"{distance.side} against {distance.reference}"
    if not pairs:
        return [holds(name, False, f"{distance.side} or {distance.reference} gave no figures", "figures")]
    (pair,) = pairs
    checks = []
    for metric, limit in limited():
        value = pair.figures[metric.key]
        if value is not None and metric.key in distance.limits:
            bound, floor = distance.limits[metric.key], noise if limit.noisy else 0.0
            checks.append(at_most(f"{name}: {limit.check}", metric.distance(value), bound, floor))
    if distance.fake_quant_times is not None:
        mean = pair.figures["kl_mean"] or 0.0
        times = [mean / max(own.figures["kl_mean"] or 0.0, TINY) for own in fake]
        title = f"{name}: KL mean, in fake quantization's"
        checks += [at_most(title, value, distance.fake_quant_times) for value in times]
    return checks


def _task(
    side: str, scenario: Scenario, loss: float, fixture: Fixture, evidence: Evidence
) -> tuple[TaskScore, ScenarioCheck]:
    items = load_items(fixture.items)[: scenario.items or None]
    after, before = evidence.answers(side) or [], evidence.answers("unquantized") or []
    mine = [answer["text"] == item["answer"] for answer, item in zip(after, items, strict=True)]
    theirs = [answer["text"] == item["answer"] for answer, item in zip(before, items, strict=True)]
    flips, score = paired(theirs, mine), wilson(sum(mine), len(mine))

    def flipped(index: int) -> FlippedItem:
        file = items[index]["image"] if index in (*flips.lost[:IMAGES], *flips.won[:IMAGES]) else None
        image = base64.b64encode((fixture.items.parent / file).read_bytes()).decode() if file else ""
        return FlippedItem(
            number=index,
            question=items[index]["question"],
            right=items[index]["answer"],
            reference=before[index]["text"],
            answer=after[index]["text"],
            image=f"data:image/png;base64,{image}" if image else "",
        )

    task = TaskScore(
        side=side,
        **asdict(score),
        reference_right=sum(theirs),
        p_value=flips.p_value,
        lost=tuple(flipped(index) for index in flips.lost),
        won=tuple(flipped(index) for index in flips.won),
    )
    return task, not_worse(f"{side}: answers against the unquantized model's", flips, loss)


def _http_checks(side: str, answer: Mapping[str, Any]) -> list[ScenarioCheck]:
    """Check that the server's answers are the same streamed, alone and at once, and that it is gone afterwards."""
    text, image = "".join(answer["streamed text"]["pieces"]), "".join(answer["streamed image"]["pieces"])
    pieces, count = len(answer["streamed text"]["pieces"]), len(answer["right"])
    same = sum(a == b for a, b in zip(answer["one by one"], answer["at once"], strict=True))
    right = sum(a == b for a, b in zip(answer["one by one"], answer["right"], strict=True))
    after, code, closed = answer["after the error"], answer["unknown model"], answer["port closed"]
    streamed = text == answer["text"] and pieces > 1
    return [
        holds(f"{side}: a text, streamed", streamed, f"{pieces} pieces: {text}", answer["text"]),
        holds(f"{side}: an image, streamed", image == answer["image"], image, answer["image"]),
        holds(f"{side}: {count} at once as one by one", same == count, f"{same} alike", f"{count}"),
        holds(f"{side}: answers right", right >= 0.75 * count, f"{right} of {count}", f"{0.75 * count:.0f} or more"),
        holds(f"{side}: an unknown model", code == "404", code, "404"),
        holds(f"{side}: answers after that", after == answer["text"], after, "as before"),
        holds(f"{side}: the port is free again", closed, str(closed), "True"),
    ]
