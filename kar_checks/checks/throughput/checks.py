"""The checks of throughput and latency, as data."""

from __future__ import annotations

from kar_checks.kit.option import Option
from kar_checks.kit.topic import Check, Needs, Right, Topic

_DRA, _CNI = "resource.k8s.io", "k8s.cni.cncf.io"
_NEEDS = Needs(
    rights=(
        Right(("create", "get", "list", "watch", "delete"), "", "pods"),
        Right(("get",), "", "pods/log"),
        Right(("create", "get", "delete"), "", "configmaps"),
        Right(("create", "get", "watch", "delete"), "batch", "jobs"),
        Right(("list",), "", "events"),
        # The two nodes, their zones and their types are facts of every figure.
        Right(("list",), "", "nodes", cluster=True),
        # Secondary networks, found as the topic networking does; without these none is measured.
        Right(("create", "get", "watch", "delete"), _DRA, "resourceclaims", optional=True),
        Right(("list",), _DRA, "resourceslices", cluster=True, optional=True),
        Right(
            ("list", "create", "get", "delete"), _DRA, "deviceclasses", cluster=True, optional=True
        ),
        Right(("list",), _CNI, "network-attachment-definitions", cluster=True, optional=True),
        Right(("list",), _DRA, "resourceclaims", cluster=True, optional=True),
        Right(("list",), "", "pods", cluster=True, optional=True),
        Right(("list",), _DRA, "devicetaintrules", cluster=True, optional=True),
        # To see which nodes have a network that tells the scheduler nothing.
        Right(("create", "get"), "", "pods/exec", optional=True),
    ),
)
_TWO_NODES = Needs(nodes=2, images=("net",))

TOPIC = Topic(
    id="throughput",
    title="Throughput and latency between pods",
    label="beyond the programme: a profile decides",
    official_link="https://kubernetes.io/docs/concepts/cluster-administration/networking/",
    trial="kar_checks.checks.throughput.trial:run",
    judge="kar_checks.checks.throughput.judge:judge",
    observation="kar_checks.checks.throughput.observation:ThroughputObservation",
    tests="kar_checks.checks.throughput.test_throughput",
    manifests="kar_checks.checks.throughput.crew:manifests",
    estimate="kar_checks.checks.throughput.agenda:cost",
    common_needs=Needs(rights=_NEEDS.rights, images=()),
    options=(
        Option(
            "--max-bytes",
            "The most that throughput sends through each network.",
            float,
            metavar="BYTES",
            key="throughput.max_bytes",
        ),
    ),
    checks=(
        Check(
            id="throughput.tcp",
            title="TCP throughput between two nodes meets the profile's floor",
            proves="iperf3 between pods on two nodes, repeated in random order in both directions, "
            "gives a stable median whose 95 % interval is above the profile's floor; without a "
            "floor it proves only that the measurement is valid. One and eight streams, both "
            "directions at once and two pods of one node are recorded as well.",
            fails_when="The lower bound of the median's interval is below the profile's floor, and "
            "neither the sender's CPU nor a limit on the bytes explains it.",
            budget_seconds=300,
            needs=_TWO_NODES,
            disruption="network",
        ),
        Check(
            id="throughput.udp",
            title="UDP loss between two nodes stays below the profile's ceiling",
            proves="At a rate that every link carries with ease, the share of lost packets and its "
            "exact 95 % interval stay below the profile's ceiling.",
            fails_when="The loss is above the profile's ceiling, and a full buffer of the "
            "receiving pod does not explain it. A loss below the ceiling whose upper bound is "
            "above it is inconclusive.",
            budget_seconds=120,
            needs=_TWO_NODES,
            disruption="network",
        ),
        Check(
            id="throughput.latency",
            title="Latency between two nodes stays below the profile's ceiling",
            proves="Thousands of small requests over one connection, each after the answer to the "
            "one before, with every sample kept: p50, p90, p99 and p99.9 with their counts.",
            fails_when="The upper bound of p99 is above the profile's ceiling.",
            budget_seconds=120,
            needs=_TWO_NODES,
        ),
        Check(
            id="throughput.path_mtu",
            title="Packets as large as the MTU pass between two nodes",
            proves="Both pods have the same MTU, and a datagram of that size with the "
            "don't-fragment bit arrives in both directions, as a small one does.",
            fails_when="The MTUs differ, or the large datagram is lost while the small one "
            "arrives.",
            budget_seconds=60,
            needs=_TWO_NODES,
        ),
        Check(
            id="throughput.mesh",
            title="No node is slower than the others",
            proves="Pairs of nodes are measured in the rounds of a tournament, in which no node "
            "takes part twice; nodes far below the median are named by a robust method.",
            fails_when="A node stays below the share of the median node that the profile demands.",
            budget_seconds=600,
            needs=_TWO_NODES,
            disruption="network",
        ),
    ),
)
