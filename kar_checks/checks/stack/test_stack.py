"""The user's own serving stack (KAR-41). The trial runs once; each check judges its own part."""

from kar_checks.checks.pytest_face import Measure, Verdict, checks_of
from kar_checks.checks.stack.checks import TOPIC


@checks_of(TOPIC)
def test_stack(check: str, measure: Measure, verdict: Verdict) -> None:
    verdict(measure("stack"))
