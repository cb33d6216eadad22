"""The fixed names and addresses of the cluster.

They are fixed so that the remains of a cluster can be recognised on a machine without any record.
"""

from dataclasses import dataclass

DNS_DOMAIN = "cluster.local"

BRIDGE = "karbr0"
SECOND_BRIDGE = "karbr1"
# A bridge without a port has no carrier; this pair keeps the second one up.
CARRIER, CARRIER_PEER = "karcarrier0", "karcarrier1"

MACHINE_ADDRESS = "10.224.0.1"
NODE_NETWORK = "10.224.0.0/24"
POD_NETWORK = "10.225.0.0/16"
SERVICE_NETWORK = "10.226.0.0/16"
SECOND_NETWORK = "10.227.0.0/24"
API_SERVICE_ADDRESS = "10.226.0.1"
DNS_ADDRESS = "10.226.0.10"
NETWORKS = (NODE_NETWORK, POD_NETWORK, SERVICE_NETWORK, SECOND_NETWORK)

API_PORT = 6443
API_URL = f"https://{MACHINE_ADDRESS}:{API_PORT}"
# Not etcd's usual ports, which may well be taken on a machine that runs something else.
ETCD_CLIENT_PORT, ETCD_PEER_PORT = 23790, 23791

CONTROL_PLANE_CGROUP = "kar-control-plane"


@dataclass(frozen=True)
class NodeLayout:
    """One node's names and addresses."""

    number: int
    second_network: bool

    @property
    def name(self) -> str:
        """The node's name, also that of its network namespace and control group."""
        return f"kar{self.number}"

    @property
    def address(self) -> str:
        """The node's address on the network between nodes."""
        return f"10.224.0.{10 + self.number}"

    @property
    def pod_network(self) -> str:
        """The addresses of the node's pods."""
        return f"10.225.{self.number}.0/24"

    @property
    def second_address(self) -> str:
        """The node's address on the second network."""
        return f"10.227.0.{10 + self.number}"

    @property
    def link(self) -> str:
        """The machine's end of the node's cable."""
        return f"karnode{self.number}"

    @property
    def second_link(self) -> str:
        """The name of the node's second interface until it is moved into the node."""
        return f"karnet{self.number}"


# The third node lacks the second network, so that there is a node which cannot serve it.
NODES = (NodeLayout(1, True), NodeLayout(2, True), NodeLayout(3, False))
CGROUPS = (CONTROL_PLANE_CGROUP, *(node.name for node in NODES))
