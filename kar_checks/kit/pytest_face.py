"""What each topic's test module is made of: one test, parametrised over the topic's checks."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kar_checks.kit.topic import Topic
from kar_checks.model import Observation

Measure = Callable[[str], Observation]
Verdict = Callable[[Observation], None]


def checks_of(topic: Topic) -> pytest.MarkDecorator:
    """Return the mark that makes a test of each check, under the check's own id.

    ``pytest -k release`` finds it, and the plugin takes its title from the check.
    """
    return pytest.mark.parametrize(
        "check",
        [pytest.param(one.id, id=one.id, marks=pytest.mark.check(one.id)) for one in topic.checks],
    )
