"""The one list of topics, and with them of all checks."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import cast

from kar_checks.kit.topic import Check, Topic, load

TOPIC_MODULES = (
    "kar_checks.checks.resize.checks",
    "kar_checks.checks.gang.checks",
    "kar_checks.checks.networking.checks",
    "kar_checks.checks.disaggregation.checks",
    "kar_checks.checks.stack.checks",
    "kar_checks.checks.throughput.checks",
    "kar_checks.checks.gateway.checks",
    "kar_checks.checks.routing.checks",
    "kar_checks.checks.official.checks",
)


@cache
def topics() -> tuple[Topic, ...]:
    """Return every topic, in the order in which they run.

    Raises:
        ValueError: two checks share an id.
    """
    found = tuple(cast("Topic", load(f"{module}:TOPIC")) for module in TOPIC_MODULES)
    ids = [check.id for topic in found for check in topic.checks]
    twice = sorted({one for one in ids if ids.count(one) > 1})
    if twice:
        raise ValueError(f"check ids are used twice: {', '.join(twice)}")
    return found


def all_checks() -> Iterable[tuple[Topic, Check]]:
    """Yield every check with its topic, in running order."""
    for topic in topics():
        for check in topic.checks:
            yield topic, check


def find(check_id: str) -> tuple[Topic, Check]:
    """Return a check by its id.

    Raises:
        KeyError: there is no such check.
    """
    for topic, check in all_checks():
        if check.id == check_id:
            return topic, check
    raise KeyError(check_id)
