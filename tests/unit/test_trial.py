from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path

import jinja2
import pytest

from kar_checks import paths, profile
from kar_checks.cluster import kinds
from kar_checks.cluster.client import Cluster, Object
from kar_checks.cluster.errors import HarnessError
from kar_checks.cluster.facts import Facts
from kar_checks.cluster.ownership import Workspace
from kar_checks.cluster.target import Target
from kar_checks.kit.trial import Trial, manifest
from kar_checks.model import Fact, Fault, Reason, Record
from tests.unit.apiserver import Answer, ApiServer


@pytest.fixture
def kept() -> dict[str, Record]:
    return {}


@pytest.fixture
def trial(cluster: Cluster, kept: dict[str, Record]) -> Trial:
    facts = Facts(version="v1.37.0", user="", cluster_uid="", nodes=None, served=frozenset())
    workspace = Workspace(cluster, Target(namespace="ns"), run_id="r1", until=time.time() + 60)
    return Trial(
        cluster=cluster,
        workspace=workspace,
        facts=facts,
        profile=profile.default(),
        selected=frozenset(),
        keep=kept.__setitem__,
    )


def pod(name: str = "one") -> Object:
    spec: Object = {"containers": [{"name": "main", "image": "python"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


READY = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}


CPU = {"cpu": "600m", "pods": "110"}
NODE = {
    "metadata": {
        "name": "n1",
        "labels": {"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"},
    },
    "status": {"allocatable": CPU, "conditions": [{"type": "Ready", "status": "True"}]},
}
HOLDER = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web", "namespace": "shop", "uid": "u"},
    "spec": {
        "nodeName": "n1",
        "containers": [{"name": "main", "resources": {"requests": {"cpu": "590m"}}}],
    },
}
LACKS_CPU = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/1 nodes are available: 1 Insufficient cpu. preemption: none",
}


@pytest.mark.parametrize(
    ("selector", "refused", "held"),
    [
        ({}, False, "; n1 has 10m of 600m cpu free (shop/web 590m)"),
        ({"zone": "a"}, False, ""),
        ({}, True, ""),
    ],
)
def test_a_pod_without_room_names_who_holds_it(
    trial: Trial, api: ApiServer, selector: dict[str, str], refused: bool, held: str
) -> None:
    api.add(HOLDER, "pods")
    trial.facts = replace(trial.facts, nodes=[NODE])
    waiting = {**pod(), "status": {"phase": "Pending", "conditions": [LACKS_CPU]}}
    waiting["spec"]["nodeSelector"] = selector
    waiting["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "20m"}}
    if refused:
        forbidden = {"message": "User x cannot list resource", "reason": "Forbidden"}
        api.answers.append(Answer(403, forbidden))
    error = trial.overdue(waiting)
    assert error is not None
    assert error.fault.reason is Reason.NO_ROOM
    what = "pod one has no room: 0/1 nodes are available: 1 Insufficient cpu"
    assert error.fault.message == what + held
    assert trial.hopeless(waiting) is None


def test_a_probe_is_mounted_once_and_as_it_is(trial: Trial, api: ApiServer) -> None:
    assert trial.mount_probe("gang_member") == "kar-probe-gang-member"
    assert trial.mount_probe("gang_member") == "kar-probe-gang-member"
    (made,) = [one for one in api.objects.values() if one["kind"] == "ConfigMap"]
    source = paths.data("probes", "gang_member.py").read_text("utf-8")
    assert made["data"] == {"gang_member.py": source}


def test_threads_that_want_the_same_probe_make_it_once(trial: Trial, api: ApiServer) -> None:
    threads = [threading.Thread(target=trial.mount_probe, args=("gang_member",)) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(api.asked("POST")) == 1


def test_a_pod_is_created_and_awaited(trial: Trial, api: ApiServer) -> None:
    def start() -> None:
        stored = api.objects["v1", "ns", "pods", "one"]
        api.put("MODIFIED", ("v1", "ns", "pods", "one"), {**stored, "status": READY})

    threading.Timer(0.3, start).start()
    assert trial.start_pod(pod())["status"] == READY


def test_parts_run_at_once_and_each_is_kept(trial: Trial, kept: dict[str, Record]) -> None:
    together = threading.Barrier(2, timeout=10)

    def part(name: str) -> Fact:
        together.wait()
        return Fact(name=name, value="1")

    found = trial.side_by_side({"a": lambda: part("a"), "b": lambda: part("b")})
    assert found == kept == {"a": Fact(name="a", value="1"), "b": Fact(name="b", value="1")}
    assert trial.side_by_side({}) == {}


def test_a_part_that_fails_leaves_its_fault_and_the_others_go_on(
    trial: Trial, kept: dict[str, Record]
) -> None:
    def refused() -> Fact:
        raise HarnessError(Reason.FORBIDDEN, "no", "ask")

    def broken() -> Fact:
        raise KeyError("x")

    fine = Fact(name="a", value="1")
    found = trial.side_by_side({"fine": lambda: fine, "refused": refused, "broken": broken})
    assert found["refused"] == Fault(reason=Reason.FORBIDDEN, message="no", help="ask")
    assert isinstance(found["broken"], Fault)
    assert found["broken"].reason is Reason.INTERNAL
    assert "KeyError: 'x'" in found["broken"].message
    assert kept == {"fine": fine}


def test_what_a_probe_prints_is_read_and_other_lines_are_not(trial: Trial, api: ApiServer) -> None:
    api.answers.append(Answer(200, '{"a": 1}\nTraceback: x\n\n[1]\n"text"\n{"b": 2}\n{"cut'))
    assert trial.log_lines("one") == [{"a": 1}, {"b": 2}]


def test_a_manifest_quotes_its_values_and_wants_all_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "manifests").mkdir()
    (tmp_path / "manifests" / "toy.yaml.j2").write_text(
        "kind: Pod\nspec: {{ spec | yaml }}\nname: {{ name | yaml }}\n", "utf-8"
    )
    monkeypatch.setattr(paths, "_PACKAGE", tmp_path / "package")
    found = manifest("toy.yaml.j2", name="a: {b}\n# no", spec={"on": ["yes", 1]})
    assert found == {"kind": "Pod", "name": "a: {b}\n# no", "spec": {"on": ["yes", 1]}}
    with pytest.raises(jinja2.UndefinedError, match="'name' is undefined"):
        manifest("toy.yaml.j2", spec={})


def test_a_trial_reads_its_settings_and_namespace(trial: Trial) -> None:
    assert trial.namespace == "ns"
    assert trial.number("gang.window_seconds") > 0
    assert kinds.POD.path("ns", "one", "log") == "/api/v1/namespaces/ns/pods/one/log"
    assert kinds.LEASE.path() == "/apis/coordination.k8s.io/v1/leases"
    assert kinds.NODE.path("ns", "n1") == "/api/v1/nodes/n1"
