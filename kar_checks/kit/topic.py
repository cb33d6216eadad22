"""What a check and a topic are.

A check is data; its trial, judge and observation class are named, not imported, so that listing,
planning and judging load only what they use. A check without documentation cannot be registered.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast

from kar_checks.kit.option import Option
from kar_checks.model import CheckInfo, Evidence, Finding, Observation, TopicInfo

if TYPE_CHECKING:
    from kar_checks.kit.trial import Trial
    from kar_checks.profile import Profile

Disruption = Literal["none", "capacity", "network"]
DISRUPTIONS: tuple[Disruption, ...] = ("none", "capacity", "network")

_ID = re.compile(r"[a-z]+(\.[a-z][a-z0-9_]*)+")


@dataclass(frozen=True)
class Right:
    """One right that a trial uses, as RBAC writes it; ``pods/exec`` for a subresource.

    ``verbs`` are granted in the run's namespace unless ``cluster`` is set, or ``stack``: then in
    the namespace of the user's workload that is assessed, or ``namespace`` names another one. Of
    alternatives that a trial finds for itself, each right is ``optional``: it is printed, and who
    lacks it loses that alternative only.
    """

    verbs: tuple[str, ...]
    group: str
    resource: str
    cluster: bool = False
    optional: bool = False
    variants: tuple[str, ...] = ()
    """Only these variants of the thing under test use it; none: whatever is measured."""
    unless: str = ""
    """A text setting of the profile that, once it is given, makes the right needless."""
    stack: bool = False
    namespace: str = ""
    """A namespace that is neither the run's nor the stack's."""
    name: str = ""
    """The only object that it is about; empty for every one."""
    only_for: str = ""
    """What is not told without it, in words, where no verdict rests on it."""
    api: str = ""
    """The API group without which nobody uses an ``optional`` one; empty for its own."""


@dataclass(frozen=True)
class Needs:
    """What must be there before a check may start; evaluated before anything is created."""

    rights: tuple[Right, ...] = ()
    since: str = ""
    """The first Kubernetes minor that has the capability, e.g. ``1.34``."""
    nodes: int = 1
    """Ready, schedulable Linux nodes that pass the node selector and the tolerations."""
    images: tuple[str, ...] = ("python",)


@dataclass(frozen=True)
class Check:
    """One thing this suite verifies, under an id that is never reused."""

    id: str
    title: str
    proves: str
    fails_when: str
    budget_seconds: int
    needs: Needs = Needs()
    disruption: Disruption = "none"

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.id):
            raise ValueError(f"check id {self.id!r} is not dotted lower case")
        for name in ("title", "proves", "fails_when"):
            if not getattr(self, name).strip():
                raise ValueError(f"check {self.id} has no {name}: it cannot be registered")


@dataclass(frozen=True)
class Cost:
    """What measuring a topic costs under the choices of a profile."""

    seconds: float
    """The most that it may take."""
    told: str
    """In a sentence, for ``kar plan``."""


@dataclass(frozen=True)
class Topic:
    """Checks that share a trial. Entry points are ``module:name`` strings, loaded when used."""

    id: str
    title: str
    label: str
    checks: tuple[Check, ...]
    trial: str
    judge: str
    observation: str
    tests: str
    """Module of the pytest face."""
    manifests: str
    """``module:name`` of a function that gives every manifest for a target, for dry runs."""
    estimate: str = ""
    """``module:name`` of a function of profile, usable nodes and checks that returns a
    :class:`Cost`; empty where the checks' budgets say all."""
    requirement: str = ""
    any_of: bool = False
    counts_as_implemented: Evidence = Evidence.SYNTHETIC
    official_link: str = ""
    evidence: Evidence = Evidence.SYNTHETIC
    """The level of evidence that it is for; the better of two topics decides their requirement."""
    asked_by: str = ""
    """The setting without which the topic is not selected; empty if it always is."""
    ask: str = ""
    """How to ask for it, in words."""
    common_needs: Needs = field(default_factory=Needs)
    """Needs of every check of the topic; a check's own come on top."""
    variants: str = ""
    """The text setting by which a user chooses among the variants, if there is one."""
    options: tuple[Option, ...] = ()
    """Options of its own: each gives a setting of its profile."""
    stack_namespace: str = ""
    """``module:name`` of a function of the profile that returns the namespace of the user's own
    workload, empty for none, and refuses settings that cannot be used."""

    def rights(self, check: Check, profile: Profile) -> list[Right]:
        """Return what a check uses under the choices of a profile."""
        return [
            right
            for right in (*self.common_needs.rights, *check.needs.rights)
            if (
                not right.variants
                or any(profile.chooses(self.variants, one) for one in right.variants)
            )
            and not (right.unless and profile.text(right.unless))
        ]

    def info(self) -> TopicInfo:
        """Return the record of this topic that a run stores."""
        return TopicInfo(
            id=self.id,
            title=self.title,
            label=self.label,
            requirement=self.requirement,
            any_of=self.any_of,
            counts_as_implemented=self.counts_as_implemented,
            official_link=self.official_link,
            evidence=self.evidence,
            asked_by=self.asked_by,
            ask=self.ask,
        )

    def check_info(self, check: Check) -> CheckInfo:
        """Return the record of ``check`` that a run stores."""
        return CheckInfo(
            id=check.id,
            title=check.title,
            topic=self.id,
            requirement=self.requirement,
            proves=check.proves,
            fails_when=check.fails_when,
            disruption=check.disruption,
            budget_seconds=check.budget_seconds,
        )

    def run_trial(self, trial: Trial) -> Observation:
        """Measure; raises :class:`kar_checks.cluster.errors.HarnessError`."""
        return cast("Callable[[Trial], Observation]", load(self.trial))(trial)

    def judge_check(self, check: str, seen: Observation, profile: Profile) -> list[Finding]:
        """Judge one check, a finding per variant; pure."""
        function = cast("Callable[[str, Observation, Profile], list[Finding]]", load(self.judge))
        return function(check, seen, profile)

    def parse_observation(self, text: str) -> Observation:
        """Read a stored observation of this topic."""
        return cast("type[Observation]", load(self.observation)).model_validate_json(text)


def load(entry: str) -> Any:
    """Import ``module:name``."""
    module, _, name = entry.partition(":")
    return getattr(importlib.import_module(module), name)
