"""Multus: further interfaces for pods, made by CNI plugins that a pod's annotation names."""

from localcluster.addons.model import Addon, AddonImage, Manifest, NodeFile, Objects, Rollout
from localcluster.gobuild import GoBuild
from localcluster.images import ImageConfig

_MODULE, _VERSION = "gopkg.in/k8snetworkplumbingwg/multus-cni.v4", "v4.3.0"

# On the nodes that have the second network. The addresses come from the pod's annotation: a plugin
# that hands them out per node would give the same one twice.
_NETWORK = """
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata: {name: net1, namespace: default}
spec:
  config: |
    {
      "cniVersion": "1.0.0",
      "name": "net1",
      "type": "macvlan",
      "master": "net1",
      "mode": "bridge",
      "capabilities": {"ips": true},
      "ipam": {"type": "static"}
    }
"""

MULTUS = Addon(
    name="multus",
    idle_cpu_seconds=None,
    builds=(
        GoBuild(
            name="multus",
            module=_MODULE,
            version=_VERSION,
            packages=(
                f"{_MODULE}/cmd/multus",
                f"{_MODULE}/cmd/install_multus",
                f"{_MODULE}/cmd/passthru-cni",
                f"{_MODULE}/cmd/thin_entrypoint",
            ),
        ),
    ),
    images=(
        AddonImage(
            name="ghcr.io/k8snetworkplumbingwg/multus-cni:snapshot",
            programs={
                "/thin_entrypoint": "thin_entrypoint",
                "/install_multus": "install_multus",
                "/usr/src/multus-cni/bin/multus": "multus",
                "/usr/src/multus-cni/bin/passthru": "passthru-cni",
            },
            config=ImageConfig(entrypoint=["/thin_entrypoint"], user="0"),
        ),
    ),
    installs=(
        Manifest(
            path="deployments/multus-daemonset.yml",
            module=_MODULE,
            version=_VERSION,
            substitutions={r'cpu: "100m"': "cpu: 10m"},
        ),
        Objects(_NETWORK),
    ),
    ready=(
        Rollout("kube-system", "daemonset/kube-multus-ds"),
        # It writes this some seconds after its pod is Ready; before, pods pass it by.
        NodeFile("/etc/cni/net.d/00-multus.conflist"),
    ),
)
