"""The official trial: the suite's program runs against each class and tells its tests.

What it makes lies in two namespaces of fixed names. It is told to label them as ours, so that they
go at the end of the run, or by ``kar cleanup``, if the suite itself could not remove them.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from kar_checks import inference_suite
from kar_checks.checks.official import suite
from kar_checks.checks.official.observation import (
    ClassObservation,
    OfficialObservation,
    SuiteRun,
)
from kar_checks.cluster import kinds, pods, policies
from kar_checks.cluster.client import Object
from kar_checks.cluster.connect import Connection
from kar_checks.cluster.errors import HarnessError
from kar_checks.cluster.kinds import Kind
from kar_checks.cluster.target import Target
from kar_checks.kit.http_testbed.site import accepted, classes, pools_served
from kar_checks.kit.topic import Cost
from kar_checks.kit.trial import Trial
from kar_checks.model import Evidence, Fault, Reason
from kar_checks.profile import Profile, names
from kar_checks.redact import redact
from kar_checks.store import now

_LOOK_SECONDS = 5.0
"""How often the suite's pods are looked at until its first test begins."""


def run(trial: Trial) -> OfficialObservation:
    """Run the suite against every class, one after the other, since its names are fixed."""
    started = now()
    served = pools_served(trial)
    seen: dict[str, ClassObservation | Fault] = {}
    for name, stored in (classes(trial) if served else {}).items():
        seen |= trial.side_by_side({name: partial(_assess, trial, name, stored)})
    return OfficialObservation(
        trial="official",
        evidence=Evidence.SYNTHETIC,
        started=started,
        finished=now(),
        served=served,
        command=redact(trial.text("official.suite")),
        timeouts=trial.text("official.timeouts"),
        wanted=trial.text("gateway.class"),
        classes=seen,
    )


def manifests(_: Target) -> list[tuple[Kind, Object]]:
    """Return nothing: every object is the suite's."""
    return []


def cost(profile: Profile, _nodes: int, _checks: frozenset[str]) -> Cost:
    """Return what the suite costs: classes that the profile does not name count as one."""
    most = profile.number("official.seconds")
    named = len(names(profile.text("gateway.class")))
    return Cost(
        seconds=(most + suite.LEAVE_SECONDS) * max(1, named),
        told=f"for each GatewayClass up to {most:.0f} s, the namespaces "
        f"{' and '.join(suite.NAMESPACES)}, and about twenty small pods with upstream's images; "
        "node selectors, tolerations and image prefixes do not reach them",
    )


def _assess(trial: Trial, name: str, stored: Object) -> ClassObservation:
    seen = ClassObservation(
        controller=str((stored.get("spec") or {}).get("controllerName", "")),
        accepted=accepted(stored),
    )
    if not seen.accepted:
        return seen
    _claim(trial)
    return seen.model_copy(update={"done": _run(trial, name)})


def _claim(trial: Trial) -> None:
    """Make sure that the suite's namespaces are not there, and that they go away again.

    Raises:
        HarnessError: somebody else's are there, or ours of the class before do not go.
    """
    space, ours = kinds.NAMESPACE, trial.workspace
    for name in suite.NAMESPACES:
        if ours.expects(space, name):
            ours.delete(space, name)
        if trial.cluster.find(space, name):
            raise HarnessError(
                Reason.MEASUREMENT_FAILED,
                f"the namespace {name}, which the suite creates, already exists",
                "wait for whoever uses it; `kar cleanup` removes it if a run of ours left it",
            )
        ours.expect(space, name, seconds=suite.LEAVE_SECONDS)


def _run(trial: Trial, name: str) -> SuiteRun:
    looks = _Watch(trial, name)
    with _environment(trial.cluster.connection) as environment:
        ended = suite.run(
            suite.words(trial.text("official.suite")),
            _arguments(trial, name),
            environment,
            watch=looks,
            stopping=trial.cluster.stopping,
            seconds=trial.number("official.seconds"),
        )
    trial.evidence(f"{name}-suite.log", ended.printed)
    if ended.report:
        trial.evidence(f"{name}-report.yaml", ended.report)
    told = inference_suite.printed(ended.printed)
    return SuiteRun(
        suite=told.suite,
        tests=told.tests,
        seconds=round(ended.seconds, 1),
        exit_code=ended.code,
        last_words=redact(inference_suite.last_words(ended.printed)),
        policies=looks.policies,
    )


class _Watch:
    """Tells how the suite goes on, and ends it where its pods can never start.

    ``policies`` are those of the network that somebody put into its namespaces.
    """

    def __init__(self, trial: Trial, name: str) -> None:
        self.trial = trial
        self.name = name
        self.begun = False
        self.policies: list[str] = []
        self.next = time.monotonic() + _LOOK_SECONDS

    def __call__(self, printed: str) -> None:
        """Look at what was printed since, and now and then at the suite's pods."""
        for test in inference_suite.begun(printed):
            self.begun = True
            self.trial.report(f"{self.name}: official test {test}")
        if time.monotonic() < self.next:
            return
        self.next = time.monotonic() + _LOOK_SECONDS
        for namespace in suite.NAMESPACES:
            found = policies.restricting(self.trial.cluster, self.trial.facts, namespace)
            self.policies += [one for one in found if one not in self.policies]
            if self.begun:
                continue
            for pod in self.trial.cluster.list(kinds.POD, namespace).items:
                if error := pods.hopeless(pod):
                    raise error


def _arguments(trial: Trial, name: str) -> list[str]:
    marks = trial.workspace.marks
    choices = {
        "-run-test": trial.text("official.test"),
        "-skip-tests": trial.text("official.skip"),
        "-timeout-config-overrides": trial.text("official.timeouts"),
    }
    return [
        "-test.v",
        f"-gateway-class={name}",
        f"-namespace-labels={_pairs(marks['labels'])}",
        f"-namespace-annotations={_pairs(marks['annotations'])}",
        *(f"{option}={value}" for option, value in choices.items() if value),
    ]


def _pairs(given: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in given.items())


@contextmanager
def _environment(connection: Connection) -> Iterator[dict[str, str]]:
    """Give the environment in which the suite finds the cluster by the run's context.

    The first file that names a current context wins, so that no credential has to be copied.
    """
    if not connection.files:
        yield dict(os.environ)
        return
    body = {"apiVersion": "v1", "kind": "Config", "current-context": connection.context}
    with tempfile.TemporaryDirectory() as folder:
        choice = Path(folder) / "context.json"
        choice.write_text(json.dumps(body), "utf-8")
        yield os.environ | {"KUBECONFIG": os.pathsep.join([str(choice), *connection.files])}
