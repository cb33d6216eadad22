"""A series of runs made of real ones, with what a test breaks in them.

``recorded/run.json`` and ``findings.json`` are of a real run of the embedded cluster;
``nights.json`` has the measures of eleven real runs of it, one after another, while other work ran
on the same machine. The nights after the eleventh draw the samples of a real night with
replacement, by a fixed seed, so that their noise is the machine's own.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from kar_checks.history.runs import Past, load
from kar_checks.model import Evidence, Finding, Measure, Observation, Outcome, RunInfo
from kar_checks.store import Run

HERE = Path(__file__).parent / "recorded"
INFO = RunInfo.model_validate_json((HERE / "run.json").read_text("utf-8"))
FINDINGS = [Finding.model_validate(one) for one in json.loads((HERE / "findings.json").read_text())]
NIGHTS: list[dict[str, list[Measure]]] = [
    {topic: [Measure.model_validate(one) for one in found] for topic, found in night.items()}
    for night in json.loads((HERE / "nights.json").read_text("utf-8"))
]
LATENCY = "latency of a small request"
FORWARD = "TCP, 4 streams forward"


@dataclass
class Night:
    """A run before it is written; tests change it."""

    info: RunInfo
    findings: list[Finding]
    measures: dict[str, list[Measure]] = field(default_factory=dict)

    def judged(self, check: str, outcome: Outcome, reason: str = "changed_by_a_test") -> None:
        self.findings = [
            one.model_copy(update={"outcome": outcome, "reason": reason, "summary": reason})
            if one.check == check
            else one
            for one in self.findings
        ]

    def scaled(self, name: str, factor: float) -> None:
        self.measures = {
            topic: [
                one.model_copy(update={"samples": [factor * x for x in one.samples]})
                if one.name == name
                else one
                for one in found
            ]
            for topic, found in self.measures.items()
        }

    def environment(self, **changes: Any) -> None:
        place = self.info.environment.model_copy(update=changes)
        self.info = self.info.model_copy(update={"environment": place})

    def write(self, parent: Path) -> Past:
        run = Run.create(parent, self.info)
        rested_on = {one.trial for one in self.findings if one.trial}
        for topic in sorted({*self.measures, *rested_on}):
            measures = self.measures.get(topic, [])
            run.add_observation(
                Observation(
                    trial=topic,
                    evidence=Evidence.SYNTHETIC,
                    started=self.info.started,
                    finished=self.info.started,
                    measures=measures,
                )
            )
        run.add_findings(self.findings)
        return load(run.folder)


def night(number: int) -> Night:
    """Return the run of a night, counted from 0."""
    started = INFO.started + timedelta(days=number)
    info = INFO.model_copy(
        update={
            "id": f"{started:%Y%m%d-%H%M%S}-{number:04x}",
            "started": started,
            "finished": started + timedelta(seconds=60),
        }
    )
    return Night(info, list(FINDINGS), _measures(number))


def _measures(number: int) -> dict[str, list[Measure]]:
    if number < len(NIGHTS):
        return dict(NIGHTS[number])
    draw = random.Random(number)  # noqa: S311 - repeatable noise, no secret
    return {
        topic: [
            one.model_copy(update={"samples": draw.choices(one.samples, k=len(one.samples))})
            for one in found
        ]
        for topic, found in draw.choice(NIGHTS).items()
    }


def series(parent: Path, count: int, *changes: Callable[[int, Night], None]) -> Sequence[Past]:
    """Write ``count`` nights, each changed by every one of ``changes``."""
    found: list[Past] = []
    for number in range(count):
        made = night(number)
        for change in changes:
            change(number, made)
        found.append(made.write(parent))
    return found
