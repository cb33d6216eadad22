"""The checks of secondary networks, as data: one for each outcome that KAR-10 names."""

from __future__ import annotations

from kar_checks.kit.topic import Check, Needs, Right, Topic

_DRA, _CNI, _GKE = "resource.k8s.io", "k8s.cni.cncf.io", "networking.gke.io"
_NEEDS = Needs(
    rights=(
        Right(("create", "get", "list", "watch", "delete"), "", "pods"),
        Right(("get",), "", "pods/log"),
        Right(("create", "get"), "", "pods/exec"),
        Right(("create", "get", "delete"), "", "configmaps"),
        Right(("list",), "", "events"),
        Right(("create", "get", "watch", "delete"), _DRA, "resourceclaims"),
        # Who holds the devices that pods of ours do not get.
        Right(("list",), _DRA, "resourceclaims", cluster=True, optional=True),
        Right(("list",), "", "pods", cluster=True, optional=True),
        Right(("list",), _DRA, "devicetaintrules", cluster=True, optional=True),
        Right(("list",), _GKE, "networks", cluster=True, optional=True),
        Right(("list",), _GKE, "gkenetworkparamsets", cluster=True, optional=True),
        # What is published about networks concerns the cluster as a whole.
        Right(("list",), _DRA, "resourceslices", cluster=True),
        # A class of ours is made only for a driver that has none.
        Right(("list", "create", "get", "delete"), _DRA, "deviceclasses", cluster=True),
        Right(("list",), _CNI, "network-attachment-definitions", cluster=True),
        Right(("list",), "", "nodes", cluster=True),
    ),
)

TOPIC = Topic(
    id="networking",
    title="Secondary networks for pods",
    label="KAR-10",
    requirement="high_performance_networking",
    any_of=True,
    official_link="https://github.com/kubernetes-sigs/ai-conformance/tree/main/kars/0010-high-performance-pod-to-pod-communication",
    trial="kar_checks.checks.networking.trial:run",
    judge="kar_checks.checks.networking.judge:judge",
    observation="kar_checks.checks.networking.observation:NetworkingObservation",
    tests="kar_checks.checks.networking.test_networking",
    manifests="kar_checks.checks.networking.trial:manifests",
    common_needs=_NEEDS,
    checks=(
        Check(
            id="networking.interface",
            title="A pod gets the interface that the platform reports",
            proves="A pod on the network has an interface that a pod without it lacks, with the "
            "name, hardware address and addresses that the claim's networkData (DRA) or the "
            "network-status annotation (Multus) reports; or an RDMA device that a pod without the "
            "network lacks, if it has no interface.",
            fails_when="The network exists and no pod gets onto it, the interface is missing in "
            "the pod, or it differs from what the platform reports.",
            budget_seconds=120,
            disruption="network",
        ),
        Check(
            id="networking.characteristics",
            title="What is published about the interface is true",
            proves="Type, bandwidth, RDMA, PCI address and NUMA node that the cluster published "
            "before the claim, each by itself, agree with what sysfs in the pod shows.",
            fails_when="Nothing is published, or a published value differs from what the pod sees.",
            budget_seconds=120,
            disruption="network",
        ),
        Check(
            id="networking.placement",
            title="Only nodes that offer the network get pods that ask for it",
            proves="Pods that ask for the network and name no node run on nodes that offer it; "
            "one that is pinned to another node waits there with a reason that names the "
            "mechanism, while the same pod without the network runs on that node.",
            fails_when="A pod that asks for the network is given a node that does not offer it.",
            budget_seconds=120,
            disruption="network",
        ),
        Check(
            id="networking.data_path",
            title="Two pods exchange data over the secondary interface itself",
            proves="Between pods on different nodes bytes go both ways over addresses of the "
            "network and arrive intact. In both pods the byte counters of its interface rise by "
            "them while those of the pod network do not; a transfer over the pod network before "
            "it shows that these counters work. Without an address, the pods' RDMA devices "
            "exchange data by ib_write_bw, and the counters of their ports prove it.",
            fails_when="The bytes do not arrive, or another interface counts them.",
            budget_seconds=120,
            disruption="network",
        ),
    ),
)
