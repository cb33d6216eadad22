"""Sabotages of secondary networks: their driver, their cables, what is published, admission."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

from kar_checks.cluster import kinds, pods
from kar_checks.cluster.client import Cluster, Object
from kar_checks.cluster.connect import connect
from kar_checks.cluster.errors import ApiError
from kar_checks.cluster.kinds import Kind
from localcluster import PROBE_IMAGES, LocalCluster
from localcluster.shell import run
from tests.cluster.injections import injection
from tests.cluster.injections.waiting import wait
from tests.cluster.injections.webhook import Answer, webhook

ROLE = "kar-checks.dev/networking"
_DAEMON_SET = Kind("apps", "v1", "daemonsets", "DaemonSet")
_MERGE = "application/merge-patch+json"
_DRIVER_PODS = "k8s-app=dranet"
_PODS: Object = {
    "apiGroups": [""],
    "apiVersions": ["v1"],
    "operations": ["CREATE"],
    "resources": ["pods"],
}
_EXEC: Object = {**_PODS, "operations": ["CONNECT"], "resources": ["pods/exec"]}
_SLICES: Object = {
    "apiGroups": ["resource.k8s.io"],
    "apiVersions": ["*"],
    "operations": ["CREATE", "UPDATE"],
    "resources": ["resourceslices"],
}


# -- what is there by itself ----------------------------------------------------------------


@injection(addons=("multus",))
@contextmanager
def definition_steers_nobody(_: LocalCluster, __: Cluster) -> Iterator[None]:
    """The network works, and nothing tells the scheduler which nodes have it."""
    yield


# -- the driver and the nodes ---------------------------------------------------------------


@injection(addons=("dranet",), words=("--set", "networking.attach_seconds=8"))
@contextmanager
def driver_stopped(_: LocalCluster, cluster: Cluster) -> Iterator[None]:
    """The driver's pods are gone; what they published is still there."""

    def select(nodes: Object | None) -> None:
        body = {"spec": {"template": {"spec": {"nodeSelector": nodes}}}}
        cluster.patch(_DAEMON_SET, "dranet", body, "kube-system", content_type=_MERGE)

    def ready() -> bool:
        status = cluster.get(_DAEMON_SET, "dranet", "kube-system").get("status") or {}
        return status.get("numberReady") == 3 and status.get("updatedNumberScheduled") == 3

    select({"kar-checks.test/none": "here"})
    try:
        wait(
            "the driver's end",
            lambda: not cluster.list(kinds.POD, "kube-system", labels=_DRIVER_PODS).items,
        )
        yield
    finally:
        select(None)
        wait("the driver's return", ready)
        wait("its slices", lambda: len(offering(cluster)) == 2)


def offering(cluster: Cluster) -> list[Object]:
    """The slices that offer an interface."""
    return [
        one
        for one in cluster.list(kinds.RESOURCE_SLICE).items
        if any("dra.net/ifName" in each["attributes"] for each in one["spec"]["devices"])
    ]


@injection(addons=("dranet",))
@contextmanager
def cable_cut(local: LocalCluster, cluster: Cluster) -> Iterator[None]:
    """What the second network of one node sends reaches nobody: its macvlan is private."""
    node = local.nodes[1]

    def mode(name: str) -> None:
        # The interface comes back some moments after the last pod that had it.
        found = ["ip", "link", "set", "net1", "type", "macvlan", "mode", name]
        wait("net1 on the node", lambda: node.exec(found, check=False).returncode == 0)

    mode("private")
    try:
        yield
    finally:
        mode("bridge")
        wait("its slices", lambda: len(offering(cluster)) == 2)


@injection(addons=("dranet",))
@contextmanager
def no_incapable_node(local: LocalCluster, cluster: Cluster) -> Iterator[None]:
    """Every node that pods may run on has the network."""
    name = local.nodes[2].name
    cluster.patch(kinds.NODE, name, {"spec": {"unschedulable": True}}, content_type=_MERGE)
    try:
        yield
    finally:
        cluster.patch(kinds.NODE, name, {"spec": {"unschedulable": None}}, content_type=_MERGE)


@injection(addons=("dranet",))
@contextmanager
def attributes_lie(_: LocalCluster, cluster: Cluster) -> Iterator[None]:
    """What the driver publishes about the MTU is changed on its way in."""
    before = {one["metadata"]["name"]: one["spec"]["devices"] for one in offering(cluster)}

    def lie(request: Object) -> Answer:
        return [
            {
                "op": "replace",
                "path": f"/spec/devices/{index}/attributes/dra.net~1mtu",
                "value": {"int": 9000},
            }
            for index, one in enumerate(request["object"]["spec"].get("devices") or [])
            if "dra.net/mtu" in one["attributes"]
        ]

    def lies() -> bool:
        found = [one["spec"]["devices"] for one in offering(cluster)]
        return all("9000" in json.dumps(one) for one in found)

    touch = {"metadata": {"annotations": {"kar-checks.test/touched": "yes"}}}
    try:
        with webhook(cluster, name="lie", rules=[_SLICES], respond=lie, mutating=True):
            for name in before:
                cluster.patch(kinds.RESOURCE_SLICE, name, touch, content_type=_MERGE)
            wait("the lie", lies)
            yield
    finally:
        for name, devices in before.items():
            # The driver may have made another one meanwhile.
            with contextlib.suppress(ApiError):
                body = {"spec": {"devices": devices}}
                cluster.patch(kinds.RESOURCE_SLICE, name, body, content_type=_MERGE)


@injection(addons=("dranet",))
@contextmanager
def bound_anyway(local: LocalCluster, _: Cluster) -> Iterator[None]:
    """The pod on the node without the network is given this node, behind the scheduler."""
    with contextlib.closing(Cluster(connect(local.kubeconfig, None), run_id="sabotage")) as own:
        begin = own.list(kinds.POD, labels=ROLE).resource_version

        def follow() -> None:
            for change, pod in own.watch(
                kinds.POD,
                resource_version=begin,
                deadline=time.monotonic() + 600,
                labels=f"{ROLE}=refused",
            ):
                if change == "ADDED":
                    _bind(own, pod)

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield
        finally:
            own.stop()
            thread.join(10)


def _bind(own: Cluster, pod: Object) -> None:
    namespace, name = pod["metadata"]["namespace"], str(pod["metadata"]["name"])
    node = pod["spec"]["nodeSelector"]["kubernetes.io/hostname"]
    target = {"apiVersion": "v1", "kind": "Node", "name": node}
    body: Object = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": name},
        "target": target,
    }
    own.call("POST", kinds.POD.path(namespace, name, "binding"), body=body)


# -- networks that are not for us -----------------------------------------------------------

_TEAM = "team-a"
_TAINT = {"key": "kar-checks.test/nic", "value": "present", "effect": "NoSchedule"}
_NIC_CLASS = "kar-checks-test-nic"
_POISON_CLASS = "kar-checks-test-poison"
_POISON = ("null", "[]", "{", '{"plugins": ["a"]}', '{"type": "macvlan", "ipam": "dhcp"}', "{}")


@contextmanager
def _tainted(local: LocalCluster, cluster: Cluster) -> Iterator[None]:
    """Give both nodes that have the second network a taint, as nodes with accelerators have."""
    names = [one.name for one in local.nodes[:2]]
    try:
        for name in names:
            body = {"spec": {"taints": [_TAINT]}}
            cluster.patch(kinds.NODE, name, body, content_type=_MERGE)
        yield
    finally:
        for name in names:
            cluster.patch(kinds.NODE, name, {"spec": {"taints": None}}, content_type=_MERGE)


@injection(addons=("dranet",))
def devices_on_tainted_nodes(local: LocalCluster, cluster: Cluster) -> AbstractContextManager[None]:
    """A driver offers devices on nodes alone that pods of ours may not use."""
    return _tainted(local, cluster)


@injection(addons=("multus",), words=("--set", "networking.attach_seconds=8"))
def definition_for_tainted_nodes(
    local: LocalCluster, cluster: Cluster
) -> AbstractContextManager[None]:
    """What a definition needs is on nodes alone that pods of ours may not use."""
    return _tainted(local, cluster)


@injection(addons=("dranet",), words=("--set", "throughput.networks=secondary"))
@contextmanager
def others_hold_every_device(local: LocalCluster, cluster: Cluster) -> Iterator[None]:
    """Pods of another team have the interfaces of both nodes, by claims of theirs."""
    with (
        _team(cluster),
        _device_class(cluster, _NIC_CLASS, _WITH_INTERFACE),
        _holding(cluster, [one.name for one in local.nodes[:2]]),
    ):
        yield


@injection(addons=("dranet",))
@contextmanager
def another_holds_one_device(local: LocalCluster, cluster: Cluster) -> Iterator[None]:
    """A pod of another team has the interface of one node; and a class makes no sense.

    What it reads no device has, which is an error of the scheduler for each pod that uses it.
    """
    reads = 'device.driver == "dra.net" && device.attributes["dra.net"].no == "a"'
    with (
        _team(cluster),
        _device_class(cluster, _POISON_CLASS, reads),
        _device_class(cluster, _NIC_CLASS, _WITH_INTERFACE),
        _holding(cluster, [local.nodes[0].name]),
    ):
        yield


_WITH_INTERFACE = 'device.driver == "dra.net" && "ifName" in device.attributes["dra.net"]'


@contextmanager
def _team(cluster: Cluster) -> Iterator[None]:
    """Give the cluster the namespace of somebody else."""
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": _TEAM}}
    cluster.create(kinds.NAMESPACE, space)
    try:
        yield
    finally:
        cluster.delete(kinds.NAMESPACE, _TEAM)
        wait(f"the end of {_TEAM}", lambda: cluster.find(kinds.NAMESPACE, _TEAM) is None)


@contextmanager
def _device_class(cluster: Cluster, name: str, expression: str) -> Iterator[None]:
    body: Object = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "DeviceClass",
        "metadata": {"name": name},
        "spec": {"selectors": [{"cel": {"expression": expression}}]},
    }
    cluster.create(kinds.DEVICE_CLASS, body)
    try:
        yield
    finally:
        cluster.delete(kinds.DEVICE_CLASS, name)


@contextmanager
def _holding(cluster: Cluster, nodes: list[str]) -> Iterator[None]:
    """Let a pod of the team hold the interface of each of these nodes."""
    for node in nodes:
        for kind, body in _user(node):
            cluster.create(kind, body, _TEAM)
    try:
        for node in nodes:
            wait(
                f"the pod on {node}",
                partial(_train_is, pods.ready, cluster, node),
            )
        yield
    finally:
        for node in nodes:
            cluster.delete(kinds.POD, f"train-{node}", _TEAM)
        wait("the end of the pods", lambda: not cluster.list(kinds.POD, _TEAM).items)
        wait("the slices", lambda: len(offering(cluster)) == 2, seconds=120)


def _train_is(state: Callable[[Object], bool], cluster: Cluster, name: str) -> bool:
    return state(cluster.get(kinds.POD, f"train-{name}", _TEAM))


def _user(node: str) -> list[tuple[Kind, Object]]:
    request = {"name": "nic", "exactly": {"deviceClassName": _NIC_CLASS}}
    claim: Object = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": f"nic-{node}"},
        "spec": {"devices": {"requests": [request]}},
    }
    container: Object = {
        "name": "train",
        "image": PROBE_IMAGES["python"],
        "command": ["sleep", "600"],
        "resources": {"claims": [{"name": "nic"}], "requests": {"cpu": "10m"}},
    }
    body: Object = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"train-{node}"},
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": node},
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "resourceClaims": [{"name": "nic", "resourceClaimName": f"nic-{node}"}],
            "containers": [container],
        },
    }
    return [(kinds.RESOURCE_CLAIM, claim), (kinds.POD, body)]


_DPDK = "intel.com/sriov_dpdk"
_RDMA = "rdma/hca_a"


@injection()
def devices_for_programs(local: LocalCluster, cluster: Cluster) -> AbstractContextManager[None]:
    """A device plugin gives pods what a program drives by itself: they have no interface of it."""
    return _offered(local, cluster, _DPDK)


@injection()
@contextmanager
def pods_ask_for_every_device(local: LocalCluster, cluster: Cluster) -> Iterator[None]:
    """Pods of another team ask for all that a device plugin offers."""
    names = [one.name for one in local.nodes[:2]]
    with _offered(local, cluster, _RDMA), _team(cluster):
        for name in names:
            (_, body) = _user(name)[1]
            del body["spec"]["resourceClaims"]
            amount = {_RDMA: "1"}
            body["spec"]["containers"][0]["resources"] = {"requests": amount, "limits": amount}
            cluster.create(kinds.POD, body, _TEAM)
        for name in names:
            wait(
                f"the pod on {name}",
                partial(_train_is, pods.bound, cluster, name),
            )
        yield


@contextmanager
def _offered(local: LocalCluster, cluster: Cluster, resource: str) -> Iterator[None]:
    """Let two nodes offer one device each, as if a plugin had told their kubelets."""

    def offer(amount: str | None) -> None:
        for node in local.nodes[:2]:
            told = {"status": {side: {resource: amount} for side in ("capacity", "allocatable")}}
            cluster.patch(kinds.NODE, node.name, told, subresource="status", content_type=_MERGE)

    offer("1")
    try:
        yield
    finally:
        offer(None)


@injection(addons=("multus",))
@contextmanager
def definitions_make_no_sense(_: LocalCluster, cluster: Cluster) -> Iterator[None]:
    """Somebody has written definitions that no plugin could be called with."""
    with _team(cluster):
        for number, config in enumerate(_POISON):
            _define(cluster, f"poison-{number}", config)
        yield


@injection(
    addons=("multus",),
    words=(
        "--set",
        "networking.attach_seconds=8",
        "--set",
        f"networking.network=nad:{_TEAM}/net1",
    ),
)
@contextmanager
def definition_of_another_tenant(local: LocalCluster, cluster: Cluster) -> Iterator[None]:
    """Multus keeps the namespaces apart, and the only definition is somebody else's."""
    edit = f"{{}} {_MULTUS_FILE}"
    apart = edit.format('sed -i \'s/"type": *"multus"/&, "namespaceIsolation": true/\'')
    joined = edit.format("sed -i 's/, \"namespaceIsolation\": true//'")
    net1 = cluster.get(kinds.NETWORK_ATTACHMENT, "net1", "default")
    with _team(cluster):
        _define(cluster, "net1", net1["spec"]["config"])
        try:
            for node in local.nodes:
                node.exec(["sh", "-c", apart])
                node.exec(["grep", "-q", "namespaceIsolation", _MULTUS_FILE])
            yield
        finally:
            for node in local.nodes:
                node.exec(["sh", "-c", joined])


_MULTUS_FILE = "/etc/cni/net.d/00-multus.conflist"


def _define(cluster: Cluster, name: str, config: str) -> None:
    body: Object = {
        "apiVersion": kinds.NETWORK_ATTACHMENT.api_version,
        "kind": kinds.NETWORK_ATTACHMENT.kind,
        "metadata": {"name": name},
        "spec": {"config": config},
    }
    cluster.create(kinds.NETWORK_ATTACHMENT, body, _TEAM)


# -- inside of pods -------------------------------------------------------------------------


@injection(addons=("dranet",))
def led_over_eth0(local: LocalCluster, cluster: Cluster) -> AbstractContextManager[None]:
    """What the client sends to the other pod's net1 goes to its eth0, and nobody is told."""

    def lead(namespace: str, pod: Object, command: list[str]) -> None:
        if "send" not in command:
            return
        order = json.loads(command[-1])
        others = cluster.list(kinds.POD, namespace, labels=f"{ROLE}=measured").items
        (other,) = (one for one in others if one["metadata"]["name"] != pod["metadata"]["name"])
        mine, theirs = pod["status"]["podIP"], other["status"]["podIP"]
        if order["to"] == theirs:
            return
        rules = f"""
        table ip sabotage {{
            chain out {{
                type nat hook output priority -100
                ip daddr {order["to"]} dnat to {theirs}
            }}
            chain post {{
                type nat hook postrouting priority 100
                ip saddr {order["from"]} oifname "eth0" snat to {mine}
            }}
        }}
        """
        _inside(local, pod, ["nft", "-f", "-"], rules)

    return _before_exec(cluster, lead)


@injection(addons=("multus",))
def interface_renamed(local: LocalCluster, cluster: Cluster) -> AbstractContextManager[None]:
    """The pod's interface is not called what the platform says."""

    def rename(_: str, pod: Object, __: list[str]) -> None:
        if pod["metadata"]["labels"][ROLE] == "measured":
            _inside(local, pod, ["ip", "-batch", "-"], "link set net1 down\nlink set net1 name x\n")

    return _before_exec(cluster, rename)


@injection(addons=("multus",))
def both_on_one_node(local: LocalCluster, cluster: Cluster) -> AbstractContextManager[None]:
    """A webhook puts every pod that wants the network on one node."""

    def move(request: Object) -> Answer:
        if (request["object"]["metadata"].get("labels") or {}).get(ROLE) != "measured":
            return []
        path = "/spec/nodeSelector/kubernetes.io~1hostname"
        return [{"op": "replace", "path": path, "value": local.nodes[0].name}]

    return webhook(cluster, name="one-node", rules=[_PODS], respond=move, mutating=True)


def _before_exec(
    cluster: Cluster, act: Callable[[str, Object, list[str]], None]
) -> AbstractContextManager[None]:
    """Do something before a command starts in a pod; the command waits for it."""

    def respond(request: Object) -> Answer:
        pod = cluster.get(kinds.POD, request["name"], request["namespace"])
        act(request["namespace"], pod, request["object"]["command"])
        return []

    return webhook(cluster, name="before-exec", rules=[_EXEC], respond=respond, mutating=False)


def _inside(local: LocalCluster, pod: Object, argv: list[str], stdin: str) -> None:
    """Run a program of the machine in the network of a pod."""
    node = next(one for one in local.nodes if one.name == pod["spec"]["nodeName"])
    pid = node.container_pid1(pod["status"]["containerStatuses"][0]["containerID"])
    run(["nsenter", f"--target={pid}", "--net", "--", *argv], stdin=stdin)
