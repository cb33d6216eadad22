"""What pods tell: why one can never start, and what the cluster changed in it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import zip_longest
from typing import Any, cast

from kar_checks.cluster import kueue
from kar_checks.cluster.client import Object
from kar_checks.cluster.errors import HarnessError
from kar_checks.model import Mutation, ObjectRef, Reason

OPT_OUT = (
    "exclude these pods from the injection with --annotation or --label, or use a namespace that "
    "the webhook, policy or LimitRange exempts: --namespace NAME"
)
"""What helps where admission changed a pod of ours."""

MIRRORED = (
    "if a webhook rewrites registries, use its registry from the start with --image-prefix "
    "(`kar images mirror` copies the images and keeps their digests)"
)
"""What helps where admission replaced an image of ours."""

_SHORT = re.compile(r"(?:Insufficient|Too many) (cpu|memory|ephemeral-storage|pods)\b")
_OUT_OF = re.compile(r"OutOf(cpu|memory|ephemeral-storage|pods)")
"""How a kubelet refuses a pod that it got without room for it."""

_IMAGE_TROUBLE = {
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "ImageInspectError",
    "RegistryUnavailable",
    "SignatureValidationFailed",
}
_PULLS = {"ErrImagePull", "ImagePullBackOff"}
_FOR_GOOD = re.compile(
    r"(?i)manifest unknown|not found|unauthorized|denied"
    r"|forbidden|authentication required|no basic auth|no matching manifest|no match for platform"
    r"|invalid reference|name unknown|repository does not exist|unsupported media"
)
_PASSING_PULL = re.compile(
    r"(?i)pull QPS exceeded|429|too ?many ?requests|rate limit|handshake timeout|i/o timeout"
    r"|deadline exceeded|timed out|time-?out|connection reset|broken pipe|\bEOF\b"
    r"|temporary failure|server misbehaving|(status|code)[^0-9]{0,40}5\d\d|\b50[0234] |bad gateway"
    r"|service unavailable|internal server error|transport is closing|connection error"
    r"|operation cancell?ed|context canceled|registry is unavailable|RegistryUnavailable"
)
"""What the kubelet tries again, and gets, within seconds or minutes. A registry that refuses
connections or has no address is none of it: that is how a node without a way to it looks."""
_LIMITED = re.compile(r"(?i)pull QPS|429|too ?many ?requests|rate limit")
_PASSING_START = re.compile(
    r"(?i)failed to sync (configmap|secret) cache|is reserved for|deadline exceeded|timed out"
    r"|connection refused|transport is closing|connection error|rpc error: code = Unavailable"
    r"|already exists|resource temporarily unavailable|try again"
)
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
        gated = f" [{', '.join(kueue.gates(pod))}]" if kueue.gates(pod) else ""
        return f"Pending, {scheduled.get('reason')}{gated}: {scheduled.get('message', '')}"
    return phase(pod)


def hopeless(pod: Object) -> HarnessError | None:
    """Return the error of a pod that can never start, so that nobody waits for it.

    What the kubelet itself tries again with success is none: a registry that limits its rate, a
    cache that is not filled yet, the name of a container that is still being made.
    """
    for one in statuses(pod):
        waiting: Object = (one.get("state") or {}).get("waiting") or {}
        why, text = str(waiting.get("reason", "")), str(waiting.get("message", ""))
        if not _passes(why, text) and (error := _stuck(pod, one, why, text)):
            return error
    if phase(pod) == "Failed":
        name = pod["metadata"]["name"]
        if short_of(pod):
            return no_room(pod)
        return HarnessError(
            Reason.POD_FAILED,
            f"pod {name} failed: {(pod.get('status') or {}).get('message') or last_words(pod)}",
        )
    scheduled = condition(pod, "PodScheduled") or {}
    if scheduled.get("status") == "False" and scheduled.get("reason") == "SchedulingGated":
        return kueue.holds_pod(pod)
    return None


def selector(pod: Object) -> dict[str, str]:
    """Return the labels that a node must have for the pod."""
    return cast("dict[str, str]", (pod.get("spec") or {}).get("nodeSelector") or {})


def short_of(pod: Object) -> list[str]:
    """Return the resources that are missing on nodes where the pod might run otherwise.

    The scheduler reports them while the pod is Pending, a kubelet when it turned the pod away.
    """
    scheduled = condition(pod, "PodScheduled") or {}
    found: list[str] = []
    if scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable":
        found = _SHORT.findall(str(scheduled.get("message", "")))
    elif phase(pod) == "Failed":
        found = _OUT_OF.findall(str((pod.get("status") or {}).get("reason", "")))
    return list(dict.fromkeys(found))


def no_room(pod: Object) -> HarnessError:
    """Return the error of a pod for which no node has room."""
    source = pod["status"] if phase(pod) == "Failed" else condition(pod, "PodScheduled") or {}
    why = str(source.get("message", "")).partition(" preemption:")[0].rstrip(". ")
    return HarnessError(Reason.NO_ROOM, f"pod {pod['metadata']['name']} has no room: {why}")


def overdue(pod: Object) -> HarnessError | None:
    """Return the error of a pod that did not start in time, if what holds it back has a name."""
    for one in statuses(pod):
        waiting: Object = (one.get("state") or {}).get("waiting") or {}
        why, text = str(waiting.get("reason", "")), str(waiting.get("message", ""))
        if error := _stuck(pod, one, why, text):
            return error
    if short_of(pod):
        return no_room(pod)
    scheduled = condition(pod, "PodScheduled") or {}
    if scheduled.get("status") != "False" or scheduled.get("reason") != "SchedulingGated":
        return None
    name, queue = pod["metadata"]["name"], kueue.queue_of(pod)
    if queue:
        return HarnessError(
            Reason.UNSCHEDULABLE,
            f"pod {name} is not scheduled: the queue {queue} does not admit it",
            f"look at `kubectl describe workloads` and the quota of the queue {queue}",
        )
    return HarnessError(
        Reason.UNSCHEDULABLE,
        f"pod {name} is not scheduled: nothing removes its gates ({', '.join(kueue.gates(pod))})",
        "find out which controller sets these gates, and meet it with --label or --annotation",
    )


def _passes(why: str, text: str) -> bool:
    """Say whether the kubelet will get over a state by itself."""
    if why == "ImagePullBackOff" and text.startswith("Back-off pulling image") and not _cause(text):
        return True  # older kubelets leave the cause out; the next try brings it
    if why in _PULLS:
        # A registry that limits its rate words it as if somebody were not authorized.
        return bool(_PASSING_PULL.search(text)) and not (
            _FOR_GOOD.search(text) and not _LIMITED.search(text)
        )
    if why == "RegistryUnavailable":
        return True
    return why in _NEVER_STARTS and bool(_PASSING_START.search(text)) and not _lacks_program(text)


def _stuck(pod: Object, status: Object, why: str, text: str) -> HarnessError | None:
    name, image = pod["metadata"]["name"], status.get("image")
    if why in _IMAGE_TROUBLE:
        limited = _LIMITED.search(text)
        return HarnessError(
            Reason.IMAGE_UNAVAILABLE,
            f"the node cannot get the image {image}: {why}: {text}",
            "the registry limits its rate: give --pull-secret with an account, or copy the images "
            "with `kar images mirror`, and give --image-prefix"
            if limited
            else "copy the images with `kar images mirror`, and give --image-prefix or --image "
            "(and --pull-secret if the registry needs one)",
        )
    if why in _NEVER_STARTS and _lacks_program(text):
        return HarnessError(
            Reason.IMAGE_LACKS_TOOL,
            f"the image {image} lacks a program that the check needs: {text}",
            "use the default image, or pass one that contains python3 with --image",
        )
    if why in _NEVER_STARTS:
        root = "non-root" in text or "runAsNonRoot" in text
        return HarnessError(
            Reason.POD_FAILED,
            f"pod {name} cannot start: {why}: {text}",
            "give an image that names a numeric user with --image, or leave --platform-user out"
            if root
            else "",
        )
    return None


def _lacks_program(text: str) -> bool:
    return bool(_NO_PROGRAM.search(text))


def _cause(text: str) -> str:
    """Return what newer kubelets add behind the words about their back-off."""
    return text.partition("ErrImagePull:")[2]


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


def same_program(one: Mutation) -> bool:
    """Say whether a changed image is the same content under another name (the same digest)."""
    if not one.field.endswith(".image"):
        return False
    sent, stored = _digest(one.sent), _digest(one.stored)
    return bool(sent) and sent == stored


def relevant(found: Iterable[Mutation]) -> list[Mutation]:
    """Return the changes that may make something else of what was sent."""
    return [one for one in found if not same_program(one)]


def opt_out(found: Iterable[Mutation]) -> str:
    """Return what helps against changes: for images the registry, else to opt out."""
    images = [one.field.endswith(".image") for one in found]
    if images and all(images):
        return MIRRORED
    return f"{OPT_OUT}; {MIRRORED}" if any(images) else OPT_OUT


def _digest(image: Any) -> str:
    return str(image).partition("@")[2]


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
