"""Finding networks in what clusters publish; the slices are DRANET's own, as recorded."""

import copy
import json
from pathlib import Path
from typing import Any, cast

import pytest

from kar_checks.checks.throughput import trial as throughput
from kar_checks.checks.throughput.observation import Unmeasured
from kar_checks.cluster.errors import HarnessError
from kar_checks.kit.networks.attach import Addresses, PodNetwork, choose_addresses
from kar_checks.kit.networks.device_plugin import DevicePluginNetwork
from kar_checks.kit.networks.dra import (
    DraNetwork,
    class_for,
    complete_slices,
    devices_of_nodes,
    interface_of,
    network_drivers,
)
from kar_checks.kit.networks.find import choose
from kar_checks.kit.networks.multus import AttachedNetwork, wants_addresses
from kar_checks.kit.networks.multus import interface_of as attached_interface
from kar_checks.kit.networks.offer import Published

RECORDED = Path(__file__).parent / "recorded"
NONE = Addresses(None)
STATIC = choose_addresses("198.18.4.0/22", "any")


def recorded(name: str) -> Any:
    return json.loads((RECORDED / name).read_text())


def slices() -> list[dict[str, Any]]:
    return cast("list[dict[str, Any]]", recorded("slices.json"))


def node(name: str, **resources: str) -> dict[str, Any]:
    labels = {"kubernetes.io/hostname": name}
    told = {key.replace("__", "/"): value for key, value in resources.items()}
    return {"metadata": {"name": name, "labels": labels}, "status": {"allocatable": told}}


def device_class(name: str, *expressions: str) -> dict[str, Any]:
    selectors = [{"cel": {"expression": one}} for one in expressions]
    return {"metadata": {"name": name}, "spec": {"selectors": selectors}}


def definition(name: str, ipam: dict[str, Any], resource: str = "") -> dict[str, Any]:
    config = {"type": "macvlan", "master": "net1", "ipam": ipam}
    annotations = {"k8s.v1.cni.cncf.io/resourceName": resource} if resource else {}
    return {
        "metadata": {"name": name, "namespace": "infra", "annotations": annotations},
        "spec": {"config": json.dumps(config)},
    }


POD: dict[str, Any] = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}]}}
NODES = [node("kar1"), node("kar2"), node("kar3")]


def test_only_nodes_with_an_interface_to_give_are_capable() -> None:
    # kar3 publishes a PCI function without any interface.
    assert set(devices_of_nodes(slices(), "dra.net", NODES)) == {"kar1", "kar2"}


def test_an_interface_that_is_down_is_none_to_give() -> None:
    found = slices()
    found[0]["spec"]["devices"][0]["attributes"]["dra.net/state"] = {"string": "down"}
    assert set(devices_of_nodes(found, "dra.net", NODES)) == {"kar2"}


def infiniband(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give each device of two nodes what DRANET publishes of InfiniBand without an interface."""
    for one in found[:2]:
        for device in one["spec"]["devices"]:
            if device["attributes"].pop("dra.net/ifName", None):
                device["attributes"]["dra.net/rdmaDevice"] = {"string": "mlx5_0"}
    return found


def test_rdma_devices_are_claimed_without_addresses_where_no_interface_is_offered() -> None:
    found = devices_of_nodes(infiniband(slices()), "dra.net", NODES)
    assert set(found) == {"kar1", "kar2"}
    joined = DraNetwork("dra.net", "nics", STATIC, found).join(POD, 1)
    (request,) = joined.objects[0][1]["spec"]["devices"]["requests"]
    (selector,) = request["exactly"]["selectors"]
    assert selector["cel"]["expression"].startswith('!("ifName" in device.attributes["dra.net"])')
    assert "config" not in joined.objects[0][1]["spec"]["devices"]
    assert joined.address == ""


def test_throughput_by_iperf3_needs_an_interface() -> None:
    found = devices_of_nodes(infiniband(slices()), "dra.net", NODES)
    network = DraNetwork("dra.net", "nics", STATIC, found)
    nothing: Any = None
    reached = throughput._reachable(nothing, nothing, network, nothing, 0)
    assert isinstance(reached, Unmeasured)
    assert reached.word == "no_ip_interface"


def test_interfaces_come_before_rdma_devices_without_one() -> None:
    found = [*infiniband(slices())[:1], *slices()[1:]]
    assert set(devices_of_nodes(found, "dra.net", NODES)) == {"kar2"}


@pytest.mark.parametrize(
    ("where", "capable"),
    [
        ({"allNodes": True}, {"kar1", "kar2", "kar3"}),
        (
            {
                "nodeSelector": {
                    "nodeSelectorTerms": [
                        {
                            "matchExpressions": [
                                {
                                    "key": "kubernetes.io/hostname",
                                    "operator": "In",
                                    "values": ["kar3"],
                                }
                            ]
                        }
                    ]
                }
            },
            {"kar3"},
        ),
        ({"nodeSelector": {"nodeSelectorTerms": [{}]}}, set()),
        ({}, set()),
    ],
)
def test_slices_reach_nodes_in_several_ways(where: dict[str, Any], capable: set[str]) -> None:
    one = slices()[0]
    del one["spec"]["nodeName"]
    one["spec"] |= where
    assert set(devices_of_nodes([one], "dra.net", NODES)) == capable


def test_a_device_may_have_a_node_of_its_own() -> None:
    one = slices()[0]
    del one["spec"]["nodeName"]
    one["spec"]["perDeviceNodeSelection"] = True
    one["spec"]["devices"][0]["nodeName"] = "kar2"
    assert set(devices_of_nodes([one], "dra.net", NODES)) == {"kar2"}


def test_old_generations_and_incomplete_pools_are_left_out() -> None:
    old = slices()[0]
    new = copy.deepcopy(old)
    new["spec"]["pool"]["generation"] = 2
    assert complete_slices([old, new]) == [new]
    new["spec"]["pool"]["resourceSliceCount"] = 2
    assert complete_slices([old, new]) == []


def test_drivers_are_found_by_what_they_publish_and_by_their_classes() -> None:
    gpu = {"spec": {"driver": "gpu.example.com", "pool": {"name": "x"}, "devices": [{"name": "g"}]}}
    fabric = copy.deepcopy(gpu)
    fabric["spec"] |= {
        "driver": "fabric.example.com",
        "devices": [{"name": "f", "attributes": {"fabric.example.com/ifName": {"string": "f0"}}}],
    }
    assert network_drivers([gpu, fabric, *slices()], []) == ["fabric.example.com", "dra.net"]
    assert network_drivers([gpu], [device_class("n", 'device.driver == "dra.net"')]) == ["dra.net"]
    assert network_drivers([gpu], []) == []


def test_the_least_demanding_class_of_a_driver_is_taken() -> None:
    classes = [
        device_class("rdma", "device.driver == 'dra.net'", 'device.attributes["dra.net"].rdma'),
        device_class("any", "device.driver == 'dra.net'"),
        device_class("other", 'device.driver == "dra.network"'),
    ]
    assert class_for("dra.net", classes) == "any"
    assert class_for("dra.network", classes) == "other"
    assert class_for("dra", classes) == ""


def test_dra_comes_first_then_definitions_that_steer_then_the_rest() -> None:
    published = Published(
        slices=slices(),
        definitions=[
            definition("plain", {"type": "whereabouts"}),
            definition("fast", {"type": "whereabouts"}, "intel.com/sriov_a"),
        ],
        nodes=[node("kar1", intel__com_x="1", rdma__hca="4"), *NODES[1:]],
    )
    found = choose(published, "", NONE, most=3)
    assert [one.name for one in found.networks] == ["dra.net", "infra/fast", "infra/plain"]
    assert found.more == ["rdma/hca"]
    (named,) = choose(published, "resource:rdma/hca", NONE, most=3).networks
    assert isinstance(named, DevicePluginNetwork)


def test_a_resource_of_a_definition_is_no_network_of_its_own() -> None:
    published = Published(
        definitions=[definition("fast", {}, "rdma/hca")], nodes=[node("kar1", rdma__hca="4")]
    )
    assert [one.name for one in choose(published, "", NONE, most=9).networks] == ["infra/fast"]


def test_the_user_may_declare_that_there_is_none() -> None:
    assert choose(Published(slices=slices()), "none", NONE, most=3).declared_none


@pytest.mark.parametrize("wanted", ["dra:other.net", "nad:a/b", "eth1"])
def test_a_network_that_does_not_exist_is_an_error(wanted: str) -> None:
    with pytest.raises(HarnessError, match=r"networking\.network"):
        choose(Published(slices=slices()), wanted, NONE, most=3)


# -- attaching ------------------------------------------------------------------------------


def test_the_pod_network_needs_nothing() -> None:
    joined = PodNetwork().join(POD, 1)
    assert joined.pod == POD
    assert joined.objects == []


def test_a_claim_asks_for_an_interface_with_an_address_of_ours() -> None:
    joined = DraNetwork("dra.net", "any", STATIC).join(POD, 2)
    assert joined.pod["spec"]["resourceClaims"] == [{"name": "nic", "resourceClaimName": "p-nic"}]
    assert joined.pod["spec"]["containers"][0]["resources"] == {"claims": [{"name": "nic"}]}
    ((_, claim),) = joined.objects
    devices = claim["spec"]["devices"]
    request = devices["requests"][0]["exactly"]
    assert request["deviceClassName"] == "any"
    assert '"ifName" in' in request["selectors"][0]["cel"]["expression"]
    opaque = devices["config"][0]["opaque"]
    assert opaque["parameters"] == {"interface": {"addresses": ["198.18.4.2/22"]}}
    assert POD["spec"] == {"containers": [{"name": "c"}]}


def test_a_claim_keeps_the_addresses_that_the_interface_has() -> None:
    """DRANET takes its routes along, and they need the addresses that they come from."""
    devices = devices_of_nodes(slices(), "dra.net", NODES)
    network = DraNetwork("dra.net", "any", STATIC, devices)
    ((_, claim),) = network.join(POD, 2).objects
    request = claim["spec"]["devices"]["requests"][0]["exactly"]
    assert request["selectors"][0]["cel"]["expression"].endswith('.mac == "66:d0:38:ac:19:17"')
    opaque = claim["spec"]["devices"]["config"][0]["opaque"]["parameters"]
    assert opaque["interface"]["addresses"] == ["198.18.4.2/22", "10.227.0.12/24"]
    ((_, third),) = network.join(POD, 3).objects
    assert "mac" not in str(third)


def test_a_driver_whose_configuration_we_do_not_know_gets_none() -> None:
    ((_, claim),) = DraNetwork("fabric.example.com", "f", STATIC).join(POD, 1).objects
    assert "config" not in claim["spec"]["devices"]
    assert "selectors" not in claim["spec"]["devices"]["requests"][0]["exactly"]


def test_an_annotation_brings_addresses_where_the_definition_wants_them() -> None:
    static = AttachedNetwork(definition("n", {"type": "static"}), STATIC).join(POD, 1).pod
    (selection,) = json.loads(static["metadata"]["annotations"]["k8s.v1.cni.cncf.io/networks"])
    assert selection == {"name": "n", "namespace": "infra", "ips": ["198.18.4.1/22"]}
    own = AttachedNetwork(definition("n", {"type": "whereabouts"}), STATIC).join(POD, 1).pod
    (selection,) = json.loads(own["metadata"]["annotations"]["k8s.v1.cni.cncf.io/networks"])
    assert "ips" not in selection


def test_a_definition_with_a_resource_asks_for_it() -> None:
    pod = AttachedNetwork(definition("n", {}, "intel.com/a"), NONE).join(POD, 1).pod
    wanted = {"requests": {"intel.com/a": "1"}, "limits": {"intel.com/a": "1"}}
    assert pod["spec"]["containers"][0]["resources"] == wanted


def test_a_definition_that_is_no_json_wants_no_addresses() -> None:
    assert not wants_addresses({"spec": {"config": "?"}})
    assert not wants_addresses({"spec": {"config": '{"ipam": {"type": "dhcp"}}'}})
    assert wants_addresses({"spec": {"config": '{"plugins": [{"ipam": {"type": "static"}}]}'}})


def test_own_addresses_depend_on_the_run_and_stay_in_the_reserved_network() -> None:
    one, other = choose_addresses("", "run-a"), choose_addresses("", "run-b")
    assert one != other
    assert one.of(1).startswith(("198.18.", "198.19."))
    assert one.of(1).endswith("/22")
    assert choose_addresses("keep", "any").of(1) == ""
    with pytest.raises(ValueError, match="no address number 1023"):
        one.of(1023)
    with pytest.raises(ValueError, match="not-a-network"):
        choose_addresses("not-a-network", "any")


def test_the_claim_tells_the_interface() -> None:
    data = {
        "interfaceName": "net1",
        "ips": ["198.18.4.1/22"],
        "hardwareAddress": "AA:00:00:00:00:01",
    }
    found = interface_of({"status": {"devices": [{}, {"networkData": data}]}})
    assert found is not None
    assert (found.name, found.addresses, found.mac) == (
        "net1",
        ["198.18.4.1"],
        "aa:00:00:00:00:01",
    )
    assert interface_of({"status": {"devices": [{"networkData": {}}]}}) is None


def test_the_annotation_tells_the_interface() -> None:
    told = [
        {"name": "kar", "interface": "eth0", "ips": ["10.0.0.1"], "default": True},
        {"name": "infra/n", "interface": "net1", "ips": ["198.18.4.1"], "mac": "AA:00:00:00:00:01"},
    ]
    for key in ("network-status", "networks-status"):
        pod = {"metadata": {"annotations": {f"k8s.v1.cni.cncf.io/{key}": json.dumps(told)}}}
        found = attached_interface(pod, "infra/n")
        assert found is not None
        assert (found.name, found.addresses) == ("net1", ["198.18.4.1"])
        assert attached_interface(pod, "kar") is None
    broken = {"metadata": {"annotations": {"k8s.v1.cni.cncf.io/network-status": "?"}}}
    assert attached_interface(broken, "infra/n") is None
