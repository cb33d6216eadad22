"""The suite's program, played by a small one: how it is started, watched, ended and cleaned up."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from kar_checks import profile
from kar_checks.checks.official import suite, trial
from kar_checks.checks.official.observation import ClassObservation
from kar_checks.cluster.client import Cluster
from kar_checks.cluster.facts import Facts
from kar_checks.cluster.ownership import OWNER, Workspace
from kar_checks.cluster.target import RUN_LABEL, Target
from kar_checks.kit.trial import Trial
from kar_checks.model import Fault, Reason
from tests.unit.apiserver import ApiServer

GATEWAY, POOL = "gateway.networking.k8s.io", "inference.networking.k8s.io"
SERVED = frozenset({(GATEWAY, "v1", "gateways"), (POOL, "v1", "inferencepools")})
HEAD = "suite sigs.k8s.io/gateway-api-inference-extension/conformance v1.6.0"
TOLD = f"""{HEAD}
=== RUN   TestConformance
=== RUN   TestConformance/InferencePoolAccepted
--- PASS: TestConformance (1.00s)
    --- PASS: TestConformance/InferencePoolAccepted (0.50s)
PASS
"""
PLAY = f"""
import os, pathlib, sys, time
given = dict(word.partition("=")[::2] for word in sys.argv[1:])
pathlib.Path(given["-report-output"]).write_text("kind: ConformanceReport")
print({TOLD!r}, end="")
print("given", sorted(given), file=sys.stderr)
for word in ("-gateway-class", "-namespace-labels", "-namespace-annotations"):
    print(word, given[word])
print("first", pathlib.Path(os.environ["KUBECONFIG"].split(os.pathsep)[0]).read_text())
print("then", os.environ["KUBECONFIG"].split(os.pathsep)[1:])
"""
HANGS = f"print({TOLD.partition('---')[0]!r}, flush=True)\nimport time\ntime.sleep(60)"


@pytest.fixture
def there(api: ApiServer) -> ApiServer:
    head = {"apiVersion": f"{GATEWAY}/v1", "kind": "GatewayClass", "metadata": {"name": "envoy"}}
    accepted = {"type": "Accepted", "status": "True"}
    spec = {"controllerName": "example.org/c"}
    api.add({**head, "spec": spec, "status": {"conditions": [accepted]}}, "gatewayclasses")
    return api


class Place:
    """A trial with a program of the test, and what it reported and kept."""

    def __init__(self, cluster: Cluster, folder: Path, program: str, *settings: str) -> None:
        (folder / "suite.py").write_text(program)
        command = f"official.suite={sys.executable} '{folder}/suite.py'"
        self.kept: dict[str, str] = {}
        self.said: list[str] = []
        self.space = Workspace(cluster, Target(namespace="ns"), run_id="r1", until=9e9)
        self.trial = Trial(
            cluster,
            self.space,
            Facts(version="v1.37.0", user="u", cluster_uid="", nodes=[], served=SERVED),
            profile.load(None, [command, *settings]),
            frozenset(),
            report=self.said.append,
            evidence=self.kept.__setitem__,  # type: ignore[arg-type]
        )

    def run(self) -> ClassObservation | Fault:
        return trial.run(self.trial).classes["envoy"]


def space(name: str, run: str) -> dict[str, Any]:
    meta = {"name": name, "labels": {RUN_LABEL: run}}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": meta}


def test_the_suite_runs_by_the_runs_own_context_and_marks_its_namespaces_as_ours(
    there: ApiServer, cluster: Cluster, tmp_path: Path
) -> None:
    place = Place(
        cluster, tmp_path, PLAY, "official.skip=A,B", "official.timeouts=RequestTimeout:9"
    )
    found = place.run()
    assert isinstance(found, ClassObservation) and found.done is not None
    assert (found.controller, found.done.exit_code) == ("example.org/c", 0)
    assert [(one.name, one.outcome) for one in found.done.tests] == [
        ("InferencePoolAccepted", "pass")
    ]
    assert found.done.suite.endswith("v1.6.0")
    printed = place.kept["envoy-suite.log"]
    assert "-gateway-class envoy" in printed
    assert f"{RUN_LABEL}=r1" in printed and f"-namespace-annotations {OWNER}=" in printed
    assert '"current-context": "research"' in printed
    assert f"then ['{tmp_path / 'kubeconfig'}']" in printed
    assert "'-skip-tests'" in printed and "'-timeout-config-overrides'" in printed
    assert "-run-test" not in printed
    assert place.kept["envoy-report.yaml"] == "kind: ConformanceReport"


def test_what_a_suite_that_was_ended_leaves_goes_with_the_run(
    there: ApiServer, cluster: Cluster, tmp_path: Path
) -> None:
    place = Place(cluster, tmp_path, HANGS)

    def interrupt() -> None:
        deadline = time.monotonic() + 20
        while not place.said and time.monotonic() < deadline:
            time.sleep(0.05)
        for name in suite.NAMESPACES:
            there.add(space(name, "r1"), "namespaces")
        cluster.stop()

    threading.Thread(target=interrupt).start()
    began = time.monotonic()
    found = place.run()
    assert time.monotonic() - began < 30
    assert isinstance(found, ClassObservation) and found.done is not None
    assert found.done.exit_code is None
    assert [one.outcome for one in found.done.tests] == ["inconclusive"]
    assert place.said == ["envoy: official test InferencePoolAccepted"]
    cluster.resume()
    cleanup = place.space.close()
    assert (cleanup.verdict, cleanup.removed) == ("clean", 2)


def test_a_suite_that_takes_too_long_is_ended(
    there: ApiServer, cluster: Cluster, tmp_path: Path
) -> None:
    found = Place(cluster, tmp_path, HANGS, "official.seconds=2").run()
    assert isinstance(found, ClassObservation) and found.done is not None
    assert found.done.exit_code is None and found.done.seconds < 30


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("/no/such/program", "cannot be started (No such file or directory)"),
        ("'unbalanced", "No closing quotation"),
        ("  ", "it has no words"),
    ],
)
def test_a_command_that_starts_nothing_is_named(
    there: ApiServer, cluster: Cluster, tmp_path: Path, command: str, told: str
) -> None:
    found = Place(cluster, tmp_path, "", f"official.suite={command}").run()
    assert isinstance(found, Fault) and found.reason is Reason.UNUSABLE_SETTING
    assert told in found.message


def test_somebody_elses_namespaces_are_left_alone(
    there: ApiServer, cluster: Cluster, tmp_path: Path
) -> None:
    there.add(space(suite.NAMESPACES[1], "another"), "namespaces")
    place = Place(cluster, tmp_path, PLAY)
    found = place.run()
    assert isinstance(found, Fault) and suite.NAMESPACES[1] in found.message
    assert place.kept == {}
    assert place.space.close().removed == 0


def test_pods_that_can_never_start_end_the_suite_early(
    there: ApiServer, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "_LOOK_SECONDS", 0.1)
    waiting = {"reason": "ImagePullBackOff", "message": "no such image"}
    status = {"containerStatuses": [{"image": "echo", "state": {"waiting": waiting}}]}
    head = {"name": "echo", "namespace": suite.NAMESPACES[1]}
    there.add({"apiVersion": "v1", "kind": "Pod", "metadata": head, "status": status}, "pods")
    found = Place(cluster, tmp_path, "import time\ntime.sleep(60)").run()
    assert isinstance(found, Fault) and found.reason is Reason.IMAGE_UNAVAILABLE


def test_a_second_class_waits_until_the_first_ones_namespaces_are_gone(
    there: ApiServer, cluster: Cluster, tmp_path: Path
) -> None:
    place = Place(cluster, tmp_path, PLAY)
    place.run()
    for name in suite.NAMESPACES:
        there.add(space(name, "r1"), "namespaces")
    assert isinstance(place.run(), ClassObservation)
    assert len(there.asked("DELETE", "/namespaces/inference-conformance-")) == 2
