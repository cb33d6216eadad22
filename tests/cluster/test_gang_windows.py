"""Hangs that are shorter than a window: it is made longer by what they took."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kar_checks.model import Outcome
from localcluster import LocalCluster
from tests.cluster.injections.windows import WINDOWS, component_hangs
from tests.cluster.support import Kar

pytestmark = pytest.mark.usefixtures("leaves_nothing")


@pytest.mark.parametrize("name", ["kube-apiserver", "kube-scheduler"])
def test_a_short_hang_makes_the_window_longer(kar: Kar, local: LocalCluster, name: str) -> None:
    with component_hangs(local, name, "native-incomplete-gang-0", 2.8):
        done = kar.run("gang.incomplete_waits", *WINDOWS)
    found = done.finding("gang.incomplete_waits")
    assert found.outcome is Outcome.PASS, done.output
    seen: Any = json.loads(done.run.observation_text("gang") or "")
    pulse = seen["backends"]["native"]["incomplete"]["window"]["pulse"]
    assert pulse["lost"] >= 2.5
    assert pulse["ended"] - pulse["began"] - pulse["lost"] >= 5.9
