"""The choices of one run, the same from ``kar run`` and from plain pytest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kar_checks import profile as profiles
from kar_checks import programme
from kar_checks.checks.registry import all_checks, topics
from kar_checks.cluster.target import Target
from kar_checks.kit.topic import Check, Disruption, Topic
from kar_checks.model import Outcome
from kar_checks.profile import Profile, names

DEFAULT_FAIL_ON = (Outcome.FAIL, Outcome.ERROR, Outcome.INCONCLUSIVE)


class UsageError(ValueError):
    """Options that cannot be used, in one sentence."""


@dataclass(frozen=True)
class Options:
    """What the user chose. ``select`` takes check ids, topics, requirement ids and KAR numbers."""

    kubeconfig: Path | None = None
    context: str | None = None
    local_cluster: bool = False
    in_cluster: bool = False
    cluster_name: str = ""
    select: Sequence[str] = ()
    profile: Profile = field(default_factory=profiles.default)
    """Loaded once, with the settings of the command line on top."""
    profile_file: Path | None = None
    """Where the user has it; ``None`` for the default one."""
    output: Path = field(default_factory=lambda: Path("runs"))
    keep_on_failure: bool = False
    fail_on: Sequence[Outcome] = DEFAULT_FAIL_ON
    render: bool = True
    """Whether the run's page and JUnit file are made at its end; ``kar report`` can do it later."""
    max_disruption: Disruption = "network"
    target: Target = field(default_factory=Target)

    @property
    def names_a_cluster(self) -> bool:
        """Nothing touches a cluster that was not named."""
        return bool(self.kubeconfig or self.context or self.local_cluster or self.in_cluster)

    @property
    def unasked(self) -> frozenset[str]:
        """Topics that are selected only on request, and were not asked for."""
        return frozenset(
            topic.id
            for topic in topics()
            if topic.asked_by and not self.profile.text(topic.asked_by)
        )

    @property
    def selection(self) -> list[tuple[Topic, Check]]:
        """The checks that were chosen, in running order.

        Raises:
            UsageError: a selector means nothing.
        """
        return selected(self.select, self.unasked)


def selected(
    select: Iterable[str], unasked: frozenset[str] = frozenset()
) -> list[tuple[Topic, Check]]:
    """Return the checks that the selectors mean, in running order; no selector means all.

    A selector is a check id, a topic, a requirement id, or a KAR number as ``53`` or ``KAR-53``.
    Topics that are ``unasked`` are left out.

    Raises:
        UsageError: a selector means nothing, or only what was not asked for.
    """
    wanted = [one for part in select for one in names(part)]
    there = [(topic, check) for topic, check in all_checks() if topic.id not in unasked]
    if not wanted:
        return there
    chosen: set[str] = set()
    for one in wanted:
        found = [check.id for topic, check in there if _means(one, topic, check)]
        if not found:
            raise UsageError(_no_such(one))
        chosen.update(found)
    return [(topic, check) for topic, check in there if check.id in chosen]


def _means(selector: str, topic: Topic, check: Check) -> bool:
    number = kar_number(selector)
    if number is not None:
        return bool(topic.requirement) and _kar_of(topic.requirement) == number
    return selector in (check.id, topic.id, topic.requirement)


def kar_number(selector: str) -> int | None:
    """Return the number that ``53``, ``KAR-53`` or ``kar53`` means."""
    digits = selector.lower().removeprefix("kar-").removeprefix("kar")
    return int(digits) if digits.isdigit() else None


def _kar_of(requirement: str) -> int | None:
    for version in reversed(programme.versions()):
        for one in programme.requirements(version):
            if one.id == requirement:
                return one.kar
    return None


def _no_such(selector: str) -> str:
    for topic, check in all_checks():
        if _means(selector, topic, check):
            return f"{selector} runs only on request: {topic.ask}"
    number = kar_number(selector)
    if selector in programme.all_ids() or (
        number is not None and number in {_kar_of(one) for one in programme.all_ids()}
    ):
        return f"{selector} has no check in this suite yet: it needs manual evidence (`kar attest`)"
    return f"there is no check, topic, requirement or KAR {selector!r}; `kar list` shows them"


def parse_fail_on(given: str) -> list[Outcome]:
    """Turn ``fail,error`` into outcomes.

    Raises:
        UsageError: a word is not an outcome, or ``pass`` is among them.
    """
    words = names(given)
    known = [one.value for one in Outcome if one is not Outcome.PASS]
    for word in words:
        if word not in known:
            raise UsageError(f"--fail-on {word!r} is not one of {', '.join(known)}")
    return [Outcome(word) for word in words]
