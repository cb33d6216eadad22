"""Options of the target cluster that reach every object of every check.

``Target.dress`` is the one place where a manifest of ours becomes one for the user's cluster.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable
from typing import Any, cast

from pydantic import Field

from kar_checks.cluster.client import Object
from kar_checks.model import Record

MANAGED_BY = "app.kubernetes.io/managed-by"
SUITE = "kar-checks"
RUN_LABEL = "kar-checks.dev/run"

IMAGES = {
    "python": "docker.io/library/python:3.13-slim@sha256:"
    "6771159cd4fa5d9bba1258caf0b82e6b73458c694d178ad97c5e925c2d0e1a91",
    "net": "docker.io/nicolaka/netshoot:v0.15@sha256:"
    "47b907d662d139d1e2f22bfe14f4efca1e3f1feed283572f47c970c780c03b61",
}
"""Every image of the suite: public, pinned by the digest of its multi-architecture index."""

USER = 65532

_MESH_OPT_OUT = {
    "labels": {"sidecar.istio.io/inject": "false", "kuma.io/sidecar-injection": "disabled"},
    "annotations": {
        "sidecar.istio.io/inject": "false",
        "linkerd.io/inject": "disabled",
        "consul.hashicorp.com/connect-inject": "false",
    },
}


class Toleration(Record):
    """A toleration as pods carry it."""

    key: str = ""
    operator: str = "Exists"
    value: str = ""
    effect: str = ""

    def object(self) -> Object:
        """Return it as pods carry it."""
        return {name: value for name, value in self.model_dump().items() if value}


class Target(Record):
    """What the user says about their cluster. Empty fields change nothing."""

    namespace: str = ""
    node_selector: dict[str, str] = {}
    tolerations: list[Toleration] = []
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    image_prefix: str = ""
    images: dict[str, str] = {}
    pull_secrets: list[str] = []
    runtime_class: str = ""
    stack_namespace: str = ""
    """The namespace of the user's own workload that is assessed; nothing of ours goes there."""
    run_as_user: int | None = USER
    """``None`` where the platform assigns one (OpenShift)."""
    architectures: list[str] = Field(default_factory=lambda: ["amd64", "arm64"])

    def image(self, name: str) -> str:
        """Return the reference of one of :data:`IMAGES` on this cluster."""
        if name in self.images:
            return self.images[name]
        return self.mirrored(IMAGES[name])

    def mirrored(self, reference: str) -> str:
        """Return an image's reference as the user's registry has it."""
        if not self.image_prefix:
            return reference
        return f"{self.image_prefix.rstrip('/')}/{reference.split('/', 1)[1]}"

    def tolerates(self, taint: Object) -> bool:
        """Say whether pods of ours may run on a node with this taint."""
        return any(
            (not one.key or one.key == taint.get("key"))
            and (not one.effect or one.effect == taint.get("effect"))
            and (one.operator == "Exists" or one.value == taint.get("value", ""))
            for one in self.tolerations
        )

    def dress(self, body: Object, *, run_id: str, owner: str) -> Object:
        """Return a copy of a manifest with our ownership marks and the user's options."""
        out = copy.deepcopy(body)
        meta = out.setdefault("metadata", {})
        meta["labels"] = {
            **self.labels,
            **(meta.get("labels") or {}),
            MANAGED_BY: SUITE,
            RUN_LABEL: run_id,
        }
        meta["annotations"] = {
            **self.annotations,
            **(meta.get("annotations") or {}),
            "kar-checks.dev/owner": owner,
        }
        for template in pod_templates(out):
            self._dress_pod(template, meta["labels"], owner)
        return out

    def _dress_pod(self, pod: Object, labels: dict[str, str], owner: str) -> None:
        meta = pod.setdefault("metadata", {})
        meta["labels"] = {**_MESH_OPT_OUT["labels"], **(meta.get("labels") or {}), **labels}
        meta["annotations"] = {
            **_MESH_OPT_OUT["annotations"],
            **self.annotations,
            **(meta.get("annotations") or {}),
            "kar-checks.dev/owner": owner,  # pods of a controller are ours, too
        }
        spec: Object = pod["spec"]
        spec.setdefault("automountServiceAccountToken", False)
        spec.setdefault("enableServiceLinks", False)
        spec.setdefault("terminationGracePeriodSeconds", 5)
        selector = {"kubernetes.io/os": "linux", **self.node_selector}
        spec["nodeSelector"] = {**selector, **(spec.get("nodeSelector") or {})}
        _require_architectures(spec, self.architectures)
        spec["tolerations"] = [
            *(spec.get("tolerations") or []),
            *(one.object() for one in self.tolerations),
        ]
        if self.pull_secrets:
            spec["imagePullSecrets"] = [{"name": name} for name in self.pull_secrets]
        if self.runtime_class:
            spec["runtimeClassName"] = self.runtime_class
        security: Object = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
        if self.run_as_user is not None:
            security["runAsUser"] = self.run_as_user
        spec["securityContext"] = {**security, **(spec.get("securityContext") or {})}
        for container in [*spec["containers"], *(spec.get("initContainers") or [])]:
            container.setdefault(
                "securityContext",
                {
                    "allowPrivilegeEscalation": False,
                    "capabilities": {"drop": ["ALL"]},
                    "readOnlyRootFilesystem": True,
                },
            )


def _require_architectures(spec: Object, architectures: list[str]) -> None:
    affinity = spec.setdefault("affinity", {}).setdefault("nodeAffinity", {})
    required = affinity.setdefault(
        "requiredDuringSchedulingIgnoredDuringExecution", {"nodeSelectorTerms": [{}]}
    )
    for term in required["nodeSelectorTerms"]:
        term.setdefault("matchExpressions", []).append(
            {"key": "kubernetes.io/arch", "operator": "In", "values": architectures}
        )


def pod_templates(body: Object) -> Iterable[Object]:
    """Yield every template of pods in an object; a pod is its own."""
    if body.get("kind") == "Pod":
        yield body
        return
    spec: Any = body.get("spec") or {}
    groups: Any = spec.get("leaderWorkerTemplate") or {}
    for template in (spec.get("template"), groups.get("workerTemplate")):
        if isinstance(template, dict) and "spec" in template:
            yield cast("Object", template)


_PAIR = re.compile(r"([^=\s]+)=(.*)")


def parse_pairs(given: Iterable[str], option: str) -> dict[str, str]:
    """Turn ``KEY=VALUE`` options into a mapping.

    Raises:
        ValueError: one is not of that form.
    """
    out: dict[str, str] = {}
    for one in given:
        found = _PAIR.fullmatch(one)
        if not found:
            raise ValueError(f"{option} {one!r} is not of the form KEY=VALUE")
        out[found[1]] = found[2]
    return out


def parse_toleration(given: str) -> Toleration:
    """Turn ``KEY[=VALUE][:EFFECT]`` into a toleration; ``*`` tolerates everything.

    Raises:
        ValueError: it is not of that form.
    """
    if given == "*":
        return Toleration()
    left, _, effect = given.partition(":")
    if effect not in ("", "NoSchedule", "NoExecute", "PreferNoSchedule"):
        raise ValueError(
            f"--toleration {given!r}: the effect must be NoSchedule, PreferNoSchedule or NoExecute"
        )
    key, equals, value = left.partition("=")
    if not key:
        raise ValueError(f"--toleration {given!r} is not of the form KEY[=VALUE][:EFFECT]")
    return Toleration(key=key, operator="Equal" if equals else "Exists", value=value, effect=effect)
