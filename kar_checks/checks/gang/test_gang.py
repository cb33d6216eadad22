"""Gang scheduling (KAR-53). The trial runs once; each check judges its own part."""

from kar_checks.checks.gang.checks import TOPIC
from kar_checks.kit.pytest_face import Measure, Verdict, checks_of


@checks_of(TOPIC)
def test_gang(check: str, measure: Measure, verdict: Verdict) -> None:
    verdict(measure("gang"))
