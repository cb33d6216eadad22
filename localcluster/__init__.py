"""A real Kubernetes cluster of three nodes on one Linux machine.

It is built from Go modules and Debian packages and needs no container engine, no image registry
and no virtual machine. `LocalCluster.load()` gives tests a handle on the running one.
"""

from localcluster.cluster import LocalCluster, Node
from localcluster.errors import ClusterError
from localcluster.images import PROBE_IMAGES

__all__ = ["PROBE_IMAGES", "ClusterError", "LocalCluster", "Node"]
