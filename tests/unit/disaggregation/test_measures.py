from __future__ import annotations

import pytest

from kar_checks.checks.disaggregation import measures
from kar_checks.checks.disaggregation.observation import Batch
from tests.unit.disaggregation.cases import FAULT, SIZE, local, refused, request


def test_right_answers_tell_the_rate_of_the_state_and_their_time() -> None:
    batch = Batch(requests=[request(1), request(2, seconds=2.0), local(3), refused(4)])
    rate, answered = measures.of(batch)
    assert (rate.unit, rate.better) == ("MiB/s", "higher")
    assert rate.samples == pytest.approx([SIZE / 2**20 / 0.5] * 2)
    assert answered.samples == [1.0, 2.0]
    assert measures.of(FAULT) == measures.of(None) == []
