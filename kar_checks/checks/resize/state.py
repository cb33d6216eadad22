"""Where a resize is on its way, read from a pod's state. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from kar_checks.checks.resize import kernel
from kar_checks.checks.resize.observation import PENDING, Look, Resources


def at_rest(seen: Look, wanted: Mapping[str, Resources], generation: int, *, tracked: bool) -> bool:
    """Say whether a resize has ended as far as the API server knows.

    Without the observed generation (``tracked``) a pod that nobody has looked at yet would seem
    at rest, since conditions come only when the kubelet has.
    """
    if seen.deleted or seen.conditions:
        return False
    if tracked and (seen.observed_generation or 0) < generation:
        return False
    return not status_differences(seen, wanted)


def status_differences(seen: Look, wanted: Mapping[str, Resources]) -> list[str]:
    """Return in which containers the status does not show the resources that are wanted."""
    out: list[str] = []
    for name, want in wanted.items():
        one = seen.containers[name]
        if not one.running:
            out.append(f"{name}: not running")
        elif one.status is None or not kernel.same(one.status, want):
            out.append(f"{name}: status.resources is {written(one.status)}")
        elif one.allocated is not None and not kernel.same(
            {"requests": one.allocated}, {"requests": want.get("requests", {})}
        ):
            out.append(f"{name}: allocatedResources is {written({'requests': one.allocated})}")
    return out


def written(given: Resources | None) -> str:
    """Return the resources of a container in a line."""
    return (
        ", ".join(
            f"{resource} {part[:-1]} {value}"
            for part, values in (given or {}).items()
            for resource, value in values.items()
        )
        or "missing"
    )


def refused_as_infeasible(seen: Look) -> bool:
    """Say whether the kubelet has refused the resize for good."""
    return any(one.type == PENDING and one.reason == "Infeasible" for one in seen.conditions)


def deferred(seen: Look) -> bool:
    """Say whether the resize waits for room."""
    return any(one.type == PENDING and one.reason == "Deferred" for one in seen.conditions)
