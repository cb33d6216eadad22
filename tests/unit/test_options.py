from __future__ import annotations

from pathlib import Path

import pytest

from kar_checks.checks.registry import all_checks, topics
from kar_checks.model import Outcome
from kar_checks.options import Options, UsageError, parse_fail_on, selected


def ids(*select: str) -> list[str]:
    return [check.id for _, check in selected(select)]


ALL = [check.id for _, check in all_checks()]
GANG = [check.id for topic, check in all_checks() if topic.id == "gang"]
RESIZE = [check.id for topic, check in all_checks() if topic.id == "resize"]


@pytest.mark.parametrize(
    ("select", "expected"),
    [
        ((), ALL),
        ((" ",), ALL),
        (("gang",), GANG),
        (("gang_scheduling",), GANG),
        (("53",), GANG),
        (("KAR-53",), GANG),
        (("kar53",), GANG),
        (("Kar-53",), GANG),
        (("resize",), RESIZE),
        (("gang", "resize"), [*RESIZE, *GANG]),
        (("gang,resize",), [*RESIZE, *GANG]),
        ((GANG[1],), [GANG[1]]),
        ((f"{GANG[1]}, {GANG[0]}",), GANG[:2]),
        ((GANG[0], "gang"), GANG),
    ],
)
def test_a_selector_means_checks_in_running_order(
    select: tuple[str, ...], expected: list[str]
) -> None:
    assert ids(*select) == expected


STACK = [check.id for topic, check in all_checks() if topic.id == "stack"]


@pytest.mark.parametrize("select", [[], ["gang", "KAR-53"], [GANG[0]]])
def test_a_topic_that_was_not_asked_for_is_left_out(select: list[str]) -> None:
    found = [check.id for _, check in selected(select, frozenset({"stack"}))]
    assert found
    assert not set(found) & set(STACK)


@pytest.mark.parametrize("select", ["stack", STACK[0]])
def test_whoever_selects_it_by_name_hears_how_to_ask_for_it(select: str) -> None:
    assert ids(select)
    with pytest.raises(UsageError, match=r"pass its address with --target-url"):
        selected([select], frozenset({"stack"}))


@pytest.mark.parametrize("select", ["54", "KAR-0", "gangs", "gang.nothing", "GANG", "KAR-", "-53"])
def test_what_means_nothing_is_named(select: str) -> None:
    with pytest.raises(UsageError, match="there is no check, topic, requirement or KAR") as caught:
        selected([select])
    assert select in str(caught.value)


@pytest.mark.parametrize(
    "select", ["59", "KAR-59", "accelerator_metrics", "secure_accelerator_access"]
)
def test_a_requirement_without_a_check_says_so(select: str) -> None:
    assert not any(topic.requirement == "accelerator_metrics" for topic in topics())
    with pytest.raises(UsageError, match=f"{select} has no check in this suite yet"):
        selected(["gang", select])


def test_outcomes_are_read_from_a_list() -> None:
    assert parse_fail_on("fail, error,") == [Outcome.FAIL, Outcome.ERROR]
    assert parse_fail_on("not_run") == [Outcome.NOT_RUN]


@pytest.mark.parametrize("given", ["pass", "fail,passed", "FAIL"])
def test_a_word_that_is_no_bad_outcome_is_refused(given: str) -> None:
    with pytest.raises(UsageError, match="is not one of fail, inconclusive"):
        parse_fail_on(given)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (Options(), False),
        (Options(kubeconfig=Path("x")), True),
        (Options(context="x"), True),
        (Options(local_cluster=True), True),
    ],
)
def test_a_cluster_must_be_named(options: Options, named: bool) -> None:
    assert options.names_a_cluster is named
