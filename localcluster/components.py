"""How each component of the cluster is called."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from localcluster.layout import (
    API_PORT,
    CONTROL_PLANE_CGROUP,
    DNS_DOMAIN,
    ETCD_CLIENT_PORT,
    ETCD_PEER_PORT,
    MACHINE_ADDRESS,
    SERVICE_NETWORK,
    NodeLayout,
)
from localcluster.paths import LOGS, PKI, STATE, node_folder
from localcluster.pki import kubeconfig_of
from localcluster.settings import Settings


@dataclass(frozen=True)
class Component:
    """A long-running program of the cluster.

    Feature gates are kept apart from the other arguments: the flag may be given only once, or
    its values depend on how a component merges them.
    """

    name: str
    argv: tuple[str, ...]
    node: str | None = None
    feature_gates: Mapping[str, bool] = field(default_factory=dict[str, bool])
    # Servers close their connections within this; nobody has to wait longer for them.
    grace: float = 5.0

    @property
    def log(self) -> Path:
        """The file with everything the component prints."""
        return LOGS / f"{self.name}.log"

    @property
    def cgroup(self) -> str:
        """The control group that the component runs in."""
        return self.node or CONTROL_PLANE_CGROUP


def command_line(
    component: Component, extra_args: Sequence[str], feature_gates: Mapping[str, bool]
) -> list[str]:
    """The component's words, with changes for one start of it."""
    argv = override_flags(component.argv, extra_args)
    gates = {**component.feature_gates, **feature_gates}
    if gates:
        told = ",".join(f"{name}={str(on).lower()}" for name, on in sorted(gates.items()))
        argv.append(f"--feature-gates={told}")
    return argv


def override_flags(argv: Sequence[str], extra: Sequence[str]) -> list[str]:
    """Arguments with further ones, which replace those of the same name.

    Giving a flag twice is no way to change it: some flags collect their values.
    """
    replaced = {word.partition("=")[0] for word in extra if word.startswith("--")}
    kept = [word for word in argv if word.partition("=")[0] not in replaced]
    return [*kept, *extra]


def etcd(binaries: Path) -> Component:
    """The store of all objects."""
    peer = f"https://127.0.0.1:{ETCD_PEER_PORT}"
    client = f"https://127.0.0.1:{ETCD_CLIENT_PORT}"
    return Component(
        "etcd",
        (
            f"{binaries}/etcd",
            "--name=kar",
            f"--data-dir={STATE}/etcd",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=kar={peer}",
            "--peer-auto-tls",
            "--client-cert-auth",
            f"--trusted-ca-file={PKI}/etcd-ca.crt",
            f"--cert-file={PKI}/etcd.crt",
            f"--key-file={PKI}/etcd.key",
            # The store does not outlive the cluster, so a crash of the machine may lose it.
            "--unsafe-no-fsync",
            # There is no other member whose silence it would have to notice.
            "--heartbeat-interval=500",
            "--election-timeout=5000",
        ),
    )


def apiserver(binaries: Path, settings: Settings) -> Component:
    """The API server, on an address that only this machine and its nodes reach."""
    return Component(
        "kube-apiserver",
        (
            f"{binaries}/kube-apiserver",
            f"--bind-address={MACHINE_ADDRESS}",
            f"--advertise-address={MACHINE_ADDRESS}",
            f"--secure-port={API_PORT}",
            f"--etcd-servers=https://127.0.0.1:{ETCD_CLIENT_PORT}",
            f"--etcd-cafile={PKI}/etcd-ca.crt",
            f"--etcd-certfile={PKI}/etcd-client.crt",
            f"--etcd-keyfile={PKI}/etcd-client.key",
            f"--tls-cert-file={PKI}/apiserver.crt",
            f"--tls-private-key-file={PKI}/apiserver.key",
            f"--client-ca-file={PKI}/ca.crt",
            f"--kubelet-certificate-authority={PKI}/ca.crt",
            f"--kubelet-client-certificate={PKI}/kubelet-client.crt",
            f"--kubelet-client-key={PKI}/kubelet-client.key",
            "--kubelet-preferred-address-types=InternalIP",
            f"--requestheader-client-ca-file={PKI}/front-proxy-ca.crt",
            "--requestheader-allowed-names=front-proxy-client",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            f"--proxy-client-cert-file={PKI}/front-proxy.crt",
            f"--proxy-client-key-file={PKI}/front-proxy.key",
            # Webhooks are called at pod addresses; the machine has no service proxy.
            "--enable-aggregator-routing=true",
            f"--service-account-issuer=https://kubernetes.default.svc.{DNS_DOMAIN}",
            f"--service-account-key-file={PKI}/service-accounts.pub",
            f"--service-account-signing-key-file={PKI}/service-accounts.key",
            f"--service-cluster-ip-range={SERVICE_NETWORK}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            f"--runtime-config={settings.runtime_config}",
            # Counting all objects each minute, for metrics that nobody reads.
            "--etcd-count-metric-poll-period=0",
            "--etcd-db-metric-poll-interval=0",
        ),
        feature_gates=settings.feature_gates,
    )


def controller_manager(binaries: Path, settings: Settings) -> Component:
    """The controllers of the built-in kinds."""
    kubeconfig = kubeconfig_of("kube-controller-manager")
    return Component(
        "kube-controller-manager",
        (
            f"{binaries}/kube-controller-manager",
            "--bind-address=127.0.0.1",
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            "--leader-elect=false",
            # The usual limits make it wait for itself for seconds when it starts.
            "--kube-api-qps=200",
            "--kube-api-burst=400",
            "--use-service-account-credentials=true",
            f"--root-ca-file={PKI}/ca.crt",
            f"--service-account-private-key-file={PKI}/service-accounts.key",
            f"--cluster-signing-cert-file={PKI}/ca.crt",
            f"--cluster-signing-key-file={PKI}/ca.key",
            f"--requestheader-client-ca-file={PKI}/front-proxy-ca.crt",
        ),
        feature_gates=settings.feature_gates,
    )


def scheduler(binaries: Path, settings: Settings) -> Component:
    """The scheduler."""
    kubeconfig = kubeconfig_of("kube-scheduler")
    return Component(
        "kube-scheduler",
        (
            f"{binaries}/kube-scheduler",
            "--bind-address=127.0.0.1",
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            "--leader-elect=false",
        ),
        feature_gates=settings.feature_gates,
    )


def containerd(binaries: Path, node: NodeLayout) -> Component:
    """A node's container runtime."""
    return Component(
        f"containerd@{node.name}",
        (f"{binaries}/containerd", f"--config={node_folder(node.name)}/containerd.toml"),
        node=node.name,
    )


def kubelet(binaries: Path, node: NodeLayout, settings: Settings) -> Component:
    """A node's agent."""
    return Component(
        f"kubelet@{node.name}",
        (
            f"{binaries}/kubelet",
            f"--config={node_folder(node.name)}/kubelet.yaml",
            f"--kubeconfig={kubeconfig_of(node.name)}",
            f"--hostname-override={node.name}",
            f"--node-ip={node.address}",
            # Of its statistics of containers; the pods' states come from the runtime.
            "--housekeeping-interval=30s",
        ),
        node=node.name,
        feature_gates=settings.feature_gates,
    )


def kube_proxy(binaries: Path, node: NodeLayout) -> Component:
    """A node's service proxy."""
    return Component(
        f"kube-proxy@{node.name}",
        (f"{binaries}/kube-proxy", f"--config={node_folder(node.name)}/kube-proxy.yaml"),
        node=node.name,
    )


def holder(node: NodeLayout, argv: Sequence[str]) -> Component:
    """The process that keeps a node's mount namespace; everything else of the node enters it."""
    return Component(f"node@{node.name}", tuple(argv), node=node.name)
