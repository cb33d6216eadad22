"""What pods tell: why one can never start, and what the cluster changed in it."""

from __future__ import annotations

import re
from itertools import zip_longest
from typing import Any, cast

from kar_checks.cluster.client import Object
from kar_checks.cluster.errors import HarnessError
from kar_checks.model import Mutation, ObjectRef, Reason

OPT_OUT = (
    "opt out of the injection by --annotation or --label, or exempt a namespace from the webhook, "
    "policy or LimitRange and name it by --namespace"
)
"""What helps where admission changed a pod of ours."""

_IMAGE_TROUBLE = {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"}
_NO_PROGRAM = re.compile(r"executable file not found|no such file or directory")
_NEVER_STARTS = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}


def reference(item: Object) -> ObjectRef:
    """Return the record that tells this object from a later one of the same name."""
    meta = item["metadata"]
    return ObjectRef(
        api_version=str(item.get("apiVersion", "v1")),
        kind=str(item.get("kind", "")),
        namespace=str(meta.get("namespace", "")),
        name=str(meta["name"]),
        uid=str(meta.get("uid", "")),
        resource_version=str(meta.get("resourceVersion", "")),
    )


def condition(item: Object, kind: str) -> Object | None:
    """Return a condition of any object's status by its type."""
    for one in (item.get("status") or {}).get("conditions") or []:
        if one.get("type") == kind:
            return cast("Object", one)
    return None


def is_true(item: Object, kind: str) -> bool:
    """Say whether a condition is there and ``True``."""
    found = condition(item, kind)
    return found is not None and found.get("status") == "True"


def statuses(pod: Object) -> list[Object]:
    """Return the statuses of all containers, sidecars included."""
    status = pod.get("status") or {}
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]


def container_status(pod: Object, name: str) -> Object:
    """Return the status of one container, empty if there is none yet."""
    return next((one for one in statuses(pod) if one.get("name") == name), {})


def gates(pod: Object) -> list[str]:
    """Return the scheduling gates that hold a pod back from every scheduler."""
    return [str(one.get("name")) for one in (pod.get("spec") or {}).get("schedulingGates") or []]


def bound(pod: Object) -> bool:
    """Say whether a scheduler gave the pod a node."""
    return bool((pod.get("spec") or {}).get("nodeName"))


def ready(pod: Object) -> bool:
    """Say whether the pod is Ready."""
    return is_true(pod, "Ready")


def phase(pod: Object) -> str:
    """Return ``status.phase``."""
    return str((pod.get("status") or {}).get("phase", ""))


def describe(pod: Object) -> str:
    """Say in a few words where a pod is on its way."""
    for one in statuses(pod):
        waiting = (one.get("state") or {}).get("waiting") or {}
        if waiting.get("reason"):
            return f"{phase(pod)}, {waiting['reason']}"
    scheduled = condition(pod, "PodScheduled") or {}
    if scheduled.get("status") == "False":
        return f"Pending, {scheduled.get('reason')}: {scheduled.get('message', '')}"
    return phase(pod)


def hopeless(pod: Object) -> HarnessError | None:
    """Return the error of a pod that can never start, so that nobody waits for it."""
    name = pod["metadata"]["name"]
    for one in statuses(pod):
        waiting: Object = (one.get("state") or {}).get("waiting") or {}
        why, text = str(waiting.get("reason", "")), str(waiting.get("message", ""))
        if why in _IMAGE_TROUBLE:
            return HarnessError(
                Reason.IMAGE_UNAVAILABLE,
                f"the node cannot get the image {one.get('image')}: {why}: {text}",
                "copy the images with `kar images mirror`, and give --image-prefix or --image "
                "(and --pull-secret where the registry wants one)",
            )
        if why in _NEVER_STARTS and _NO_PROGRAM.search(text):
            return HarnessError(
                Reason.IMAGE_LACKS_TOOL,
                f"the image {one.get('image')} lacks a program that the check needs: {text}",
                "leave the image as it is, or give one with python3 by --image",
            )
        if why in _NEVER_STARTS:
            return HarnessError(Reason.POD_FAILED, f"pod {name} cannot start: {why}: {text}")
    if phase(pod) == "Failed":
        return HarnessError(
            Reason.POD_FAILED,
            f"pod {name} failed: {(pod.get('status') or {}).get('message') or last_words(pod)}",
        )
    return None


def last_words(pod: Object) -> str:
    """Return how the containers of a pod ended."""
    ended = [
        f"{one['name']} exited with {end.get('exitCode')} ({end.get('reason')})"
        for one in statuses(pod)
        if (end := (one.get("state") or {}).get("terminated"))
    ]
    return ", ".join(ended) or "no container ended"


def mutations(sent: Object, stored: Object) -> list[Mutation]:
    """Return what the cluster changed or injected in an object on its way in.

    Only what we sent is compared, so that the server's defaults are no mutations. Lists of named
    things (containers, volumes) are compared by name, and a container that we did not send counts.
    """
    out: list[Mutation] = []
    label = f"{stored.get('kind')}/{stored['metadata']['name']}"
    for path in ("spec", "metadata.labels"):
        first, _, second = path.partition(".")
        mine, theirs = sent.get(first) or {}, stored.get(first) or {}
        if second:
            mine, theirs = mine.get(second) or {}, theirs.get(second) or {}
        _compare(label, path, mine, theirs, out)
    return out


_INJECTABLE = ("containers", "initContainers")
_NORMALISED = ("tolerations", "imagePullSecrets")


def _compare(label: str, path: str, sent: Any, stored: Any, out: list[Mutation]) -> None:
    if isinstance(sent, dict):
        theirs = cast("Object", stored) if isinstance(stored, dict) else {}
        for key, value in cast("Object", sent).items():
            if key not in _NORMALISED and value not in ({}, [], None):
                _compare(label, f"{path}.{key}", value, theirs.get(key), out)
        for key in _INJECTABLE:
            if path == "spec" and not sent.get(key) and theirs.get(key):
                _compare(label, f"{path}.{key}", [], theirs[key], out)
    elif isinstance(sent, list):
        _compare_lists(label, path, sent, stored, out)
    elif not _same(sent, stored):
        out.append(Mutation(object=label, field=path, sent=sent, stored=stored))


def _compare_lists(
    label: str, path: str, sent: list[Any], stored: Any, out: list[Mutation]
) -> None:
    theirs = stored if isinstance(stored, list) else []
    named = all(isinstance(one, dict) and "name" in one for one in [*sent, *theirs])
    if not named:
        for index, (one, other) in enumerate(zip_longest(sent, theirs)):
            _compare(label, f"{path}[{index}]", one, other, out)
        return
    by_name = {one["name"]: one for one in theirs}
    for one in sent:
        _compare(label, f"{path}[{one['name']}]", one, by_name.pop(one["name"], None), out)
    if path.rpartition(".")[2] in _INJECTABLE:
        out.extend(
            Mutation(object=label, field=f"{path}[{name}]", stored="added") for name in by_name
        )


def _same(sent: Any, stored: Any) -> bool:
    if sent == stored:
        return True
    if isinstance(sent, str) and isinstance(stored, str):
        from kar_checks.cluster.quantity import parse_or_none

        one, other = parse_or_none(sent), parse_or_none(stored)
        return one is not None and one == other
    return False
