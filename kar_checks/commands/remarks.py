"""What can be said about a cluster beforehand: blockers, and notes that stop nobody."""

from __future__ import annotations

from dataclasses import dataclass, field

from kar_checks.cluster import openshift, policies
from kar_checks.cluster.client import Object
from kar_checks.cluster.facts import devices, taint_text, untolerated, why_unusable
from kar_checks.options import Options
from kar_checks.runner import Preflight

_SYSTEM_TAINTS = (
    "node.kubernetes.io/",
    "node.cloudprovider.kubernetes.io/",
    "node-role.kubernetes.io/",
)
"""Taints that say what state or whose a node is: nobody is advised to tolerate them."""
_ACCELERATORS = ("gpu", "accelerator", "tpu", "neuron", "gaudi", "nvidia", "amd.com", "habana")
_NAMED = 3


@dataclass(frozen=True)
class Remark:
    """Something to know before a run. ``options`` are those of `kar run` that it makes needful."""

    text: str
    advice: str = ""
    blocks: bool = False
    options: list[str] = field(default_factory=list[str])


def of_rights(before: Preflight) -> list[Remark]:
    """Return the rights that are missing; without an optional one a check loses a part only."""
    return [
        Remark(f"missing right: {one}", "grant what `kar rbac` prints", blocks=not one.optional)
        for one in before.missing
        if not one.only_for
    ]


def of_nodes(before: Preflight, options: Options) -> list[Remark]:
    """Return why nodes are not used, each reason once, with how many nodes it holds for."""
    nodes = before.facts.nodes
    if nodes is None:
        return []
    groups: dict[tuple[str, ...], list[Object]] = {}
    for node in nodes:
        why = why_unusable(node, options.target)
        if not why:
            continue
        what, _, _ = why.partition(", give ")
        taints = [taint_text(one) for one in untolerated(node, options.target)]
        groups.setdefault((what, *(taints if "taint" in what else ())), []).append(node)
    usable = before.facts.usable_nodes(options.target)
    out = [_unused(key, found, last=not usable) for key, found in groups.items()]
    if not usable:
        told = "no node can run the suite's pods" if nodes else "the cluster has no nodes"
        out.append(Remark(told, "see the reasons of the nodes above" if nodes else "", blocks=True))
    return out


def _unused(key: tuple[str, ...], nodes: list[Object], *, last: bool) -> Remark:
    """Return one reason; ``last`` if no other node is left to run on."""
    what, *taints = key
    names = [str(one["metadata"]["name"]) for one in nodes]
    if len(names) == 1:
        text = f"node {names[0]} is not used: {what}"
    else:
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        plural = what.replace("it is ", "they are ").replace("it has ", "they have ")
        plural = plural.replace("it lacks ", "they lack ").replace("it does ", "they do ")
        plural = plural.replace("its architecture is", "their architecture is")
        text = f"{len(names)} nodes are not used ({', '.join(names[:_NAMED])}{more}): {plural}"
    offered = sorted({name for one in nodes for name in devices(one)})
    if offered:
        text += f"; {'it offers' if len(names) == 1 else 'they offer'} {', '.join(offered[:4])}"
    if not taints or any(one.startswith(_SYSTEM_TAINTS) for one in taints):
        return Remark(text)
    given = " ".join(f"--toleration {one}" for one in taints)
    wanted = last or bool(offered) or any(_accelerator(one) for one in taints)
    return Remark(
        text,
        f"pass {given} to use {'it' if len(names) == 1 else 'them'} as well",
        options=[f"--toleration={one}" for one in taints] if wanted else [],
    )


def _accelerator(taint: str) -> bool:
    return any(one in taint.lower() for one in _ACCELERATORS)


def of_plan(before: Preflight) -> list[Remark]:
    """Return the checks that cannot run for want of nodes; rights have remarks of their own."""
    found: dict[tuple[str, str], list[str]] = {}
    for one in before.plan:
        if not one.runs and one.reason == "unschedulable" and before.facts.nodes:
            found.setdefault((one.message, one.help), []).append(one.check)
    if not before.facts.usable_nodes(before.options.target):
        return []
    return [
        Remark(f"{text} [{', '.join(checks[:4])}]", advice, blocks=True)
        for (text, advice), checks in found.items()
    ]


def of_cluster(before: Preflight, options: Options) -> list[Remark]:
    """Return what the kind of cluster makes needful: so far OpenShift's user ids."""
    refuses = openshift.refuses_user(before.cluster, before.facts, options.target, before.namespace)
    if refuses is None:
        return []
    return [
        Remark(
            refuses.text,
            f"give {openshift.OPTION}",
            blocks=refuses.every,
            options=[openshift.OPTION],
        )
    ]


def of_policies(before: Preflight, namespace: str) -> list[Remark]:
    """Return the network policies of others in a namespace that exists."""
    found = policies.standing(before.cluster, before.facts, namespace)
    if not found:
        return []
    return [
        Remark(
            f"network policies may cut traffic of our pods: {policies.sentence(found)}",
            policies.ADVICE,
        )
    ]
