"""Throughput and latency. The trial runs once; each check judges its own part."""

from kar_checks.checks.pytest_face import Measure, Verdict, checks_of
from kar_checks.checks.throughput.checks import TOPIC


@checks_of(TOPIC)
def test_throughput(check: str, measure: Measure, verdict: Verdict) -> None:
    verdict(measure("throughput"))
