"""How repeats compare with what a profile demands of them."""

from __future__ import annotations

import pytest

from kar_checks.kit.limits import Limit, Repeats, Standing

THREE = Repeats([4.0, 5.0, 6.0], 3)
TWO = Repeats([4.0, 6.0], 3, ["busy"])
EVERY = Limit(floor=2, ceiling=8, variation=0.1)


@pytest.mark.parametrize(
    ("repeats", "limit", "interval", "variation", "standing"),
    [
        (THREE, EVERY, (4, 6), 0.0, Standing.MET),
        (THREE, EVERY, (2, 8), 0.1, Standing.MET),
        (THREE, EVERY, (1.9, 6), 0.0, Standing.BELOW),
        (THREE, EVERY, (4, 8.1), 0.0, Standing.ABOVE),
        (THREE, EVERY, (1.9, 8.1), 0.0, Standing.BELOW),
        (THREE, Limit(ceiling=8), (1.9, 6), 0.0, Standing.MET),
        (THREE, Limit(floor=2), (4, 8.1), 0.0, Standing.MET),
        (THREE, Limit(floor=0), (0, 0), 0.0, Standing.MET),
        (THREE, Limit(ceiling=0), (0, 0.1), 0.0, Standing.ABOVE),
        (THREE, Limit(), (1, 9), 0.2, Standing.RECORDED),
        (THREE, EVERY, (1, 9), 0.2, Standing.UNSTABLE),
        (THREE, Limit(variation=0.1), (1, 9), 0.2, Standing.UNSTABLE),
        (TWO, EVERY, (1, 9), 0.2, Standing.TOO_FEW),
        (TWO, Limit(), (4, 6), 0.0, Standing.TOO_FEW),
    ],
)
def test_the_first_standing_that_applies_decides(
    repeats: Repeats[float],
    limit: Limit,
    interval: tuple[float, float],
    variation: float,
    standing: Standing,
) -> None:
    assert repeats.against(limit, interval, variation=variation) is standing


def test_a_figure_may_do_with_a_share_of_what_was_planned() -> None:
    assert TWO.against(Limit(), (4, 6), least=0.6) is Standing.RECORDED
    assert TWO.against(Limit(), (4, 6), least=0.7) is Standing.TOO_FEW


def test_runs_are_sorted_by_why_they_are_not_usable() -> None:
    found = Repeats.of([3, -1, 5, -2, -1], lambda one: "" if one > 0 else f"{one} is negative")
    assert (list(found.usable), found.planned) == ([3, 5], 5)
    assert found.why == "-1 is negative; -2 is negative"
    assert Repeats.of([1], lambda _: "").why == "no error was reported"
