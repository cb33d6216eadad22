"""Links, bridges and network namespaces of the cluster."""

import ipaddress
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from localcluster.errors import ClusterError
from localcluster.layout import (
    BRIDGE,
    CARRIER,
    CARRIER_PEER,
    MACHINE_ADDRESS,
    NETWORKS,
    NODES,
    SECOND_BRIDGE,
    SERVICE_NETWORK,
    NodeLayout,
)
from localcluster.shell import run

NAMESPACES = Path("/run/netns")


def _batch(commands: Sequence[str], namespace: str | None = None) -> None:
    """Run many `ip` commands in one go."""
    inside = ["-n", namespace] if namespace else []
    run(["ip", *inside, "-batch", "-"], stdin="\n".join(commands) + "\n")


def refuse_overlap() -> None:
    """Raise when the machine already routes one of the cluster's address ranges elsewhere."""
    ours = [ipaddress.ip_network(network) for network in NETWORKS]
    for route in json.loads(run(["ip", "-j", "-4", "route"]).stdout or "[]"):
        target = str(route["dst"])
        if target == "default":
            continue
        other = ipaddress.ip_network(target, strict=False)
        taken = next((network for network in ours if network.overlaps(other)), None)
        if taken:
            raise ClusterError(
                f"the cluster needs {taken}, but this machine has a route to {other} "
                f"by {route.get('dev')}"
            )


def create() -> None:
    """Connect the machine and the nodes."""
    _batch(
        [
            f"link add {BRIDGE} type bridge",
            f"addr add {MACHINE_ADDRESS}/24 dev {BRIDGE}",
            f"link set {BRIDGE} up",
            f"link add {SECOND_BRIDGE} type bridge",
            f"link add {CARRIER} type veth peer name {CARRIER_PEER}",
            f"link set {CARRIER} master {SECOND_BRIDGE}",
            *(f"link set {link} up" for link in (CARRIER, CARRIER_PEER, SECOND_BRIDGE)),
        ]
    )
    for node in NODES:
        _create_node(node)
    _batch(
        [
            *(f"route add {node.pod_network} via {node.address}" for node in NODES),
            # The machine has no service proxy of its own; a node's serves for it.
            f"route add {SERVICE_NETWORK} via {NODES[0].address}",
        ]
    )


def _create_node(node: NodeLayout) -> None:
    run(["ip", "netns", "add", node.name])
    outside = [
        f"link add {node.link} type veth peer name eth0 netns {node.name}",
        f"link set {node.link} master {BRIDGE} up",
    ]
    inside = [
        "link set lo up",
        f"addr add {node.address}/24 dev eth0",
        "link set eth0 up",
        f"route add default via {MACHINE_ADDRESS}",
        *(f"route add {other.pod_network} via {other.address}" for other in NODES if other != node),
    ]
    if node.second_network:
        outside += [
            f"link add link {SECOND_BRIDGE} name {node.second_link} type macvlan mode bridge",
            f"link set {node.second_link} netns {node.name} name net1",
        ]
        inside += [f"addr add {node.second_address}/24 dev net1", "link set net1 up"]
    _batch(outside)
    _batch(inside, node.name)
    forwarding = "/proc/sys/net/ipv4/ip_forward"
    run(["nsenter", f"--net={NAMESPACES / node.name}", "sh", "-c", f"echo 1 > {forwarding}"])


def remains() -> list[str]:
    """The links and namespaces with the cluster's names that exist on the machine."""
    return [*_links(), *_namespaces()]


def _links() -> list[str]:
    names = [BRIDGE, SECOND_BRIDGE, CARRIER, CARRIER_PEER]
    names += [name for node in NODES for name in (node.link, node.second_link)]
    return [name for name in names if Path("/sys/class/net", name).exists()]


def _namespaces() -> list[str]:
    return [node.name for node in NODES if (NAMESPACES / node.name).exists()]


def remove() -> None:
    """Remove every link and namespace of ours, however far their creation came."""
    for name in _namespaces():
        run(["ip", "netns", "delete", name], check=False)
    for name in _links():
        # One end of a pair takes the other with it, so a failure is no news.
        run(["ip", "link", "delete", name], check=False)
    if NAMESPACES.is_dir() and not any(NAMESPACES.iterdir()):
        # `ip` makes this folder a mount of itself for the first namespace and leaves it so.
        while run(["umount", NAMESPACES], check=False).returncode == 0:
            continue
        with suppress(OSError):
            NAMESPACES.rmdir()
