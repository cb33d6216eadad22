"""The example profiles can be used, and a stored run is judged by them without a cluster."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest

from kar_checks import profile
from kar_checks.checks.throughput.checks import TOPIC
from kar_checks.model import Outcome
from tests.unit.throughput.samples import network, observation, runs

FOLDER = Path(str(resources.files("kar_checks").joinpath("profiles/examples")))
EXAMPLES = sorted(FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: str(path.stem))
def test_an_example_says_where_each_number_comes_from_and_what_it_costs(path: Path) -> None:
    found = profile.load(path)
    changed = {
        key: one for key, one in found.settings.items() if one != profile.default().settings[key]
    }
    assert changed
    assert all(len(one.origin) > 10 for one in changed.values())
    assert found.name == path.stem


def test_a_stored_observation_is_judged_by_another_profile() -> None:
    stored = observation(network(tcp=runs(9.6, 9.6, 9.5))).model_dump_json()
    seen = TOPIC.parse_observation(stored)
    strict = profile.load(FOLDER / "throughput-10g.yaml")
    (lax,) = TOPIC.judge_check("throughput.tcp", seen, profile.default())
    (met,) = TOPIC.judge_check("throughput.tcp", seen, strict)
    assert (lax.outcome, lax.reason) == (Outcome.PASS, "measured")
    assert (met.outcome, met.reason) == (Outcome.PASS, "floor_met")
    slow = TOPIC.parse_observation(observation(network(tcp=runs(5.0, 5.1, 5.0))).model_dump_json())
    (missed,) = TOPIC.judge_check("throughput.tcp", slow, strict)
    assert (missed.outcome, missed.reason) == (Outcome.FAIL, "below_floor")
    assert "profile throughput-10g" in missed.summary
