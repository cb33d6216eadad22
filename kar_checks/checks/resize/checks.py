"""The checks of in-place pod resize, as data."""

from __future__ import annotations

from kar_checks.kit.topic import Check, Needs, Right, Topic

_ROOM = "kar_checks.checks.resize"
_RIGHTS = (
    Right(("create", "delete", "get", "list", "watch"), "", "pods"),
    Right(("patch",), "", "pods/resize"),
    Right(("create", "get"), "", "pods/exec"),
    Right(("create", "delete", "get", "list", "watch"), "", "configmaps"),
)
_SEES_NODES = Right(("list",), "", "nodes", cluster=True)
_SEES_PODS = Right(("list",), "", "pods", cluster=True)

TOPIC = Topic(
    id="resize",
    title="In-place pod resize",
    label="prerequisite: base conformance since 1.35",
    trial=f"{_ROOM}.trial:run",
    judge=f"{_ROOM}.judge:judge",
    observation=f"{_ROOM}.observation:ResizeObservation",
    tests=f"{_ROOM}.test_resize",
    manifests=f"{_ROOM}.trial:manifests",
    official_link=(
        "https://kubernetes.io/docs/tasks/configure-pod-container/resize-container-resources/"
    ),
    common_needs=Needs(rights=_RIGHTS, since="1.33"),
    checks=(
        Check(
            id="resize.cpu_up_down",
            title="CPU follows up and down without a restart",
            proves="A container's CPU request and limit are raised and lowered again while its "
            "first process goes on. Kernel and status agree after each change and until the end; "
            "a busy loop gets the new limit, and beside another pod the new weight.",
            fails_when="A kernel value or the status stays behind or goes back, the kernel does "
            "not enforce it, or the container restarts.",
            budget_seconds=90,
        ),
        Check(
            id="resize.memory_up",
            title="Memory follows upwards without a restart",
            proves="A container's memory request and limit are raised while its first process "
            "goes on and keeps what it had in memory; page cache then grows up to the new limit.",
            fails_when="The kernel's limit or the status stays behind or goes back, the new limit "
            "cannot be used up, or the container restarts.",
            budget_seconds=90,
        ),
        Check(
            id="resize.memory_down",
            title="Memory follows downwards without a restart",
            proves="A memory limit far above the container's use, page cache included, is lowered "
            "while its first process goes on; page cache then ends at the new limit.",
            fails_when="The kernel's limit or the status stays behind or goes back, more than the "
            "new limit can be used, or the container restarts.",
            budget_seconds=90,
            needs=Needs(since="1.34"),
        ),
        Check(
            id="resize.requests_only",
            title="A change of requests alone arrives",
            proves="A CPU request alone changes the container's weight in the kernel and its "
            "share of a CPU beside another pod, and nothing else there; a memory request alone "
            "changes the status only.",
            fails_when="The weight, the share or the status stays behind or goes back, a limit "
            "moves with it, or the container restarts.",
            budget_seconds=90,
        ),
        Check(
            id="resize.limits_only",
            title="A change of limits alone arrives",
            proves="CPU and memory limits alone change in the kernel and can be used up; the "
            "weight stays as it was.",
            fails_when="A limit or the status stays behind or goes back, a limit is not enforced, "
            "the weight moves, or the container restarts.",
            budget_seconds=90,
        ),
        Check(
            id="resize.several_containers",
            title="Several containers change at once",
            proves="One request raises one container and lowers another of the same pod, and each "
            "gets its own values.",
            fails_when="A container's kernel values, its status or what it can use are not those "
            "asked for it or do not stay so, or one restarts.",
            budget_seconds=90,
        ),
        Check(
            id="resize.restart_policy",
            title="RestartContainer restarts once, NotRequired never",
            proves="In one container a change of CPU (NotRequired) restarts nothing and a change "
            "of memory (RestartContainer) raises restartCount by exactly one, which shows that "
            "this suite can see a restart.",
            fails_when="The restart does not happen, happens more than once, or happens where the "
            "policy does not ask for it, or the new values are not enforced or do not stay.",
            budget_seconds=90,
        ),
        Check(
            id="resize.sidecar",
            title="A sidecar is resized in place",
            proves="An init container with restartPolicy Always gets new CPU and memory without "
            "a restart.",
            fails_when="Its kernel values, its status or what it can use stay behind or go back, "
            "or a container restarts.",
            budget_seconds=90,
        ),
        Check(
            id="resize.qos_change_refused",
            title="A change of the QoS class is refused",
            proves="After an accepted small resize, one that would make a Burstable pod Guaranteed "
            "is refused with a message that names the QoS class, and nothing changes.",
            fails_when="The API accepts it, the container changes although it was refused, or the "
            "small resize goes back.",
            budget_seconds=90,
        ),
        Check(
            id="resize.infeasible",
            title="A resize beyond the node is refused",
            proves="After an accepted small resize, ten times a node's CPU is refused by the API "
            "(from 1.36) or reported as Infeasible (before), and the container runs on unchanged.",
            fails_when="It is accepted without being reported as Infeasible, is applied, or "
            "disturbs the container, or the small resize goes back.",
            budget_seconds=90,
            needs=Needs(rights=(_SEES_NODES,)),
        ),
        Check(
            id="resize.deferred",
            title="A resize waits for room and completes",
            proves="On a node that a filler of ours has filled, a resize is reported as Deferred "
            "and changes nothing; when the filler has left, it completes without a restart.",
            fails_when="It does not complete although there is room, changes anything while it "
            "waits, does not change the pod's share of a CPU or goes back afterwards, or the "
            "container restarts.",
            budget_seconds=120,
            needs=Needs(rights=(_SEES_NODES, _SEES_PODS)),
            disruption="capacity",
        ),
        Check(
            id="resize.observed_generation",
            title="observedGeneration follows each resize",
            proves="Each accepted resize raises metadata.generation, and status.observedGeneration "
            "reaches it: a controller can see when a resize has been noticed.",
            fails_when="The generation does not rise, the observed one does not reach it, runs "
            "ahead of it or goes back, or the new values are not enforced or do not stay.",
            budget_seconds=90,
            needs=Needs(since="1.35"),
        ),
        Check(
            id="resize.busy_loop",
            title="A busy loop gets the CPU of the new limit",
            proves="The CPU time that a busy loop achieves matches the limit before and after it "
            "was raised, while the kernel throttles it in both phases.",
            fails_when="The achieved CPU time does not follow the limit although nobody else had "
            "the CPU, the limit goes back, or the container restarts.",
            budget_seconds=90,
        ),
    ),
)
