"""Advanced inference ingress (KAR-11). The trial runs once; each check judges its own part."""

from kar_checks.checks.routing.checks import TOPIC
from kar_checks.kit.pytest_face import Measure, Verdict, checks_of


@checks_of(TOPIC)
def test_routing(check: str, measure: Measure, verdict: Verdict) -> None:
    verdict(measure("routing"))
