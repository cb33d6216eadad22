"""Topics whose judges say again what a sample run holds; a test may let them say something else."""

from __future__ import annotations

from dataclasses import replace

from kar_checks.kit.topic import Topic
from kar_checks.model import Finding, Observation
from kar_checks.profile import Profile
from tests.unit import toy
from tests.unit.report import samples

FINDINGS: list[Finding] = []


def judge(check: str, _: Observation, __: Profile) -> list[Finding]:
    return [one for one in FINDINGS if one.check == check]


def topics() -> tuple[Topic, ...]:
    base = replace(toy.TOPIC, judge="tests.unit.submission.recorded:judge")
    (known, *_) = base.checks
    return tuple(
        replace(
            base,
            id=name,
            checks=tuple(
                replace(known, id=one.id)
                for one in samples.passed().info.checks
                if one.topic == name
            ),
        )
        for name in ("resize", "gang")
    )
