"""From what was measured to checks: distances, task scores, the server's answers."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy

from regression.figures.fidelity import Array, Fidelity, compare, first_divergence
from regression.figures.score import paired, wilson
from regression.figures.verdict import Check, at_most, holds, not_worse
from regression.model.result import Item, Measured, Task
from regression.model.scenario import Distance, Scenario
from regression.stages.kit import Kit
from regression.stages.quantize import Quantized
from regression.stages.serve import Served
from toolkit.progress import Reporter

TINY = 1e-12  # nats
PICTURES = 8  # flipped items that are shown with their picture


@dataclass(frozen=True)
class Evidence:
    """What a scenario's steps left: the sides that were served, the checkpoint, the unquantized model's answers."""

    served: Mapping[str, Served]
    quantized: Quantized | None
    unquantized: Served | None

    def folder(self, name: str) -> Path | None:
        """Return where the log-probabilities of a side or a reference are, or None."""
        if name == "fake-quant":
            return self.quantized.folder if self.quantized is not None and self.quantized.error is None else None
        found = self.unquantized if name == "unquantized" else self.served.get(name)
        return found.folder if found is not None and found.error is None else None

    def answers(self, name: str) -> list[dict[str, Any]] | None:
        found = self.unquantized if name == "unquantized" else self.served.get(name)
        answers = found.answer.get("answers") if found is not None else None
        return answers if isinstance(answers, list) else None


def judge(
    scenario: Scenario, kit: Kit, evidence: Evidence, reporter: Reporter
) -> tuple[tuple[Measured, ...], tuple[Task, ...], list[Check]]:
    """Return all figures of a scenario, and the checks that follow from them."""
    items = json.loads(kit.items.read_text())[: scenario.items or None]
    measured, checks = _distances(scenario, evidence, reporter)
    tasks = []
    for side in scenario.sides:
        if side.http and side.name in evidence.served:
            checks += _http_checks(side.name, evidence.served[side.name].answer)
        elif scenario.task_loss is not None and kit.card is not None and side.name in evidence.served:
            task, check = _task(side.name, scenario.task_loss, items, kit, evidence)
            tasks.append(task)
            checks.append(check)
    return tuple(measured), tuple(tasks), checks


def _distances(scenario: Scenario, evidence: Evidence, reporter: Reporter) -> tuple[list[Measured], list[Check]]:
    """Return the noise floors and the distances, and the checks of these."""
    repeated = [side.name for side in scenario.sides if f"{side.name}, again" in evidence.served]
    relative = [wanted for wanted in scenario.distances if wanted.fake_quant_times != float("inf")]
    total = len(repeated) + len(scenario.distances) + len(relative)
    checks: list[Check] = []
    measured: list[Measured] = []
    with reporter.task(f"compare {scenario.name}", total, "pairs") as task:
        for number, name in enumerate(repeated, 1):
            measured += _measure(evidence, name, f"{name}, again")
            task.update(number)
        noise = max((found.kl_max for found in measured), default=0.0)
        done = len(repeated)
        for wanted in scenario.distances:
            found = _measure(evidence, wanted.side, wanted.reference)
            own = _measure(evidence, "fake-quant", wanted.reference) if found and wanted in relative else []
            measured += [*found, *own]
            checks += _distance_checks(wanted, found, own, noise)
            done += 2 if wanted in relative else 1
            task.update(done)
    return measured, checks


def _measure(evidence: Evidence, side: str, reference: str) -> list[Measured]:
    """Return the figures of a side against a reference; none where one of them gave no distributions."""
    one, other = evidence.folder(reference), evidence.folder(side)
    if one is None or other is None:
        return []
    before, after = _logprobs(one), _logprobs(other)
    # The targets of the fixed tokens are what the reference finds most likely: they need no tokenizer here.
    found: Fidelity = compare(before, after, before.argmax(1).tolist())
    figures = {key: value for key, value in asdict(found).items() if key != "finite"}
    if not found.finite:
        figures |= {"kl_mean": float("inf"), "kl_p99": float("inf"), "kl_max": float("inf")}
    mine, theirs = evidence.answers(side), evidence.answers(reference)
    places: list[int | None] = []
    if mine is not None and theirs is not None:
        places = [first_divergence(a["tokens"], b["tokens"]) for a, b in zip(theirs, mine, strict=True)]
    where = [place for place in places if place is not None]
    return [
        Measured(
            side=side,
            reference=reference,
            diverged=len(where) if places else None,
            n=len(places) or None,
            first_divergence=min(where, default=None),
            **figures,
        )
    ]


def _logprobs(folder: Path) -> Array:
    found: Array = numpy.load(folder / "logprobs.npy", mmap_mode="r")
    return found


def _distance_checks(wanted: Distance, pair: list[Measured], fake: list[Measured], noise: float) -> list[Check]:
    """Return the checks of a pair's figures; `fake` are those of fake quantization against the same reference."""
    name = f"{wanted.side} against {wanted.reference}"
    if not pair:
        return [holds(name, False, f"{wanted.side} or {wanted.reference} gave no figures", "figures")]
    (found,) = pair
    checks = [
        at_most(f"{name}: KL mean", found.kl_mean, wanted.kl_mean, noise),
        at_most(f"{name}: KL max", found.kl_max, wanted.kl_max, noise),
        at_most(f"{name}: perplexity ratio off 1 by", abs(found.perplexity_ratio - 1), wanted.perplexity),
        at_most(f"{name}: top-1 differing", 1 - found.top1_agreement, 1 - wanted.top1),
    ]
    limits = (wanted.kl_mean, wanted.kl_max, wanted.perplexity, 1 - wanted.top1)
    limited = [check for check, limit in zip(checks, limits, strict=True) if limit not in (float("inf"), 1.0)]
    times = [found.kl_mean / max(own.kl_mean, TINY) for own in fake]
    words = f"{name}: KL mean, in fake quantization's"
    return limited + [at_most(words, value, wanted.fake_quant_times) for value in times]


def _task(side: str, loss: float, items: list[dict[str, Any]], kit: Kit, evidence: Evidence) -> tuple[Task, Check]:
    said, before = evidence.answers(side) or [], evidence.answers("unquantized") or []
    right = [item["answer"] for item in items]
    mine = [answer["text"] == wanted for answer, wanted in zip(said, right, strict=True)]
    theirs = [answer["text"] == wanted for answer, wanted in zip(before, right, strict=True)]
    flips, score = paired(theirs, mine), wilson(sum(mine), len(mine))

    def item(index: int) -> Item:
        shown = items[index]["picture"] if index in (*flips.lost[:PICTURES], *flips.won[:PICTURES]) else None
        picture = base64.b64encode((kit.items.parent / shown).read_bytes()).decode() if shown else ""
        return Item(
            number=index,
            ask=items[index]["ask"],
            right=right[index],
            reference=before[index]["text"],
            said=said[index]["text"],
            picture=f"data:image/png;base64,{picture}" if picture else "",
        )

    task = Task(
        side=side,
        right=score.right,
        n=score.n,
        low=score.low,
        high=score.high,
        reference_right=sum(theirs),
        p_value=flips.p_value,
        lost=tuple(item(index) for index in flips.lost),
        won=tuple(item(index) for index in flips.won),
    )
    return task, not_worse(f"{side}: answers against the unquantized model's", flips, loss)


def _http_checks(side: str, said: dict[str, Any]) -> list[Check]:
    """The server has to say the same however it is asked, and to be gone afterwards."""
    text, picture = "".join(said["streamed text"]["pieces"]), "".join(said["streamed picture"]["pieces"])
    pieces = len(said["streamed text"]["pieces"])
    same = sum(a == b for a, b in zip(said["one by one"], said["at once"], strict=True))
    right = sum(a == b for a, b in zip(said["one by one"], said["right"], strict=True))
    count = len(said["right"])
    return [
        holds(
            f"{side}: a text, streamed", text == said["text"] and pieces > 1, f"{pieces} pieces: {text}", said["text"]
        ),
        holds(f"{side}: a picture, streamed", picture == said["picture"], picture, said["picture"]),
        holds(f"{side}: {count} at once as one by one", same == count, f"{same} alike", f"{count}"),
        holds(f"{side}: answers right", right >= 0.75 * count, f"{right} of {count}", f"{0.75 * count:.0f} or more"),
        holds(f"{side}: an unknown model", said["unknown model"] == "404", said["unknown model"], "404"),
        holds(
            f"{side}: answers after that", said["after the error"] == said["text"], said["after the error"], "as before"
        ),
        holds(f"{side}: the port is free again", said["port closed"], str(said["port closed"]), "True"),
    ]
