"""A topic that a test controls: what its trial meets, and what its judge finds."""

from __future__ import annotations

from collections.abc import Callable

from kar_checks.cluster import kinds
from kar_checks.cluster.client import Object
from kar_checks.cluster.kinds import Kind
from kar_checks.cluster.target import Target
from kar_checks.kit.option import Option
from kar_checks.kit.topic import Check, Needs, Right, Topic
from kar_checks.kit.trial import Trial
from kar_checks.model import Evidence, Finding, Observation, Outcome
from kar_checks.profile import Profile
from kar_checks.store import now

OUTCOMES = {
    "toy.passes": Outcome.PASS,
    "toy.fails": Outcome.FAIL,
    "toy.undecided": Outcome.INCONCLUSIVE,
    "toy.absent": Outcome.NOT_APPLICABLE,
}
during: list[Callable[[Trial], object]] = []
"""What happens while the trial measures."""
judging: list[Callable[[], object]] = []
"""What happens while a check is judged."""


def config_map(name: str = "toy", **meta: object) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **meta}}


def run(trial: Trial) -> Observation:
    started = now()
    trial.workspace.create(kinds.CONFIG_MAP, config_map())
    for one in during:
        one(trial)
    return Observation(trial="toy", evidence=Evidence.SYNTHETIC, started=started, finished=now())


def judge(check: str, seen: Observation, _: Profile) -> list[Finding]:
    for one in judging:
        one()
    return [
        Finding(
            check=check,
            outcome=OUTCOMES[check],
            reason="as_told",
            summary=f"the judge says {OUTCOMES[check].value}",
            trial=seen.trial,
        )
    ]


def manifests(_: Target) -> list[tuple[Kind, Object]]:
    return [(kinds.CONFIG_MAP, config_map())]


def _check(name: str) -> Check:
    return Check(id=name, title="t", proves="p", fails_when="f", budget_seconds=1)


TOPIC = Topic(
    id="toy",
    title="Toy",
    label="no KAR",
    checks=tuple(_check(name) for name in OUTCOMES),
    trial="tests.unit.toy:run",
    judge="tests.unit.toy:judge",
    observation="kar_checks.model:Observation",
    tests="tests.unit.toy_face",
    manifests="tests.unit.toy:manifests",
    options=(Option("--toy-window", "A setting.", float, key="gang.window_seconds"),),
    common_needs=Needs(rights=(Right(("create",), "", "configmaps"),), images=()),
)
