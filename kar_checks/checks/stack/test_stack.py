"""The user's own serving stack (KAR-41). The trial runs once; each check judges its own part."""

from kar_checks.checks.stack.checks import TOPIC
from kar_checks.kit.pytest_face import Measure, Verdict, checks_of


@checks_of(TOPIC)
def test_stack(check: str, measure: Measure, verdict: Verdict) -> None:
    verdict(measure("stack"))
