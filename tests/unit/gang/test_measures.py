from __future__ import annotations

import pytest

from kar_checks.checks.gang import measures
from kar_checks.checks.gang.observation import BackendObservation, Disturbance
from tests.unit.gang.test_judge import CONTEST, FITS, IMAGE, INCOMPLETE, NEVER, PARTIAL, SQUEEZE


def test_whole_gangs_are_timed_from_room_to_their_last_member() -> None:
    (found,) = measures.of(
        {
            "native": BackendObservation(
                version="v1",
                squeeze=SQUEEZE,
                fits=FITS.model_copy(update={"start": PARTIAL}),
                incomplete=INCOMPLETE.model_copy(update={"start": NEVER}),
                contest=CONTEST,
            ),
            "kueue": BackendObservation(version="v1", squeeze=IMAGE),
            "volcano": IMAGE,
        }
    )
    assert (found.name, found.variant, found.better) == ("a gang starts", "native", "lower")
    # Four members, and twice three; what started in part or never is no sample.
    assert found.samples == pytest.approx([1.03, 1.02, 1.02])


def test_a_start_that_others_disturbed_or_that_had_no_room_to_wait_for_is_no_sample() -> None:
    preempted = Disturbance(at=0.9, reason="preempted", text="Kueue took back our quota")
    early = FITS.start.model_copy(update={"room_at": 100.0}) if FITS.start else None
    assert early is not None
    seen = BackendObservation(
        version="v1",
        squeeze=SQUEEZE.model_copy(update={"disturbances": [preempted]}),
        fits=FITS.model_copy(update={"start": early}),
        contest=CONTEST.model_copy(update={"disturbances": [preempted]}),
    )
    assert measures.of({"kueue": seen}) == []
