"""Gateway API for inference (ai_inference). The trial runs once; each check judges its own part."""

from kar_checks.checks.gateway.checks import TOPIC
from kar_checks.kit.pytest_face import Measure, Verdict, checks_of


@checks_of(TOPIC)
def test_gateway(check: str, measure: Measure, verdict: Verdict) -> None:
    verdict(measure("gateway"))
