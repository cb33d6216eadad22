"""Planning of the cluster tests: what always runs, whose turn it is, and in which group."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from kar_checks.checks.registry import all_checks
from scripts import cluster_tests, second_tries
from scripts.generate import sabotages
from scripts.rows import Group, Plan, Row, always, cover, how_many_groups, plan, turns

STARTS = {"": 15.0, "dranet": 30.0, "kueue": 60.0, "multus": 25.0}


def rows(count: int = 120) -> list[Row]:
    """Rows on four kinds of cluster; each tenth shows a check, each thirtieth is a guard."""
    clusters = ["", "", "", "dranet", "dranet", "kueue", "multus"]
    return [
        Row(
            id=f"t.py::test[{n:03}]",
            seconds=5.0 + n * 7 % 40,
            cluster=clusters[n % 7],
            guard=n % 30 == 1,
            shows=frozenset({f"check.{n // 20}"} if n % 10 == 0 else ()),
        )
        for n in range(count)
    ]


def ids(made: Plan, *turn: str) -> list[str]:
    return [row.id for group in made.groups for row, mine in group.rows if mine in turn]


# -- what always runs --------------------------------------------------------------------------


def test_a_cover_shows_every_check_to_fail_and_is_cheap() -> None:
    there = [
        Row("dear", 100, shows=frozenset("abcd")),
        Row("one", 10, shows=frozenset("ab")),
        Row("two", 10, shows=frozenset("cd")),
        Row("none", 1),
    ]
    assert {row.id for row in cover(there)} == {"one", "two"}
    assert [row.id for row in cover(there, shown="ab")] == ["two"]
    assert cover(there, shown="abcd") == []


def test_a_cover_leaves_out_what_became_needless() -> None:
    there = [
        Row("first", 10, shows=frozenset("bc")),
        Row("left", 10.1, shows=frozenset("ab")),
        Row("right", 10.2, shows=frozenset("cd")),
    ]
    assert {row.id for row in cover(there)} == {"left", "right"}


def test_guards_always_run_and_help_the_cover() -> None:
    there = [
        Row("guard", 50, guard=True, shows=frozenset("a")),
        Row("a", 1, shows=frozenset("a")),
        Row("b", 1, shows=frozenset("b")),
    ]
    assert [row.id for row in always(there)] == ["guard", "b"]


def test_every_check_has_a_sabotage_under_which_it_must_fail() -> None:
    failing = {row["check"] for row in sabotages() if row["outcome"] == "fail"}
    assert {check.id for _, check in all_checks()} == failing


@pytest.fixture(scope="module")
def real() -> list[Row]:
    return cluster_tests.collect()


def test_the_real_cover_shows_every_check_to_fail_and_fits_the_budget(real: list[Row]) -> None:
    shown = {check for row in always(real) for check in row.shows}
    assert shown == {check.id for _, check in all_checks()}
    assert "tests/cluster/test_run.py::test_every_check_passes_with_its_control" in {
        row.id for row in always(real)
    }
    budget = 60 * cluster_tests.DEFAULT_MINUTES
    made = plan(real, groups=2, starts=cluster_tests.starts(real), budget=budget)
    assert not cluster_tests.overrun(made, budget)


def test_a_guarding_sabotage_always_runs(real: list[Row]) -> None:
    wanted = {row["injection"] for row in sabotages() if row.get("guard")}
    there = {row.id.partition("[")[2].removesuffix("]") for row in always(real)}
    assert wanted <= there


def test_the_kept_second_tries_can_be_read_and_name_tests_that_exist(real: list[Row]) -> None:
    there = {row.id for row in real}
    kept = second_tries.read(cluster_tests.ROOT / cluster_tests.LEDGER)
    assert [one.test for one in kept if one.test not in there] == []


# -- whose turn it is --------------------------------------------------------------------------


def test_without_a_budget_every_row_runs_once() -> None:
    made = plan(rows(), groups=2, starts=STARTS)
    assert sorted(ids(made, "always")) == sorted(row.id for row in rows())
    assert ids(made, "due", "more") == []


def test_with_a_budget_every_row_is_offered_once_and_those_that_always_run_come_first() -> None:
    made = plan(rows(), groups=2, starts=STARTS, budget=900, number=5)
    assert sorted(ids(made, "always", "due", "more")) == sorted(row.id for row in rows())
    assert sorted(ids(made, "always")) == sorted(row.id for row in always(rows()))
    for group in made.groups:
        order = [("always", "due", "more").index(turn) for _, turn in group.rows]
        assert order == sorted(order)


@pytest.mark.parametrize("first", [0, 1, 417])
@pytest.mark.parametrize("budget", [600, 900, 1500])
def test_a_few_commits_in_a_row_cover_all(first: int, budget: float) -> None:
    there = rows()
    room = sum(row.seconds for row in there) / (2 * budget)
    seen: set[str] = set()
    starts: list[str] = []
    for number in range(first, first + round(room) + 3):
        made = plan(there, groups=2, starts=STARTS, budget=budget, number=number)
        due = ids(made, "due")
        assert sum(group.seconds for group in forecast(made, "always", "due")) <= 2 * budget
        seen |= {*ids(made, "always"), *due}
        starts.append(due[0])
    assert seen == {row.id for row in there}
    assert all(one != other for one, other in pairwise(starts))


def forecast(made: Plan, *turn: str) -> list[Group]:
    """Return the groups with these rows only, and the seconds that they take."""
    out: list[Group] = []
    for group in made.groups:
        kept = Group()
        for row, mine in group.rows:
            if mine in turn:
                change = row.cluster != kept.cluster
                kept.seconds += row.seconds + (STARTS[row.cluster] if change else 0)
                kept.rows.append((row, mine))
        out.append(kept)
    return out


def test_what_a_slow_machine_left_out_comes_first_the_next_time() -> None:
    there = rows()
    parts = len(turns([row for row in there if row not in always(there)], 0, 900, STARTS))
    once = plan(there, groups=1, starts=STARTS, budget=3000, number=0)
    count = len(turns(there, 0, 1, STARTS))
    assert parts < count
    for later in range(1, 40):
        again = plan(there, groups=1, starts=STARTS, budget=3000, number=later)
        if set(ids(again, "due")) == set(ids(once, "due")):
            assert ids(again, "due") != ids(once, "due")
            return
    pytest.fail("the same part never came again")


def test_a_row_that_is_longer_than_the_room_still_gets_its_turn() -> None:
    there = [*rows(30), Row("long", 5000)]
    assert ["long"] in [[row.id for row in part] for part in turns(there, 0, 500, STARTS)]


# -- in which group ----------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_groups_end_together(count: int) -> None:
    made = plan(rows(), groups=count, starts=STARTS)
    assert len(made.groups) == count
    longest = max(row.seconds for row in rows()) + max(STARTS.values())
    ends = [group.seconds for group in made.groups]
    assert max(ends) - min(ends) <= longest
    assert made.needed == max(ends)


def test_rows_of_one_cluster_stay_together() -> None:
    made = plan(rows(), groups=2, starts=STARTS)
    begun = [
        row.cluster
        for group in made.groups
        for before, (row, _) in zip([None, *group.rows], group.rows, strict=False)
        if before is None or before[0].cluster != row.cluster
    ]
    # At best one of the four is in both groups.
    assert len(begun) <= len(STARTS) + 2


def test_a_forecast_counts_every_start_of_a_cluster() -> None:
    made = plan(rows(), groups=2, starts=STARTS)
    again = forecast(made, "always")
    assert [group.seconds for group in made.groups] == pytest.approx(
        [group.seconds for group in again]
    )


def test_an_empty_group_is_not_started() -> None:
    made = plan([Row("only", 5)], groups=4, starts={"": 1.0})
    assert [[row.id for row, _ in group.rows] for group in made.groups] == [["only"]]


def test_rows_that_always_run_and_do_not_fit_are_seen_beforehand() -> None:
    slow = [replace(row, guard=True) for row in rows()]
    made = plan(slow, groups=2, starts=STARTS, budget=60)
    assert "need" in cluster_tests.overrun(made, 60)
    assert "KAR_TEST_MINUTES is 1:" in cluster_tests.overrun(made, 60)
    assert cluster_tests.overrun(made, made.needed) == ""


@pytest.mark.parametrize(
    ("cores", "gigabytes", "count"), [(2, 23, 2), (1, 64, 1), (8, 31, 5), (4, 5, 1)]
)
def test_as_many_groups_as_cores_and_memory_carry(cores: int, gigabytes: float, count: int) -> None:
    assert how_many_groups(cores, gigabytes * 2**30, 6 * 2**30) == count
