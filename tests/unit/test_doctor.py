"""`kar doctor` separates blockers from notes, and ends with the `kar run` to paste."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from kar_checks.checks import registry
from kar_checks.cli import app
from kar_checks.cluster.channel import ExecResult
from kar_checks.cluster.client import Cluster
from kar_checks.kit.topic import Needs
from tests.unit import toy
from tests.unit.apiserver import ApiServer, Object

Said = tuple[int, str]
Doctor = Callable[..., Said]
LABELS = {"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
GPU = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}


def node(api: ApiServer, name: str, *, ready: bool = True, **more: Any) -> None:
    taints, offers = more.get("taints", []), more.get("offers", {})
    state = {"type": "Ready", "status": str(ready)}
    api.add(
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": LABELS},
            "spec": {"taints": taints, "unschedulable": more.get("cordoned", False)},
            "status": {"conditions": [state], "allocatable": {"cpu": "8", **offers}},
        },
        "nodes",
    )


@pytest.fixture
def doctor(api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Doctor]:
    """The command on a cluster with one good node, and the toy in the place of every topic."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setattr(registry, "TOPIC_MODULES", ("tests.unit.toy",))
    registry.topics.cache_clear()
    node(api, "good")
    api.kubeconfig(tmp_path)

    def run(*words: str, command: str = "doctor") -> Said:
        done = CliRunner().invoke(app, [command, "--kubeconfig", "kubeconfig", *words])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.output

    yield run
    registry.topics.cache_clear()


def last(text: str) -> str:
    return text.rstrip().splitlines()[-1].strip()


# -- nodes -------------------------------------------------------------------------------------


def test_tainted_accelerator_nodes_are_a_note_with_the_option_that_helps(
    doctor: Doctor, api: ApiServer
) -> None:
    for number in range(4):
        node(api, f"gpu-{number}", taints=[GPU], offers={"nvidia.com/gpu": "8"})
    code, text = doctor()
    assert code == 0
    assert (
        "! note: 4 nodes are not used (gpu-0, gpu-1, gpu-2 and 1 more): they have the taint" in text
    )
    assert "they offer nvidia.com/gpu" in text
    assert "pass --toleration nvidia.com/gpu=present:NoSchedule to use them as well" in text
    assert "no blockers (1 note above)" in text
    assert last(text) == (
        "kar run --kubeconfig=kubeconfig --toleration=nvidia.com/gpu=present:NoSchedule"
    )
    assert doctor("--toleration", "nvidia.com/gpu=present:NoSchedule")[1].count("note") == 0


def test_each_taint_of_a_node_has_its_toleration(doctor: Doctor, api: ApiServer) -> None:
    other = {"key": "team", "value": "ml", "effect": "NoExecute"}
    node(api, "gpu", taints=[GPU, other, {**other, "key": "soft", "effect": "PreferNoSchedule"}])
    code, text = doctor()
    assert code == 0
    wanted = "--toleration nvidia.com/gpu=present:NoSchedule --toleration team=ml:NoExecute"
    assert f"pass {wanted} to use it as well" in text
    assert "soft" not in text


def test_many_unready_nodes_are_one_line_with_a_count(doctor: Doctor, api: ApiServer) -> None:
    for number in range(500):
        node(api, f"lost-{number}", ready=False)
    node(api, "old", cordoned=True)
    code, text = doctor()
    assert code == 0
    assert (
        "500 nodes are not used (lost-0, lost-1, lost-2 and 497 more): they are not Ready" in text
    )
    assert "node old is not used: it is cordoned" in text
    assert text.count("lost-") == 3


def test_nobody_is_advised_to_tolerate_a_control_plane_or_a_full_disk(
    doctor: Doctor, api: ApiServer
) -> None:
    for name, key in (
        ("cp", "node-role.kubernetes.io/control-plane"),
        ("full", "node.kubernetes.io/disk-pressure"),
    ):
        node(api, name, taints=[{"key": key, "effect": "NoSchedule"}])
    code, text = doctor()
    assert code == 0
    assert "node cp is not used: it has the taint node-role" in text
    assert "--toleration" not in text


def test_without_a_usable_node_the_taint_is_a_blocker_and_its_toleration_in_the_line(
    doctor: Doctor, api: ApiServer
) -> None:
    (only,) = api.objects.values()
    only["spec"] = {"taints": [{"key": "team", "effect": "NoSchedule"}]}
    code, text = doctor()
    assert code == 12
    assert "✘ no node can run the suite's pods" in text
    assert last(text).endswith("--toleration=team:NoSchedule")
    assert "Run it then" in text


def test_a_check_that_wants_more_nodes_is_a_blocker(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    wants = replace(toy.TOPIC.checks[0], needs=Needs(nodes=3))
    monkeypatch.setattr(toy, "TOPIC", replace(toy.TOPIC, checks=(wants, *toy.TOPIC.checks[1:])))
    registry.topics.cache_clear()
    code, text = doctor()
    assert code == 12
    assert "✘ it needs 3 usable nodes and there are 1 [toy.passes]" in text


# -- rights, platforms, policies ---------------------------------------------------------------


def _served(api: ApiServer, group: str, version: str, resource: str) -> None:
    one = {"version": version, "resources": [{"resource": resource}]}
    api.served["/apis"] = {"items": [{"metadata": {"name": group}, "versions": [one]}]}


@pytest.mark.parametrize(
    ("denied", "code"), [(set[str](), 0), ({"securitycontextconstraints"}, 12)]
)
def test_openshift_is_recognised_before_the_run(
    doctor: Doctor, api: ApiServer, denied: set[str], code: int
) -> None:
    _served(api, "security.openshift.io", "v1", "securitycontextconstraints")
    api.denied = denied
    found, text = doctor()
    assert found == code
    assert "this is OpenShift" in text
    assert "give --platform-user" in text
    assert last(text).endswith(" --platform-user")
    assert "this is OpenShift" in doctor(command="plan")[1]
    assert "this is OpenShift" in doctor("toy.passes", command="run")[1]
    assert "OpenShift" not in doctor("--platform-user")[1]


def test_policies_of_a_given_namespace_are_named(doctor: Doctor, api: ApiServer) -> None:
    meta = {"name": "team"}
    api.add({"apiVersion": "v1", "kind": "Namespace", "metadata": meta}, "namespaces")
    deny = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "egress": [{}]}
    body = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "spec": deny}
    api.add({**body, "metadata": {"name": "deny-in", "namespace": "team"}}, "networkpolicies")
    code, text = doctor("--namespace", "team")
    assert code == 0
    assert "NetworkPolicy deny-in in team (allows no traffic to pods)" in text
    assert last(text) == "kar run --kubeconfig=kubeconfig --namespace=team"
    assert "NetworkPolicy deny-in in team" in doctor("--namespace", "team", command="plan")[1]


def test_the_line_repeats_what_was_given(doctor: Doctor) -> None:
    words = [
        "toy.passes",
        "--label",
        "a=b c",
        "--set",
        "pods.start_seconds=9",
        "--image",
        "python=x",
    ]
    line = last(doctor(*words)[1])
    assert line == (
        "kar run --kubeconfig=kubeconfig toy.passes --image=python=x '--label=a=b c' "
        "--set=pods.start_seconds=9"
    )


# -- real pods ---------------------------------------------------------------------------------


class Kubelet:
    """Runs each pod that appears, and answers exec as a test wants."""

    def __init__(self, api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.api = api
        self.answers = {"resolve": '{"addresses": ["10.0.0.1"], "seconds": 0.1}',
                        "ask": '{"said": "a", "seconds": 0.1}'}  # fmt: skip
        self.asked: list[list[str]] = []
        self.running = True
        monkeypatch.setattr(Cluster, "exec", self.exec)
        monkeypatch.setattr(Cluster, "pod_log", lambda *_, **__: '{"listening": 18080}\n')
        threading.Thread(target=self.run, daemon=True).start()

    def run(self) -> None:
        while self.running:
            for key, item in list(self.api.objects.items()):
                if key[2] == "pods" and "status" not in item:
                    started: Object = {**item, "spec": {**item["spec"], "nodeName": "good"}}
                    started["status"] = {"phase": "Running", "podIP": "10.9.9.9"}
                    started["metadata"] = dict(item["metadata"])
                    self.api.put("MODIFIED", key, started)
            time.sleep(0.02)

    def exec(self, _ns: str, _pod: str, argv: list[str], **_: Any) -> ExecResult:
        self.asked.append(list(argv))
        return ExecResult(0, self.answers[argv[2]], "")


@pytest.fixture
def kubelet(api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kubelet]:
    found = Kubelet(api, monkeypatch)
    yield found
    found.running = False


QUICK = ("--probe", "--set", "doctor.idle_seconds=0.5")


def test_the_probe_tries_everything_and_leaves_nothing(
    doctor: Doctor, api: ApiServer, kubelet: Kubelet
) -> None:
    code, text = doctor(*QUICK)
    assert code == 0, text
    for told in (
        "1 manifests were sent as a dry run",
        "✔ pulled and started docker.io/library/python",
        "✔ exec works",
        "✔ logs can be read (1 line)",
        "✔ kubernetes.default.svc resolves in a pod",
        "✔ a pod reaches another",
        "✔ a watch that was silent for 0 s still delivers events",
        "no blockers",
    ):
        assert told in text, text
    assert ["python3", "/probe/doctor_probe.py", "ask", "10.9.9.9", "18080"] in kubelet.asked
    assert last(text).startswith("kar run ")
    assert {key[2] for key in api.objects} <= {"nodes", "configmaps"}


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ("resolve", "DNS: a pod cannot resolve kubernetes.default.svc: timed out"),
        ("ask", "traffic: a pod cannot reach another (node good to good): timed out"),
    ],
)
def test_what_pods_cannot_do_is_a_blocker_that_names_the_policies(
    doctor: Doctor, api: ApiServer, kubelet: Kubelet, part: str, told: str
) -> None:
    kubelet.answers[part] = '{"error": "timed out", "seconds": 5}'
    _served(api, "cilium.io", "v2", "ciliumclusterwidenetworkpolicies")
    body = {"apiVersion": "cilium.io/v2", "kind": "CiliumClusterwideNetworkPolicy"}
    api.add({**body, "metadata": {"name": "strict"}}, "ciliumclusterwidenetworkpolicies")
    code, text = doctor(*QUICK)
    assert code == 12
    assert f"✘ {told}" in text
    assert "these may be why: CiliumClusterwideNetworkPolicy strict of the cluster" in text


@pytest.mark.parametrize(
    ("stream", "code", "told"),
    [
        ([60.0], 12, "✘ a watch that was silent for 0 s delivers no more events"),
        ([0.1, b""], 0, "! note: a watch is cut after 0 s, though the server should keep it"),
    ],
)
def test_a_watch_that_something_holds_or_cuts_is_told(
    doctor: Doctor,
    api: ApiServer,
    kubelet: Kubelet,
    monkeypatch: pytest.MonkeyPatch,
    stream: list[bytes | float],
    code: int,
    told: str,
) -> None:
    monkeypatch.setattr("kar_checks.commands.doctor_probe._EVENT_SECONDS", 0.5)
    listen = Cluster.listen

    def scripted(self: Cluster, *words: Any, **more: Any) -> Any:
        api.streams.append(stream)
        return listen(self, *words, **more)

    monkeypatch.setattr(Cluster, "listen", scripted)
    found, text = doctor(*QUICK)
    assert told in text
    assert found == code


def test_a_webhook_that_changes_pods_is_a_note(
    doctor: Doctor, kubelet: Kubelet, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = Cluster.create

    def changed(self: Cluster, kind: Any, body: Object, namespace: str = "", **more: Any) -> Object:
        stored = create(self, kind, body, namespace, **more)
        if kind.kind != "Pod":
            return stored
        spec = {**stored["spec"], "containers": [*stored["spec"]["containers"], {"name": "mesh"}]}
        return {**stored, "spec": spec}

    monkeypatch.setattr(Cluster, "create", changed)
    code, text = doctor(*QUICK)
    assert code == 0
    assert "the cluster changes our pods on their way in (Pod/kar-doctor-" in text
    assert "spec.containers[mesh]" in text
    assert "--annotation" in text
