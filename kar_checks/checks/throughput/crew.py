"""The pods that measure a network: a conductor, and an agent on each node.

The agents are one Job, so that a large cluster costs no more requests than a small one. On a
secondary network each has a claim or an address of its own, and so they are pods.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kar_checks.cluster import kinds, kueue, pods
from kar_checks.cluster.client import Object
from kar_checks.cluster.errors import HarnessError, classify
from kar_checks.cluster.kinds import Kind
from kar_checks.cluster.target import Target
from kar_checks.kit.networks.attach import Interface, Network, bare
from kar_checks.kit.trial import Trial, manifest
from kar_checks.model import Reason

PROBE = "net_probe"
PORT = 7010
_GROUP = "kar-checks.dev/throughput"
_HOSTNAME = "kubernetes.io/hostname"
_GONE_SECONDS = 30.0
_LOG_PAUSE = 1.0
_FIRST_SECONDS = 10.0
_POLL = 0.3
_HOST_ADVICE = (
    "the nodes' own network needs pods on it: name a --namespace whose Pod Security level is "
    "privileged, or set namespace.pod_security=privileged"
)

Line = dict[str, Any]


@dataclass
class Crew:
    """One network's pods. ``pair`` is the first node and the second, ``nodes`` are all of them."""

    trial: Trial
    group: str
    pair: Sequence[Object]
    nodes: Sequence[Object]
    network: Network | None = None
    """The secondary network that the agents join."""
    numbers: Mapping[str, int] = field(default_factory=dict[str, int])
    """Of each node by name: which device and which address its agent gets."""
    host_network: bool = False
    injected: list[str] = field(default_factory=list[str])
    """Containers that the cluster added to these pods."""
    told: dict[str, Interface] = field(default_factory=dict[str, Interface])
    """By node: what the platform says about the interface of an agent of the pair."""
    _made: list[tuple[Kind, str]] = field(default_factory=list[tuple[Kind, str]])

    def work(self, plan: Line, seconds: float) -> list[Line]:
        """Let the pods work off a plan within ``seconds``; returns what the conductor printed.

        Raises:
            HarnessError: the pods were refused, did not come, or did not end in time.
        """
        trial = self.trial
        plan = {**plan, "wait_seconds": trial.number("pods.start_seconds")}
        probe = trial.mount_probe(PROBE)
        body = _plan(self.group, plan)
        trial.workspace.create(kinds.CONFIG_MAP, body)
        image = trial.workspace.target.image("net")
        conductor = _conductor(self.group, hostname(self.pair[0]), image=image, probe=probe)
        try:
            conductor = trial.wait_pod(self._create(kinds.POD, conductor), pods.ready)
            job = agents(
                self.group,
                [hostname(one) for one in self.nodes],
                str(conductor["status"]["podIP"]),
                image=image,
                probe=probe,
                host_network=self.host_network,
            )
            if self.network:
                self._join(self.network, job)
                made = self._await_agents("")
                self._ask(self.network, made)
            else:
                stored = self._create(kinds.JOB, job)
                if not kueue.queue_of(stored) and (error := kueue.holds_job(stored)):
                    raise error
                made = self._await_agents(str(stored["metadata"]["uid"]), held=suspended(stored))
            self.injected = _injected([conductor, *made])
            return self._results(conductor, seconds)
        finally:
            self._leave()

    def _create(self, kind: Kind, body: Object) -> Object:
        stored = self.trial.workspace.create(kind, body)
        self._made.append((kind, str(stored["metadata"]["name"])))
        return stored

    def _join(self, network: Network, job: Object) -> None:
        """Start the agents as pods on a secondary network."""
        network.prepare(self.trial)
        for node in self.nodes:
            number = self.numbers[str(node["metadata"]["name"])]
            joined = network.join(agent(job, number, hostname(node)), number)
            for one in joined.pod["spec"]["containers"][0]["env"]:
                if one["name"] == "KAR_MEASURE":
                    one["value"] = bare(joined.address) or "other"
            for kind, body in joined.objects:
                self._create(kind, body)
            self._create(kinds.POD, joined.pod)

    def _ask(self, network: Network, made: Sequence[Object]) -> None:
        pair = [str(one["metadata"]["name"]) for one in self.pair]
        for pod in made:
            node = str(pod["spec"]["nodeName"])
            found = network.interface(self.trial, pod) if node in pair else None
            if found:
                self.told[node] = found

    def _results(self, conductor: Object, seconds: float) -> list[Line]:
        """Return what the conductor printed when it is done.

        It says so by not being Ready any more, and stays: a kubelet that is short of disk removes
        containers that have ended, with their logs. A Ready that was only late is waited out.
        """
        trial = self.trial
        deadline = time.monotonic() + seconds
        trial.wait_pod(conductor, lambda pod: not pods.ready(pod), seconds=seconds)
        while True:
            lines = trial.log_lines(str(conductor["metadata"]["name"]))
            if any(one.get("event") == "end" for one in lines):
                return lines
            if trial.cluster.stopping.wait(_LOG_PAUSE):
                raise HarnessError(Reason.INTERRUPTED, "the conductor: interrupted")
            if time.monotonic() > deadline:
                raise HarnessError(
                    Reason.TIMEOUT,
                    f"the conductor was not done within {seconds:.0f} s; its log has "
                    f"{len(lines)} lines",
                    "measure less (throughput.cells, throughput.seconds), or raise the budget",
                )

    def _await_agents(self, job: str, *, held: bool = False) -> list[Object]:
        """Wait until all agents run, and return them; one that can never start ends it at once.

        ``job`` is the UID of theirs, if they have one; ``held`` says that it waits for quota.
        """
        trial = self.trial
        labels = f"{_GROUP}={self.group},kar-checks.dev/role=agent"
        began = time.monotonic()
        seen: dict[str, Object] = {}
        # A Job whose pods are refused has none, and only its events say why.
        for patience in (_FIRST_SECONDS, trial.number("pods.start_seconds")):
            found = trial.cluster.list(kinds.POD, trial.namespace, labels=labels)
            seen = {str(one["metadata"]["name"]): one for one in found.items}
            if self._all_run(seen):
                return list(seen.values())
            for _, pod in trial.cluster.watch(
                kinds.POD,
                trial.namespace,
                resource_version=found.resource_version,
                deadline=began + patience,
                labels=labels,
            ):
                seen[str(pod["metadata"]["name"])] = pod
                if error := trial.hopeless(pod):
                    raise error
                if self._all_run(seen):
                    return list(seen.values())
            if not seen and not held:
                break
        raise self._why_not(job, seen)

    def _all_run(self, seen: dict[str, Object]) -> bool:
        return sum(pods.phase(one) == "Running" for one in seen.values()) >= len(self.nodes)

    def _why_not(self, job: str, seen: dict[str, Object]) -> HarnessError:
        trial = self.trial
        if trial.cluster.stopping.is_set():
            return HarnessError(Reason.INTERRUPTED, "the agents: interrupted")
        events = trial.cluster.list(
            kinds.EVENT, trial.namespace, fields=f"involvedObject.uid={job},reason=FailedCreate"
        ).items
        if not seen and events:
            told = str(events[-1].get("message"))
            reason, advice = classify(403, told)
            if self.host_network and reason is Reason.REFUSED_BY_POLICY:
                advice = _HOST_ADVICE
            return HarnessError(reason, f"the agents were refused: {told}", advice)
        if not seen and (error := self._held()):
            return error
        for pod in seen.values():
            if error := trial.overdue(pod):
                return error
        states = [f"{name} {pods.describe(one)}" for name, one in sorted(seen.items())]
        waiting = [one for one in states if not one.endswith("Running")]
        running = len(states) - len(waiting)
        return HarnessError(
            Reason.TIMEOUT,
            f"{running} of {len(self.nodes)} agents run: {'; '.join(waiting[:4]) or 'no pods'}",
            "choose nodes with room with --node-selector and --toleration",
        )

    def _held(self) -> HarnessError | None:
        """Return the error of a Job of ours that is suspended."""
        for kind, name in self._made:
            if kind != kinds.JOB:
                continue
            found = self.trial.cluster.find(kind, name, self.trial.namespace)
            if found and (error := kueue.holds_job(found)):
                return error
        return None

    def _leave(self) -> None:
        """Delete what was made, and wait for the Job's pods: nothing may disturb what comes next.

        What cannot be removed stays registered: the run's cleanup tries again, and tells.
        """
        trial = self.trial
        if trial.cluster.stopping.is_set():
            return
        # A claim can go only after its pod.
        mine = sorted(self._made, key=lambda one: one[0] == kinds.RESOURCE_CLAIM)
        for seconds in (0, None):
            mine = [
                one for one in mine if not trial.workspace.delete(one[0], one[1], seconds=seconds)
            ]
        deadline = time.monotonic() + _GONE_SECONDS
        labels = f"{_GROUP}={self.group}"
        while trial.cluster.list(kinds.POD, trial.namespace, labels=labels).items:
            if time.monotonic() > deadline or trial.cluster.stopping.wait(_POLL):
                return


def _injected(crew: Sequence[Object]) -> list[str]:
    found: dict[str, None] = {}
    for pod in crew:
        spec = pod["spec"]
        for one in [*spec["containers"], *(spec.get("initContainers") or [])]:
            if one["name"] not in ("agent", "conductor"):
                found[str(one["name"])] = None
    return list(found)


def suspended(job: Object) -> bool:
    """Say whether a Job makes no pods for now."""
    return bool((job.get("spec") or {}).get("suspend"))


def hostname(node: Object) -> str:
    """Return the label by which pods are pinned to a node.

    Raises:
        HarnessError: it has none.
    """
    found = (node["metadata"].get("labels") or {}).get(_HOSTNAME)
    if not found:
        raise HarnessError(
            Reason.UNSCHEDULABLE,
            f"node {node['metadata']['name']} has no label {_HOSTNAME}",
            "leave it out with --node-selector",
        )
    return str(found)


def manifests(target: Target) -> list[tuple[Kind, Object]]:
    """Return one of each kind, for dry runs."""
    image, probe = target.image("net"), f"kar-probe-{PROBE.replace('_', '-')}"
    return [
        (kinds.CONFIG_MAP, _plan("dry-run", {})),
        (kinds.POD, _conductor("dry-run", "any", image=image, probe=probe)),
        (
            kinds.JOB,
            agents("dry-run", ["any"], "127.0.0.1", image=image, probe=probe, host_network=False),
        ),
    ]


def _name(group: str) -> str:
    return f"throughput-{group}"


def _agents_name(group: str) -> str:
    return f"throughput-{group}-agents"


def _plan(group: str, plan: Line) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": f"throughput-{group}-plan"},
        "data": {"plan.json": json.dumps(plan)},
    }


def _conductor(group: str, hostname: str, *, image: str, probe: str) -> Object:
    return manifest(
        "throughput/conductor.yaml.j2",
        name=_name(group),
        group=group,
        hostname=hostname,
        image=image,
        probe=probe,
        plan=f"throughput-{group}-plan",
        port=PORT,
    )


def agents(
    group: str,
    hostnames: Sequence[str],
    conductor: str,
    *,
    image: str,
    probe: str,
    host_network: bool,
) -> Object:
    """Return the Job with an agent on each of these nodes."""
    return manifest(
        "throughput/agents.yaml.j2",
        name=_agents_name(group),
        group=group,
        hostnames=list(hostnames),
        conductor=conductor,
        image=image,
        probe=probe,
        host_network=host_network,
    )


def agent(job: Object, number: int, node: str) -> Object:
    """Return one agent of a Job as a pod of its own, on one node."""
    template = copy.deepcopy(job["spec"]["template"])
    terms = template["spec"]["affinity"]["nodeAffinity"][
        "requiredDuringSchedulingIgnoredDuringExecution"
    ]["nodeSelectorTerms"]
    terms[0]["matchExpressions"][0]["values"] = [node]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"{job['metadata']['name']}-{number}", **template["metadata"]},
        "spec": template["spec"],
    }
