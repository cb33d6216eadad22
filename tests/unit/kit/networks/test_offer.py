"""Which nodes have a network, who holds its devices, and what is left: from published objects."""

import json
from typing import Any

import pytest

from kar_checks.cluster.errors import HarnessError
from kar_checks.cluster.target import RUN_LABEL, Target, Toleration
from kar_checks.kit.networks.attach import choose_addresses
from kar_checks.kit.networks.device_plugin import DevicePluginNetwork, is_network
from kar_checks.kit.networks.dra import DraNetwork, class_for
from kar_checks.kit.networks.find import choose, sift_classes
from kar_checks.kit.networks.gke import GkeNetwork, described
from kar_checks.kit.networks.inventory import foreign, with_rules
from kar_checks.kit.networks.multus import AttachedNetwork
from kar_checks.kit.networks.obstacles import unavailable
from kar_checks.kit.networks.offer import Published, offer
from kar_checks.kit.networks.records import Measured
from kar_checks.kit.networks.sound import (
    not_cel,
    sift,
    unpublished,
    why_not_class,
    why_not_definition,
    why_not_slice,
)
from kar_checks.model import Outcome

ADDRESSES = choose_addresses("198.18.4.0/22", "any")
TAINT = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
WHY = "it has the taint nvidia.com/gpu=present:NoSchedule, give --toleration …"
Devices = list[dict[str, Any]]


def node(name: str, *taints: dict[str, Any], **resources: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "spec": {"taints": list(taints)},
        "status": {"allocatable": {"cpu": "8", **resources}},
    }


NODES = [node("a"), node("b"), node("c")]


def device(name: str, **more: Any) -> dict[str, Any]:
    attributes = {"dra.net/ifName": {"string": name}}
    return {"name": name, "attributes": attributes, **more}


def slice_of(place: str, *devices: dict[str, Any], **spec: Any) -> dict[str, Any]:
    pool = {"name": place, "generation": 1, "resourceSliceCount": 1}
    own = {"driver": "dra.net", "nodeName": place, "pool": pool, "devices": list(devices)}
    return {"metadata": {"name": f"{place}-slice"}, "spec": {**own, **spec}}


def claim(place: str, name: str, *, label: str = "", where: str = "", **result: Any) -> Any:
    found = {"driver": "dra.net", "pool": place, "device": name, "request": "nic", **result}
    allocation: dict[str, Any] = {"devices": {"results": [found]}}
    if where:
        match = {"key": "metadata.name", "operator": "In", "values": [where]}
        allocation["nodeSelector"] = {"nodeSelectorTerms": [{"matchFields": [match]}]}
    return {
        "metadata": {"name": "nic", "namespace": "team", "labels": {RUN_LABEL: label}},
        "status": {
            "allocation": allocation,
            "reservedFor": [{"resource": "pods", "name": "train-0"}],
        },
    }


def pod(name: str, place: str, phase: str = "Running", **requests: str) -> dict[str, Any]:
    containers = [{"name": "c", "resources": {"requests": requests}}]
    return {
        "metadata": {"name": name, "namespace": "team"},
        "spec": {"nodeName": place, "containers": containers},
        "status": {"phase": phase},
    }


TWO = [slice_of("a", device("net1")), slice_of("b", device("net1"))]


def of_driver(published: Published) -> tuple[DraNetwork, Measured]:
    (network,) = choose(published, "", ADDRESSES, 3).networks
    assert isinstance(network, DraNetwork)
    return network, offer(network, published)


# -- devices only where pods of ours may not run --------------------------------------------


def test_devices_of_tainted_nodes_are_found_with_the_taints() -> None:
    slices = [slice_of("g", device("net1")), slice_of("h", device("net1"))]
    others = [(node("g", TAINT), WHY), (node("h"), "it is cordoned")]
    _, found = of_driver(Published(slices=slices, nodes=NODES, others=others))
    assert (found.capable, found.free) == ([], [])
    assert [(one.node, one.taints) for one in found.elsewhere] == [
        ("g", ["nvidia.com/gpu=present:NoSchedule"]),
        ("h", []),
    ]


def test_resources_of_tainted_nodes_are_networks() -> None:
    others = [(node("g", TAINT, **{"rdma/hca": "4"}), WHY)]
    published = Published(nodes=NODES, others=others)
    (network,) = choose(published, "", ADDRESSES, 3).networks
    assert network.name == "rdma/hca"
    found = offer(network, published)
    assert (found.free, [one.node for one in found.elsewhere]) == ([], ["g"])


def test_a_definition_that_steers_nobody_may_be_for_the_tainted_nodes() -> None:
    definition = {"metadata": {"name": "n", "namespace": "x"}, "spec": {}}
    network = AttachedNetwork(definition, ADDRESSES)
    found = offer(network, Published(nodes=NODES, others=[(node("g", TAINT), WHY)], pods=[]))
    assert (found.steers, found.free, found.held) == (False, ["a", "b", "c"], [])
    assert [one.node for one in found.elsewhere] == ["g"]


# -- who holds what -------------------------------------------------------------------------


def test_a_device_that_a_claim_has_is_not_free() -> None:
    published = Published(slices=TWO, nodes=NODES, claims=[claim("a", "net1")])
    _, found = of_driver(published)
    assert (found.capable, found.incapable, found.free) == (["a", "b"], ["c"], ["b"])
    assert found.held is not None
    assert [(one.node, one.by) for one in found.held] == [("a", ["claim team/nic (pod train-0)"])]


def test_a_free_device_is_asked_for_where_another_one_is_held() -> None:
    told = {
        "dra.net/mac": {"string": "66:00:00:00:00:02"},
        "dra.net/ipv4": {"string": "10.9.0.2/24"},
        "dra.net/ifName": {"string": "net2"},
    }
    slices = [slice_of("a", device("net1"), {"name": "net2", "attributes": told})]
    published = Published(slices=slices, nodes=NODES, claims=[claim("a", "net1")])
    network, _ = of_driver(published)
    body = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}]}}
    ((_, wanted),) = network.join(body, 1).objects
    assert "66:00:00:00:00:02" in json.dumps(wanted)


@pytest.mark.parametrize("where", ["", "a"])
def test_a_driver_that_takes_held_devices_off_its_list(where: str) -> None:
    pool = "rack" if where else "a"
    published = Published(
        slices=[slice_of("a"), slice_of("b")],
        classes=[
            {
                "metadata": {"name": "any"},
                "spec": {"selectors": [{"cel": {"expression": 'device.driver == "dra.net"'}}]},
            }
        ],
        nodes=NODES,
        claims=[claim(pool, "net1", where=where)],
    )
    _, found = of_driver(published)
    assert (found.capable, found.incapable, found.free) == (["a"], ["b", "c"], [])
    assert found.held is not None
    assert found.held[0].node == "a"


def test_claims_for_administrators_and_claims_of_ours_hold_nothing() -> None:
    claims = [claim("a", "net1", adminAccess=True), *foreign([claim("b", "net1", label="r")], "r")]
    _, found = of_driver(Published(slices=TWO, nodes=NODES, claims=claims))
    assert found.free == ["a", "b"]


def test_claims_that_may_not_be_seen_are_not_taken_for_none() -> None:
    _, found = of_driver(Published(slices=TWO, nodes=NODES))
    assert (found.free, found.held) == (["a", "b"], None)


def test_parts_of_a_device_share_its_counters() -> None:
    counters = {"name": "pf", "counters": {"vfs": {"value": "2"}}}
    takes = [{"counterSet": "pf", "counters": {"vfs": {"value": "2"}}}]
    parts = [device(one, consumesCounters=takes) for one in ("whole1", "whole2")]
    one = slice_of("a", *parts, sharedCounters=[counters])
    _, found = of_driver(Published(slices=[one], nodes=NODES, claims=[claim("a", "whole1")]))
    assert (found.capable, found.free) == (["a"], [])
    _, found = of_driver(Published(slices=[one], nodes=NODES, claims=[]))
    assert found.free == ["a"]


@pytest.mark.parametrize(("default", "free"), [(None, []), ("2G", ["a"]), ("9G", [])])
def test_a_shared_device_has_room_for_what_its_policy_gives(
    default: str | None, free: list[str]
) -> None:
    policy = {"requestPolicy": {"default": default}} if default else {}
    capacity = {"egress": {"value": "10G", **policy}}
    one = slice_of("a", device("net1", allowMultipleAllocations=True, capacity=capacity))
    share = claim("a", "net1", shareID="s", consumedCapacity={"egress": "4G"})
    _, found = of_driver(Published(slices=[one], nodes=NODES, claims=[share]))
    assert found.free == free


def test_tainted_devices_are_not_free_unless_they_are_tolerated() -> None:
    taint = {"key": "repair", "effect": "NoExecute"}
    slices = [slice_of("a", device("net1", taints=[taint]))]
    _, found = of_driver(Published(slices=slices, nodes=NODES))
    assert (found.free, found.tainted) == ([], {"net1 of pool a": "repair:NoExecute"})
    target = Target(tolerations=[Toleration(key="repair")])
    network, found = of_driver(Published(slices=slices, nodes=NODES, target=target))
    assert (found.free, found.tainted) == (["a"], {})
    body = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}]}}
    ((_, wanted),) = network.join(body, 1).objects
    request = wanted["spec"]["devices"]["requests"][0]["exactly"]
    assert request["tolerations"] == [{"key": "repair", "operator": "Exists"}]


def test_rules_taint_the_devices_that_they_select() -> None:
    taint = {"key": "repair", "effect": "NoSchedule"}
    rule = {"spec": {"deviceSelector": {"pool": "a"}, "taint": taint}}
    _, found = of_driver(Published(slices=with_rules(TWO, [rule]), nodes=NODES))
    assert found.free == ["b"]
    for spec, free in (({"deviceSelector": {}}, []), ({}, ["a", "b"])):
        every = with_rules(TWO, [{"spec": {**spec, "taint": taint}}])
        assert of_driver(Published(slices=every, nodes=NODES))[1].free == free


def test_a_pool_that_is_still_being_published_is_named() -> None:
    pool = {"name": "a", "generation": 2, "resourceSliceCount": 2}
    slices = [*TWO[:1], slice_of("a", device("net1"), pool=pool)]
    _, found = of_driver(Published(slices=slices, nodes=NODES))
    assert (found.capable, found.unfinished) == ([], ["a (1 of 2 slices)"])
    ruling = unavailable(found)
    assert ruling is not None
    assert (ruling.outcome, ruling.reason) == (Outcome.INCONCLUSIVE, "unfinished_pool")


def test_definitions_of_other_tenants_come_last() -> None:
    definitions = [
        {"metadata": {"name": "n", "namespace": namespace}, "spec": {}}
        for namespace in ("another", "default", "mine")
    ]
    published = Published(definitions=definitions, nodes=NODES, namespace="mine")
    found = choose(published, "", ADDRESSES, 3).networks
    assert [one.name for one in found] == ["default/n", "mine/n", "another/n"]


def test_devices_without_any_interface_are_told_from_ones_that_are_down() -> None:
    bare = {"name": "pci-1", "attributes": {"dra.net/pciAddress": {"string": "0000:3b:00.1"}}}
    _, found = of_driver(Published(slices=[slice_of("a", bare)], nodes=NODES))
    assert (found.capable, found.bare) == ([], ["pci-1 of pool a"])
    down = device("net1")
    down["attributes"]["dra.net/state"] = {"string": "down"}
    _, found = of_driver(Published(slices=[slice_of("a", bare, down)], nodes=NODES))
    assert (found.capable, found.bare) == ([], [])


def resource(published: Published, name: str = "rdma/hca") -> Measured:
    return offer(DevicePluginNetwork(name), published)


def test_what_pods_ask_for_of_a_resource_is_held() -> None:
    nodes = [node("a", **{"rdma/hca": "2"}), node("b", **{"rdma/hca": "2"}), node("c")]
    users = [
        pod("x", "a", **{"rdma/hca": "1"}),
        pod("y", "a", **{"rdma/hca": "1"}),
        pod("z", "b", "Succeeded", **{"rdma/hca": "2"}),
    ]
    found = resource(Published(nodes=nodes, pods=users))
    assert (found.capable, found.incapable, found.free) == (["a", "b"], ["c"], ["b"])
    assert found.held is not None
    (held,) = found.held
    assert (held.what, held.node) == ("2 of 2 rdma/hca", "a")
    assert held.by == ["pod team/x (1)", "pod team/y (1)"]
    assert resource(Published(nodes=nodes)).held is None


def test_networks_of_which_nothing_is_left_come_last() -> None:
    nodes = [node("a", **{"intel.com/sriov": "1", "rdma/hca": "1"})]
    users = [pod("x", "a", **{"intel.com/sriov": "1"})]
    found = choose(Published(nodes=nodes, pods=users), "", ADDRESSES, 1)
    assert [one.name for one in found.networks] == ["rdma/hca"]
    assert found.more == ["intel.com/sriov"]


# -- names of resources ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "rdma/hca_shared_devices_a",
        "openshift.io/mlxnics",
        "nvidia.com/hostdev",
        "nvidia.com/mlnxnics",
        "intel.com/intel_sriov_netdevice",
        "intel.com/sriov_dpdk",
        "mellanox.com/cx5_nic",
        "nvidia.com/ib0",
        "vpc.amazonaws.com/efa",
        "aliyun/erdma",
        "networking.gke.io.networks/gvnic-1",
        "macvtap.network.kubevirt.io/eth1",
    ],
)
def test_a_resource_is_a_network_by_its_name(name: str) -> None:
    assert is_network(name)


@pytest.mark.parametrize(
    "name",
    [
        "nvidia.com/gpu",
        "amd.com/gpu",
        "nvidia.com/mig-1g.5gb",
        "intel.com/sriov-gpu",
        "devices.kubevirt.io/kvm",
        "devices.kubevirt.io/vhost-net",
        "qat.intel.com/generic",
        "vpc.amazonaws.com/pod-eni",
        "smarter-devices/video0",
        "hugepages-2Mi",
    ],
)
def test_other_resources_are_none(name: str) -> None:
    assert not is_network(name)


def test_the_user_may_name_a_resource_that_nothing_recognises() -> None:
    published = Published(nodes=[node("a", **{"example.com/fast": "1"})])
    (network,) = choose(published, "resource:example.com/fast", ADDRESSES, 3).networks
    assert network.name == "example.com/fast"
    with pytest.raises(HarnessError, match="no such network"):
        choose(published, "resource:example.com/other", ADDRESSES, 3)


# -- GKE ------------------------------------------------------------------------------------

PAIRS = {
    f"networking.gke.io.networks/{name}{end}": "8"
    for name in ("default", "gvnic-1", "rdma-0", "rdma-1")
    for end in ("", ".IP")
}


def test_a_pair_of_resources_is_one_network_with_an_annotation() -> None:
    nodes = [node("a", **PAIRS), node("b", **PAIRS), node("c")]
    published = Published(nodes=nodes, pods=[])
    found = choose(published, "", ADDRESSES, 9).networks
    names = [one.name.rpartition("/")[2] for one in found]
    assert names == ["gvnic-1", "rdma-0", "rdma-1"]
    body = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}]}}
    joined = found[1].join(body, 1).pod
    annotations = joined["metadata"]["annotations"]
    assert annotations["networking.gke.io/default-interface"] == "eth0"
    assert json.loads(annotations["networking.gke.io/interfaces"]) == [
        {"interfaceName": "eth0", "network": "default"},
        {"interfaceName": "eth1", "network": "rdma-0"},
    ]
    wanted = {f"networking.gke.io.networks/rdma-0{end}": "1" for end in ("", ".IP")}
    assert joined["spec"]["containers"][0]["resources"]["limits"] == wanted
    seen = offer(found[1], published)
    assert (seen.mechanism, seen.free, seen.incapable) == ("gke", ["a", "b"], ["c"])
    assert seen.resource == "networking.gke.io.networks/rdma-0"
    (one,) = choose(
        published, "resource:networking.gke.io.networks/rdma-0.IP", ADDRESSES, 3
    ).networks
    assert isinstance(one, GkeNetwork)


def test_a_network_of_addresses_alone_has_one_resource() -> None:
    published = Published(nodes=[node("a", **{"networking.gke.io.networks/blue.IP": "8"})])
    (network,) = choose(published, "", ADDRESSES, 9).networks
    assert isinstance(network, GkeNetwork)
    assert network.resources == ["networking.gke.io.networks/blue.IP"]


@pytest.mark.parametrize(
    ("noted", "addresses"),
    [
        ('[{"networkName": "blue", "ip": "172.16.0.7"}]', ["172.16.0.7"]),
        ('[{"networkName": "red", "ip": "172.16.0.7"}, 1, null]', []),
        ("?", []),
        ("null", []),
        (None, []),
    ],
)
def test_the_address_is_read_from_the_pods_annotation(
    noted: str | None, addresses: list[str]
) -> None:
    annotations = {"networking.gke.io/pod-ips": noted} if noted else {}
    nobody: Any = None
    found = GkeNetwork("blue", []).interface(nobody, {"metadata": {"annotations": annotations}})
    assert found is not None
    assert (found.name, found.addresses) == ("eth1", addresses)


def test_network_objects_describe_their_networks() -> None:
    networks: list[dict[str, Any]] = [
        {
            "metadata": {"name": "rdma-0"},
            "spec": {"type": "Device", "parametersRef": {"name": "p"}},
        },
        {"metadata": {"name": "blue"}, "spec": {"type": "L3"}},
    ]
    parameters: list[dict[str, Any]] = [{"metadata": {"name": "p"}, "spec": {"deviceMode": "RDMA"}}]
    assert described(networks, parameters) == {
        "rdma-0": {"type": "Device", "deviceMode": "RDMA", "rdma": True},
        "blue": {"type": "L3"},
    }


# -- what cannot be read --------------------------------------------------------------------


def definition(config: Any) -> dict[str, Any]:
    meta = {"name": "poison", "namespace": "somebody"}
    return {"metadata": meta, "spec": {} if config is None else {"config": config}}


POISON = [
    "{",
    "null",
    "[]",
    '"x"',
    "7",
    " ",
    "{}",
    '{"plugins": ["a"]}',
    '{"plugins": {"type": "a"}}',
    '{"plugins": []}',
    '{"plugins": [{"type": "macvlan"}, null]}',
    '{"plugins": [{}]}',
    '{"type": 7}',
    '{"type": "x", "ipam": "dhcp"}',
    '{"type": "x", "ipam": [{"type": "static"}]}',
    '{"type": "x", "ipam": {"type": {}}}',
    '{"type": "x", "cniVersion": 1.0}',
    '{"type": "x", "mode": "\\ud800"}',
    "[" * 100_000,
    {"type": "macvlan"},
]


@pytest.mark.parametrize("config", POISON, ids=range(len(POISON)))
def test_a_poisoned_definition_is_named_and_the_rest_is_read(config: Any) -> None:
    sane = {
        "metadata": {"name": "n", "namespace": "x"},
        "spec": {"config": '{"plugins": [{"type": "macvlan", "ipam": {"type": "static"}}]}'},
    }
    left_out: list[str] = []
    found = sift("Definition", [definition(config), sane], why_not_definition, left_out)
    assert found == [sane]
    assert left_out[0].startswith("Definition somebody/poison: ")
    published = Published(definitions=found, nodes=NODES, left_out=left_out)
    assert [one.name for one in choose(published, "", ADDRESSES, 3).networks] == ["x/n"]
    with pytest.raises(HarnessError, match="cannot be used"):
        choose(published, "nad:somebody/poison", ADDRESSES, 3)
    # Nobody who reads it all the same is harmed.
    assert AttachedNetwork(definition(config), ADDRESSES).name == "somebody/poison"


@pytest.mark.parametrize("config", [None, "", '{"type": "x", "plugins": null, "ipam": null}'])
def test_a_definition_may_leave_things_out(config: Any) -> None:
    assert why_not_definition(definition(config)) == ""


SLICES: list[Any] = [
    {},
    {"spec": None},
    {"spec": {"pool": {"name": "p"}}},
    {"spec": {"driver": "d"}},
    {"spec": {"driver": "d", "pool": {}}},
    {"spec": {"driver": "d", "pool": "p"}},
    {"spec": {"driver": "d", "pool": {"name": "p", "generation": "x"}}},
    {"spec": {"driver": "d", "pool": {"name": "p"}, "devices": {"a": 1}}},
    {"spec": {"driver": "d", "pool": {"name": "p"}, "devices": [{}]}},
    {"spec": {"driver": "d", "pool": {"name": "p"}, "devices": [None]}},
    {"spec": {"driver": "d", "pool": {"name": "p"}, "devices": [{"name": "a", "attributes": [1]}]}},
    {
        "spec": {
            "driver": "d",
            "pool": {"name": "p"},
            "devices": [{"name": "a", "attributes": {"x": 1}}],
        }
    },
]


@pytest.mark.parametrize("one", SLICES, ids=range(len(SLICES)))
def test_slices_that_lack_something_are_named(one: Any) -> None:
    left_out: list[str] = []
    poison = {"metadata": {"name": "bad"}, **one}
    found = sift("ResourceSlice", [poison, *TWO], why_not_slice, left_out)
    assert found == TWO
    assert left_out[0].startswith("ResourceSlice bad: ")


@pytest.mark.parametrize(
    "expression",
    [
        "",
        'device.driver == "dra.net" &&',
        'device.driver == "dra.net',
        '(device.driver == "dra.net"',
        'device.driver == "dra.net")',
        '|| device.driver == "dra.net"',
    ],
)
def test_an_expression_that_is_none_is_passed_over(expression: str) -> None:
    assert not_cel(expression)
    broken = {
        "metadata": {"name": "a"},
        "spec": {"selectors": [{"cel": {"expression": expression}}]},
    }
    assert why_not_class(broken)
    assert class_for("dra.net", [broken]) == ""


@pytest.mark.parametrize(
    "expression",
    [
        'device.driver == "dra.net" && device.attributes["dra.net"].ifName.matches("^net[0-9]+$")',
        "!(device.driver != 'dra.net') // it's ours (",
        'device.driver == "dra.net" ? true : false',
    ],
)
def test_what_may_be_an_expression_is_let_be(expression: str) -> None:
    assert not_cel(expression) == ""


@pytest.mark.parametrize(
    "spec", [{"selectors": [None]}, {"selectors": 7}, {"selectors": [{"cel": {}}]}]
)
def test_a_class_of_no_known_form_is_passed_over(spec: Any) -> None:
    one = {"metadata": {"name": "a"}, "spec": spec}
    if spec != {"selectors": [{"cel": {}}]}:
        assert why_not_class(one)
    assert class_for("dra.net", [one]) == ""


def test_a_class_that_reads_what_no_device_has_is_left_out() -> None:
    reads = 'device.driver == "dra.net" && device.attributes["dra.net"].nosuch == "x"'
    asks = f'"nosuch" in device.attributes["dra.net"] && {reads}'
    devices = [device("net1")]
    assert unpublished(reads, "dra.net", devices) == "nosuch"
    assert unpublished(asks, "dra.net", devices) == ""
    assert unpublished(reads.replace("nosuch", "ifName"), "dra.net", devices) == ""
    assert unpublished(reads.replace("nosuch", "ifName"), "dra.net", [{"name": "x"}]) == "ifName"
    classes = [
        {"metadata": {"name": name}, "spec": {"selectors": [{"cel": {"expression": text}}]}}
        for name, text in (("poison", reads), ("guarded", asks))
    ]
    left_out: list[str] = []
    assert sift_classes(classes, TWO, left_out) == classes[1:]
    assert left_out[0].startswith("DeviceClass poison: ")
