"""The rights that a selection of checks needs: asked beforehand, and printed as RBAC objects."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from kar_checks.cluster.client import Object

ONLY_FOR = "kar-checks.dev/only-for"
"""The annotation of roles that may be left out: what is not told without them."""


@dataclass(frozen=True)
class NeededRight:
    """One verb on one resource; ``cluster`` and ``namespace`` say where it is needed.

    Without an ``optional`` one a check still runs, and says what it could not do.
    """

    verb: str
    group: str
    resource: str
    cluster: bool
    optional: bool = False
    namespace: str = ""
    """A namespace that is not the run's own."""
    name: str = ""
    """The only object that it is about; empty for every one."""
    only_for: str = ""
    """What is not told without it, in words, where no verdict rests on it."""
    api: str = ""
    """The API group without which nobody uses an ``optional`` one; empty for its own."""

    def __str__(self) -> str:
        where = "cluster-wide" if self.cluster else f"in the namespace {self.namespace}".rstrip()
        group = f".{self.group}" if self.group else ""
        name = f" {self.name}" if self.name else ""
        why = f" (only to report {self.only_for})" if self.only_for else ""
        return f"{self.verb} {self.resource}{group}{name} {where}{why}"


BASE_OWN_NAMESPACE = (
    NeededRight("create", "", "namespaces", True),
    NeededRight("delete", "", "namespaces", True),
    NeededRight("get", "", "namespaces", True),
    NeededRight("list", "", "namespaces", True),
    NeededRight("watch", "", "namespaces", True),
)
"""Only where the run makes its own namespace."""


def missing(
    needed: Iterable[NeededRight], allowed: Callable[[NeededRight], bool]
) -> list[NeededRight]:
    """Return the rights that are not granted."""
    return [one for one in needed if not allowed(one)]


def rbac_objects(
    needed: Iterable[NeededRight],
    *,
    namespace: str,
    subject_namespace: str,
    name: str = "kar-checks",
) -> list[Object]:
    """Return ServiceAccount, roles and bindings with exactly these rights.

    With ``namespace`` the namespaced rights become a Role in it; without one the run makes its own
    namespace, whose name nobody knows beforehand, so that they must hold in all. Rights in a
    namespace of their own become a Role there, unless they hold in all namespaces anyway.
    """
    rights = sorted(set(needed), key=lambda one: (one.group, one.resource, one.name, one.verb))
    places: dict[str, list[NeededRight]] = {"": [], namespace: []}
    for one in rights:
        places.setdefault("" if one.cluster else one.namespace or namespace, []).append(one)
    everywhere = {(one.verb, one.group, one.resource) for one in places[""] if not one.name}
    subject = {"kind": "ServiceAccount", "name": name, "namespace": subject_namespace}
    out: list[Object] = [
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": name, "namespace": subject_namespace},
        }
    ]
    for where, wanted in places.items():
        given = [
            one
            for one in wanted
            if where in ("", namespace) or (one.verb, one.group, one.resource) not in everywhere
        ]
        if not given:
            continue
        kind, rules = "Role" if where else "ClusterRole", _rules(given)
        meta: Object = {"name": name, **({"namespace": where} if where else {})}
        if all(one.only_for for one in given):
            told = "; ".join(dict.fromkeys(one.only_for for one in given))
            meta["annotations"] = {ONLY_FOR: told}
        api = "rbac.authorization.k8s.io"
        out.append({"apiVersion": f"{api}/v1", "kind": kind, "metadata": meta, "rules": rules})
        out.append(
            {
                "apiVersion": f"{api}/v1",
                "kind": f"{kind}Binding",
                "metadata": meta,
                "roleRef": {"apiGroup": api, "kind": kind, "name": name},
                "subjects": [subject],
            }
        )
    return out


def _rules(rights: list[NeededRight]) -> list[Object]:
    verbs: dict[tuple[str, str, str], list[str]] = {}
    for one in rights:
        verbs.setdefault((one.group, one.resource, one.name), []).append(one.verb)
    grouped: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for (group, resource, name), given in verbs.items():
        grouped.setdefault((group, name, tuple(sorted(set(given)))), []).append(resource)
    return [
        {
            "apiGroups": [group],
            "resources": resources,
            **({"resourceNames": [name]} if name else {}),
            "verbs": list(given),
        }
        for (group, name, given), resources in grouped.items()
    ]
