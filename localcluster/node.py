"""A node: a network namespace, a mount namespace, a control group and their configuration.

Inside the mount namespace a node's own folders are on the standard paths, so that unmodified
daemons find every socket where they expect it. None of them is mounted on a folder of the machine:
Linux silently detaches a mount in every namespace when somebody removes the folder below it.
"""

import json
import shlex
from pathlib import Path
from typing import Any

import yaml

from localcluster.images import PAUSE
from localcluster.layout import DNS_ADDRESS, DNS_DOMAIN, POD_NETWORK, NodeLayout
from localcluster.network import NAMESPACES
from localcluster.paths import PKI, STATE, cache, node_folder, private_file, private_folder
from localcluster.pki import kubeconfig_of
from localcluster.resources import EVICTION_MEMORY_MIB, Share

STANDARD_PATHS = (
    "/etc/cni/net.d",
    "/opt/cni/bin",
    "/run/cdi",
    "/run/containerd",
    "/run/dranet",
    "/run/netns",
    "/run/nri",
    "/var/lib/cni",
    "/var/lib/containerd",
    "/var/lib/kubelet",
    "/var/log/containers",
    "/var/log/pods",
)
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"

#: What every node has of its own, empty at first: daemons of Kubernetes make folders there.
COVERED = (Path("/opt"), Path("/run"), Path("/var/lib"), Path("/var/log"))

# Restricting the score: runc must not ask for what a root without CAP_SYS_RESOURCE lacks.
# The registry: there is none, and asking must fail at once instead of after minutes.
# Statistics: by default every container is asked each second, for figures that nobody here reads
# (the kubelet has its own).
_CONTAINERD = """\
version = 3

[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{pause}"

[plugins."io.containerd.cri.v1.images".registry]
  config_path = "{folder}/registries"

[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  stats_collect_period = "30s"

[plugins."io.containerd.cri.v1.runtime".cni]
  bin_dirs = ["/opt/cni/bin", "/usr/lib/cni"]
  conf_dir = "/etc/cni/net.d"
"""
_NO_REGISTRY = 'server = "http://127.0.0.1:1"\n'


def prepare(node: NodeLayout, share: Share) -> None:
    """Write a node's folders and configuration."""
    root = private_folder(node_folder(node.name))
    _cover(node).mkdir(exist_ok=True)
    for path in STANDARD_PATHS:
        (root / path.lstrip("/")).mkdir(parents=True, exist_ok=True)
    registries = root / "registries" / "_default"
    registries.mkdir(parents=True, exist_ok=True)
    private_file(registries / "hosts.toml", _NO_REGISTRY)
    private_file(root / "containerd.toml", _CONTAINERD.format(pause=PAUSE, folder=root))
    private_file(root / "kubelet.yaml", yaml.safe_dump(kubelet_configuration(node, share)))
    private_file(root / "kube-proxy.yaml", yaml.safe_dump(proxy_configuration(node)))
    private_file(root / "etc/cni/net.d/50-kar.conflist", json.dumps(cni_configuration(node)))


def holder_argv(node: NodeLayout, pause: Path) -> list[str]:
    """The words that make a node's mount namespace and stay in it."""
    return [
        "nsenter", f"--net={NAMESPACES / node.name}",
        "unshare", "--mount", "--propagation", "private",
        "sh", "-c", namespace_script(node), "sh", str(pause),
    ]  # fmt: skip


def _cover(node: NodeLayout) -> Path:
    """Where a node's new file systems are filled before they are moved into place."""
    return node_folder(node.name) / "cover"


def namespace_script(node: NodeLayout) -> str:
    """The shell script that completes a node's mount namespace and becomes its argument.

    Of /etc the node gets a copy without /etc/cni, since it needs most of the rest; of the other
    covered folders only what the cluster itself keeps there: its state and its programs. `-n`:
    `mount` would note its mounts in the /run that is being covered, and fail.
    """
    cover = shlex.quote(str(_cover(node)))
    new = f"mount -n -t tmpfs -o mode=755 kar-{node.name} {cover}"
    lines = [
        "set -e",
        new,
        # What cannot be copied belongs to something else that runs on the machine.
        f"cp -a /etc/. {cover} || true",
        f"rm -rf {cover}/cni {cover}/resolv.conf",
        # Often a link into /run, which the node does not have; containerd wants to copy it.
        f"cat /etc/resolv.conf > {cover}/resolv.conf || true",
        f"mount -n --move {cover} /etc",
    ]
    for covered in COVERED:
        lines.append(new)
        for kept in (STATE, cache()):
            if kept.is_relative_to(covered):
                inside = shlex.quote(str(_cover(node) / kept.relative_to(covered)))
                lines += [
                    f"mkdir -p {inside}",
                    f"mount -n --bind {shlex.quote(str(kept))} {inside}",
                ]
        lines.append(f"mount -n --move {cover} {covered}")
    for path in STANDARD_PATHS:
        own = shlex.quote(f"{node_folder(node.name)}{path}")
        lines += [f"mkdir -p {path}", f"mount -n --bind {own} {path}"]
    return "\n".join([*lines, "mount -n --make-rshared /", 'exec "$@"'])


def enter_argv(holder_pid: int) -> list[str]:
    """The words before a command that shall run inside a node.

    `ip netns exec` would mount /sys anew and hide the control groups.
    """
    return ["nsenter", f"--target={holder_pid}", "--mount", "--net", "--"]


def kubelet_configuration(node: NodeLayout, share: Share) -> dict[str, Any]:
    """The kubelet's configuration file."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": node.address,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{PKI}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{PKI}/kubelet-{node.name}.crt",
        "tlsPrivateKeyFile": f"{PKI}/kubelet-{node.name}.key",
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "clusterDNS": [DNS_ADDRESS],
        "clusterDomain": DNS_DOMAIN,
        # The machine's own resolver is out of the pods' reach.
        "resolvConf": "",
        # The usual place is /usr/libexec, on the machine.
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{node.name}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "systemReserved": {
            "cpu": f"{share.reserved_cpu_millis}m",
            "memory": f"{share.reserved_memory_mib}Mi",
            "ephemeral-storage": f"{share.reserved_storage_mib}Mi",
        },
        # Naming memory alone turns the thresholds on the disk off: it is the user's disk.
        "evictionHard": {"memory.available": f"{EVICTION_MEMORY_MIB}Mi"},
        # An image that is collected can never be pulled again.
        "imageGCHighThresholdPercent": 100,
        "imagePullCredentialsVerificationPolicy": "NeverVerify",
        # Updated Secrets and ConfigMaps reach pods within seconds instead of a minute.
        "syncFrequency": "5s",
        "makeIPTablesUtilChains": False,
        "oomScoreAdj": 0,
    }


def proxy_configuration(node: NodeLayout) -> dict[str, Any]:
    """The service proxy's configuration file."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": str(kubeconfig_of("kube-proxy"))},
        "hostnameOverride": node.name,
        "clusterCIDR": POD_NETWORK,
        "oomScoreAdj": 0,
        # Zero leaves the machine's limits of connection tracking alone; setting them takes
        # rights that root in a container lacks.
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
    }


def cni_configuration(node: NodeLayout) -> dict[str, Any]:
    """The pod network: a routed cable per pod.

    Not a bridge: pods of one node would then answer each other past the address translation of
    Services, unless the kernel has a module for that.
    """
    return {
        "cniVersion": "1.0.0",
        "name": "kar",
        "plugins": [
            {
                "type": "ptp",
                "ipMasq": False,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": node.pod_network}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }
