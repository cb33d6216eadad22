from __future__ import annotations

import pytest

from kar_checks.checks.routing import measures
from kar_checks.checks.routing.observation import ClassObservation, Load
from kar_checks.model import Fault, Reason
from tests.unit.routing.test_figures import A, B, phase


def test_phases_with_load_tell_how_well_and_how_soon_picks_follow() -> None:
    phases = [phase("", 5, 5, 10), phase(A, 1, 9, 10), phase(B, 10, 0, 10), phase(A, 0, 0, 0)]
    load = Load(seed="s", first=A, second=B, read_before=0, phases=phases, held=[])
    kept, read = measures.of(
        {
            "envoy": ClassObservation(controller="c", accepted=True, load=load),
            "idle": ClassObservation(controller="c", accepted=True),
            "gone": Fault(reason=Reason.FORBIDDEN, message="no"),
        }
    )
    assert (kept.name, kept.variant, kept.better) == (
        "requests kept from the loaded server",
        "envoy",
        "higher",
    )
    assert kept.samples == pytest.approx([90, 100])
    assert read.samples == [0.04], "the report of B was never read"
