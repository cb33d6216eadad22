"""The pytest face of the toy topic; no name that pytest collects by itself."""

from __future__ import annotations

from kar_checks.kit.pytest_face import Measure, Verdict, checks_of
from tests.unit.toy import TOPIC


@checks_of(TOPIC)
def test_toy(check: str, measure: Measure, verdict: Verdict) -> None:
    verdict(measure("toy"))
