"""Secondary networks (KAR-10). The trial runs once; each test judges one view of it."""

from collections.abc import Callable

import pytest

from kar_checks.model import Observation

Verdict = Callable[[Observation], None]


@pytest.fixture(scope="module")
def networking(measure: Callable[[str], Observation]) -> Observation:
    return measure("networking")


@pytest.mark.check("networking.interface")
def test_a_pod_gets_the_interface_that_it_is_told(
    networking: Observation, verdict: Verdict
) -> None:
    verdict(networking)


@pytest.mark.check("networking.characteristics")
def test_what_is_published_is_true(networking: Observation, verdict: Verdict) -> None:
    verdict(networking)


@pytest.mark.check("networking.placement")
def test_only_nodes_that_offer_it_get_pods(networking: Observation, verdict: Verdict) -> None:
    verdict(networking)


@pytest.mark.check("networking.data_path")
def test_bytes_go_over_the_interface_itself(networking: Observation, verdict: Verdict) -> None:
    verdict(networking)
