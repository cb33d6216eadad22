"""Kueue: found by its full group, read back, and its words understood."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from kar_checks.checks.gang import judge as judging
from kar_checks.checks.gang.kueue import api
from kar_checks.checks.gang.kueue import queue as queues
from kar_checks.checks.gang.kueue.guarantee import pods_ready, wait_for_pods_ready
from kar_checks.checks.gang.kueue.queue import Queue, QueueRoom
from kar_checks.checks.gang.kueue.stage import Groups, QuotaStage, not_taken
from kar_checks.checks.gang.observation import (
    Arena,
    BackendObservation,
    Disturbance,
    Fragmented,
    GangObservation,
    Guarantee,
    PodsReady,
    Problem,
    Refusal,
    Squeeze,
    Start,
    Window,
    Witness,
)
from kar_checks.checks.gang.pods import JOB_RANK_LABEL, Shape, job, pod, service
from kar_checks.checks.gang.stage import Place, ProblemError, Stage
from kar_checks.cluster import wait
from kar_checks.cluster.client import Object
from kar_checks.cluster.errors import HarnessError
from kar_checks.cluster.facts import Facts
from kar_checks.kit.pulse import Beat, Pulsed, Pulses
from kar_checks.kit.trial import Trial
from kar_checks.model import Evidence, Reason
from kar_checks.profile import default
from kar_checks.store import now

SHAPE = Shape(hostname="", image="image", probe="probe", millicores=50)
SENTENCE = (
    "couldn't assign flavors to pod set 0d28af95: insufficient unused quota for cpu in flavor "
    "kar-x-squeeze, 75m more needed"
)
ABOVE = (
    "couldn't assign flavors to pod set main: insufficient quota for cpu in flavor t, previously "
    "considered podsets requests (0) + current podset request (1M) > maximum capacity (225m)"
)


def facts(*served: tuple[str, str, str]) -> Facts:
    return Facts("v1.37.0", "me", "uid", [], frozenset(served))


def workload(**conditions: tuple[str, str, str]) -> Object:
    """A Workload as Kueue 0.19.2 leaves it, cut to what is read."""
    return {
        "apiVersion": "kueue.x-k8s.io/v1beta2",
        "kind": "Workload",
        "metadata": {"name": "g", "uid": "w", "ownerReferences": [{"kind": "Pod", "uid": "p"}]},
        "status": {
            "conditions": [
                {"type": kind, "status": status, "reason": reason, "message": message}
                for kind, (status, reason, message) in conditions.items()
            ]
        },
    }


WAITS = workload(QuotaReserved=("False", "Pending", SENTENCE))
ADMITTED = workload(
    QuotaReserved=("True", "QuotaReserved", "Quota reserved in ClusterQueue t"),
    Admitted=("True", "Admitted", "The workload is admitted"),
)


@pytest.mark.parametrize(
    ("served", "expected"),
    [
        ([("kueue.x-k8s.io", "v1beta2", "workloads"), ("kueue.x-k8s.io", "v1beta1", "workloads")],
         "kueue.x-k8s.io/v1beta2"),
        ([("kueue.x-k8s.io", "v1beta1", "workloads")], "kueue.x-k8s.io/v1beta1"),
        ([("scheduling.k8s.io", "v1beta1", "workloads")], ""),
    ],
)  # fmt: skip
def test_its_workload_is_not_the_native_one(
    served: list[tuple[str, str, str]], expected: str
) -> None:
    assert groups().detect(facts(*served)) == expected


def groups(latest: Object | None = None) -> Groups:
    workloads: Any = SimpleNamespace(of=lambda uid: latest if uid == "p" else None)
    return Groups(api.Api("v1beta2"), workloads, "queue")


def member(group: Groups) -> Object:
    trial: Any = None
    assert group.create_group(trial, "g", 4) == 4
    return group.join(pod(SHAPE, group="g", role="gang", rank=0, size=4), "g")


def stored(body: Object, *, gated: bool = True) -> Object:
    """A pod as the server stores it, with what Kueue's webhook adds."""
    body["metadata"]["uid"] = "p"
    if gated:
        body["spec"]["schedulingGates"] = [
            {"name": "kueue.x-k8s.io/admission"},
            {"name": "kueue.x-k8s.io/topology"},
        ]
    return body


def test_a_member_differs_from_a_single_pod_by_its_group_only() -> None:
    single = api.queued(pod(SHAPE, group="g", role="gang", rank=0, size=4), "queue")
    found = member(groups())
    assert found["metadata"]["labels"].pop("kueue.x-k8s.io/pod-group-name") == "g"
    assert found["metadata"].pop("annotations") == {"kueue.x-k8s.io/pod-group-total-count": "4"}
    assert found == single
    assert "nodeSelector" not in found["spec"]


def test_what_kueue_took_is_read_back() -> None:
    group = groups()
    assert group.joined(stored(member(group)), "g")


@pytest.mark.parametrize(
    ("path", "key", "value", "reason"),
    [
        ("labels", "kueue.x-k8s.io/queue-name", None, "mutated"),
        ("labels", "kueue.x-k8s.io/queue-name", "other", "mutated"),
        ("labels", "kueue.x-k8s.io/pod-group-name", "other", "mutated"),
        ("annotations", "kueue.x-k8s.io/pod-group-total-count", "2", "mutated"),
        ("", "", None, "not_managed"),
    ],
)
def test_what_kueue_did_not_take_proves_nothing(
    path: str, key: str, value: str | None, reason: str
) -> None:
    group = groups()
    found = stored(member(group), gated=bool(path))
    if path:
        found["metadata"][path].pop(key)
        found["metadata"][path].update({key: value} if value else {})
    assert not group.joined(found, "g")
    nothing: Any = None
    problem = group.why_not_joined(nothing, found)
    assert problem.reason == reason
    assert "gang-0" not in problem.text
    assert found["metadata"]["name"] in problem.text


def test_a_job_is_held_by_its_suspension() -> None:
    body = {"kind": "Job", "metadata": {"name": "j", "labels": {api.QUEUE_LABEL: "queue"}}}
    assert not_taken({**body, "spec": {"suspend": False}}, "queue").reason == "not_managed"
    assert not_taken({**body, "spec": {"suspend": True}}, "other").reason == "mutated"


def test_a_job_that_kueue_holds_is_known_by_its_workload() -> None:
    group = groups(WAITS)
    nothing: Any = None
    group.create_group(nothing, "g", 4)

    def create(kind: object, body: Object) -> Object:
        body["metadata"]["uid"] = "p"
        body["spec"]["suspend"] = suspended
        return body

    trial = cast("Trial", SimpleNamespace(workspace=SimpleNamespace(create=create)))
    suspended = True
    body = job(SHAPE, group="g", size=4, meet="10.0.0.1", hold=0)
    group.make(trial, "g", body)
    assert group.workload("g") == WAITS
    suspended = False
    with pytest.raises(ProblemError, match="would start without admission"):
        group.make(trial, "g", body)


def test_a_job_that_may_start_in_part_is_no_gang() -> None:
    group = groups()
    nothing: Any = None
    group.create_group(nothing, "g", 4)

    def create(_: object, body: Object) -> Object:
        body["metadata"] |= {"uid": "p", "annotations": {api.MIN_PARALLELISM: "1"}}
        body["spec"]["suspend"] = True
        return body

    trial = cast("Trial", SimpleNamespace(workspace=SimpleNamespace(create=create)))
    with pytest.raises(ProblemError) as found:
        group.make(trial, "g", job(SHAPE, group="g", size=4, meet="10.0.0.1", hold=0))
    assert found.value.problem.reason == "partial_admission"


def test_the_pods_of_a_job_know_their_rank() -> None:
    template = job(SHAPE, group="g", size=4, meet="10.0.0.1", hold=2)["spec"]["template"]
    env = {one["name"]: one for one in template["spec"]["containers"][0]["env"]}
    assert env["KAR_RANK"]["valueFrom"]["fieldRef"]["fieldPath"] == (
        f"metadata.labels['{JOB_RANK_LABEL}']"
    )
    assert (env["KAR_SIZE"]["value"], env["KAR_MEET"]["value"]) == ("4", "10.0.0.1")
    assert template["metadata"]["labels"]["kar-checks.dev/gang"] == "g"
    assert service("g", JOB_RANK_LABEL)["spec"]["selector"][JOB_RANK_LABEL] == "0"


@pytest.mark.parametrize(
    ("found", "refused"),
    [
        (WAITS, True),
        (workload(QuotaReserved=("False", "WaitingForQuota", "in words of a later version")), True),
        (workload(QuotaReserved=("False", "Inadmissible", "LocalQueue t is inactive")), False),
        (workload(QuotaReserved=("False", "Misconfigured", "resource cpu unavailable")), False),
        (ADMITTED, False),
        (workload(), False),
        (None, False),
    ],
)
def test_only_a_lack_of_quota_explains_that_a_gang_waits(
    found: Object | None, refused: bool
) -> None:
    assert api.refusal(found).refused is refused


def test_the_reason_and_the_words_are_kept() -> None:
    assert api.refusal(WAITS).condition == f"QuotaReserved=False, Pending: {SENTENCE}"
    assert api.refusal(None).condition == ""


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (ABOVE, {"t": "225m"}),
        (f"{ABOVE}, {ABOVE.replace('flavor t', 'flavor u')}", {"t": "225m", "u": "225m"}),
        (ABOVE.replace("cpu", "memory"), {}),
        (SENTENCE, {}),
    ],
)
def test_a_quota_is_told_by_the_refusal_of_more(message: str, expected: dict[str, str]) -> None:
    assert api.most(workload(QuotaReserved=("False", "Pending", message))) == expected


def test_admission_is_a_word_of_its_own() -> None:
    assert api.admitted(ADMITTED)
    assert not api.admitted(WAITS)
    assert api.waits(WAITS)
    assert not api.waits(ADMITTED)
    assert not api.waits(workload())


EVICTED = workload(Evicted=("True", "Preempted", "Preempted to accommodate a workload"))
PREEMPTS = workload(
    QuotaReserved=("False", "Pending", f"{SENTENCE}. Pending the preemption of 2 workload(s)")
)


def test_preemption_is_told_once_and_by_its_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    Follows.made = []
    monkeypatch.setattr("kar_checks.checks.gang.kueue.api.Follower", Follows)
    nothing: Any = None
    workloads = api.Workloads(nothing, api.Api("v1beta2"), "n", 1)
    note = Follows.made[0].note
    for state in (WAITS, PREEMPTS, PREEMPTS, ADMITTED, EVICTED, EVICTED):
        note("MODIFIED", state)
    found = workloads.losses(["p"], 0)
    assert {one.reason for one in found} == {"preempted"}
    assert [one.text.split(" (")[0] for one in found] == [
        "Kueue preempts others for our Workload g",
        "Kueue took back the quota of our Workload g",
    ]
    assert workloads.losses(["somebody else"], 0) == []


def test_what_the_watch_has_not_shown_yet_is_asked_for_and_told_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Follows.made = []
    monkeypatch.setattr("kar_checks.checks.gang.kueue.api.Follower", Follows)
    both = [{"kind": "Pod", "uid": uid} for uid in ("p", "q")]
    nothing: Any = None
    workloads = api.Workloads(nothing, api.Api("v1beta2"), "n", 1)
    Follows.made[0].server = [
        {**EVICTED, "metadata": {**EVICTED["metadata"], "ownerReferences": both}}
    ]
    assert workloads.losses(["p"], 0) == []
    workloads.sync()
    assert [one.reason for one in workloads.losses(["p", "q"], 0)] == ["preempted"]
    assert [one.reason for one in workloads.losses(["q"], 0)] == ["preempted"]


def queued(*, of: str = "p", count: int = 4, **more: Any) -> Object:
    """A Workload as it waits, of a gang of ours."""
    meta = {
        "name": "g",
        "uid": "w",
        "ownerReferences": [{"kind": "Pod", "uid": of}],
        "finalizers": ["kueue.x-k8s.io/resource-in-use"],
        **more,
    }
    return {**WAITS, "metadata": meta, "spec": {"podSets": [{"count": count}], "active": True}}


def written(*writers: tuple[str, int]) -> list[Object]:
    """Who wrote the spec last, and when."""
    return [
        {"manager": who, "time": f"2026-11-25T00:00:0{second}Z", "fieldsV1": {"f:spec": {}}}
        for who, second in writers
    ]


GOING: dict[str, Any] = {"deletionTimestamp": "2026-11-25T00:00:00Z"}


@pytest.mark.parametrize(
    ("change", "now", "expected"),
    [
        (
            "MODIFIED",
            queued(count=1),
            ["Workload g was changed: podSets[0].count went from 4 to 1"],
        ),
        ("MODIFIED", queued(**GOING), ["Workload g was deleted"]),
        ("DELETED", queued(), ["Workload g was deleted"]),
        ("MODIFIED", queued(labels={"kueue.x-k8s.io/x": "y"}), []),
        ("MODIFIED", {**queued(), "status": ADMITTED["status"]}, []),
        ("DELETED", {**queued(), "status": workload(Finished=("True", "S", ""))["status"]}, []),
        ("DELETED", {**queued(), "status": workload(Evicted=("True", "P", ""))["status"]}, []),
    ],
)
def test_a_workload_of_a_gang_that_somebody_changes_is_noticed(
    monkeypatch: pytest.MonkeyPatch, change: str, now: Object, expected: list[str]
) -> None:
    Follows.made = []
    monkeypatch.setattr("kar_checks.checks.gang.kueue.api.Follower", Follows)
    nothing: Any = None
    workloads = api.Workloads(nothing, api.Api("v1beta2"), "n", 1)
    note = Follows.made[0].note
    note("ADDED", queued())
    note(change, now)
    if "deletionTimestamp" in now["metadata"]:
        note("DELETED", now)
    assert [one.text for one in workloads.changed({"p"}, 0)] == expected
    assert workloads.changed({"q"}, 0) == workloads.losses({"q"}, 0) == []


SMALLER = ["Workload g was changed: podSets[0].count went from 4 to 1"]


@pytest.mark.parametrize(
    ("writers", "expected"),
    [
        ([("kueue", 1)], []),
        ([("kubectl", 1), ("kueue", 2)], []),
        ([("manager", 1)], []),
        ([("kueue", 1), ("kubectl-patch", 2)], SMALLER),
        ([("kueue", 2), ("kubectl-patch", 2)], SMALLER),
        ([], SMALLER),
    ],
)
def test_what_kueue_itself_does_to_a_workload_is_no_disturbance(
    monkeypatch: pytest.MonkeyPatch, writers: list[tuple[str, int]], expected: list[str]
) -> None:
    Follows.made = []
    monkeypatch.setattr("kar_checks.checks.gang.kueue.api.Follower", Follows)
    nothing: Any = None
    workloads = api.Workloads(nothing, api.Api("v1beta2"), "n", 1)
    note = Follows.made[0].note
    note("ADDED", queued())
    changed = queued(count=1, managedFields=written(*writers))
    note("MODIFIED", changed)
    assert [one.text for one in workloads.changed({"p"}, 0)] == expected
    # Before Kueue deletes a Workload it takes its own finalizer away.
    bare = {**changed, "metadata": {**changed["metadata"], "finalizers": []}}
    note("MODIFIED", bare)
    note("DELETED", bare)
    assert [one.text for one in workloads.changed({"p"}, 0)] == expected


def test_only_the_workloads_of_gangs_are_groups() -> None:
    asked: list[set[str]] = []

    def changed(owners: set[str], _: float) -> list[Disturbance]:
        asked.append(owners)
        return []

    workloads: Any = SimpleNamespace(losses=lambda *_: [], changed=changed, sync=list)
    stage = quota_stage(workloads, losses=lambda *_: [])
    for group in ("filler", "gang"):
        stage.plain(group, "control", 1)
    stage._groups["gang"].min_count = 4
    assert stage.disturbances() == []
    assert asked == [{"", "uid-kueue-contest-gang-0"}]


def test_a_wait_ends_with_a_look_without_the_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    Follows.made = []
    monkeypatch.setattr("kar_checks.checks.gang.kueue.api.Follower", Follows)
    cluster: Any = SimpleNamespace(stopping=threading.Event())
    workloads = api.Workloads(cluster, api.Api("v1beta2"), "n", 1)
    Follows.made[0].server = [ADMITTED]
    assert workloads.wait(lambda: api.admitted(workloads.of("p") or {}), 0.01)


def test_only_the_watch_answers_a_pulse(monkeypatch: pytest.MonkeyPatch) -> None:
    Follows.made = []
    monkeypatch.setattr("kar_checks.checks.gang.kueue.api.Follower", Follows)
    nothing: Any = None
    answered: list[str] = []
    pulse: Any = SimpleNamespace(answer=answered.append)
    workloads = api.Workloads(nothing, api.Api("v1beta2"), "n", 1)
    workloads.proves(pulse)
    named = [{"kind": "Pod", "uid": "p", "name": "pulse-1"}]
    missing = workload(QuotaReserved=("False", "Inadmissible", "LocalQueue none doesn't exist"))
    missing["metadata"]["ownerReferences"] = named
    unseen = {**missing, "status": {}}
    for change, state in (("LISTED", missing), ("ADDED", unseen), ("MODIFIED", missing)):
        Follows.made[0].note(change, state)
        assert answered == (["pulse-1"] if (change, state) == ("MODIFIED", missing) else [])


def quota_stage(workloads: Any, **own: Any) -> QuotaStage:
    """A scenario in the user's queue, of which the test plays the watches."""
    room: Any = SimpleNamespace(
        node="n1",
        settle=lambda _: None,
        free=lambda: 225,
        arm=lambda _: None,
        disarm=list,
        misses=0,
    )
    own_pods: Any = SimpleNamespace(
        misses=0,
        latest=lambda name: {"metadata": {"uid": f"uid-{name}"}},
        expect=lambda _: None,
        **own,
    )
    trial: Any = SimpleNamespace(
        number=lambda _: 50,
        mount_probe=lambda _: "probe",
        workspace=SimpleNamespace(
            target=SimpleNamespace(image=lambda _: "image"), create=lambda _, body: stored(body)
        ),
    )
    around: Any = SimpleNamespace(since=lambda *_: [], misses=0)
    return QuotaStage(
        "contest",
        trial,
        Groups(api.Api("v1beta2"), workloads, "q"),
        Place(hostname="", room=room, around=around),
        own_pods,
        Pulses(default()),
        queue=Queue(name="q", free=225),
        workloads=workloads,
    )


DELETED = Disturbance(at=3, reason="pod_deleted", text="our pod p was deleted by somebody")
TAKEN = Disturbance(at=4, reason="preempted", text="Kueue took back the quota")


@pytest.mark.parametrize(
    ("taken", "expected"),
    [
        ({"uid-kueue-contest-gang-0"}, ["pod_deleted", "preempted"]),
        (set[str](), ["pod_deleted", "pod_deleted"]),
    ],
)
def test_pods_that_kueue_ends_were_deleted_by_nobody_else(
    taken: set[str], expected: list[str]
) -> None:
    """The watch of the pods may have been ahead; what became of other pods is told as before."""

    def losses(owners: set[str], _: float) -> list[Disturbance]:
        return [TAKEN] if owners & taken else []

    synced: list[bool] = []
    workloads: Any = SimpleNamespace(
        losses=losses, changed=lambda *_: [], sync=lambda: synced.append(True)
    )
    stage = quota_stage(workloads, losses=lambda names, _: [DELETED] * len(names))
    for group in ("filler", "gang"):
        stage.plain(group, "control", 1)
    assert [one.reason for one in stage.disturbances()] == expected
    assert synced


def test_a_queue_in_which_others_have_the_quota_measures_nothing() -> None:
    workloads: Any = SimpleNamespace(of=lambda _: WAITS, wait=lambda *_: False)
    with pytest.raises(ProblemError) as found:
        quota_stage(workloads).fill("filler", 100)
    problem = found.value.problem
    assert problem.reason == "quota_in_use"
    assert "a pod of 100 m CPU to the LocalQueue q, which can give 225 m" in problem.text
    assert SENTENCE in problem.text


def test_a_gang_with_quota_and_no_node_measures_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = Start(room_at=0, size=4, bound=[])
    monkeypatch.setattr(Stage, "start", lambda *_: nowhere)
    workloads: Any = SimpleNamespace(losses=lambda *_: [], sync=lambda: None)
    stage = quota_stage(workloads, refused=lambda _: True)
    stage.plain("gang", "control", 3)
    with pytest.raises(ProblemError) as found:
        stage.start("gang", 0)
    assert found.value.problem.reason == "no_room_on_nodes"
    assert "no node had room for 3 of its 4 pods" in found.value.problem.text


@pytest.mark.parametrize(
    ("flavors", "text"),
    [
        ({}, "did not report how much CPU the LocalQueue team can give"),
        ({"spot": "1", "fixed": "2"}, "the LocalQueue team has 2 flavors of CPU"),
    ],
)
def test_a_queue_must_have_one_flavor_of_cpu(
    monkeypatch: pytest.MonkeyPatch, flavors: dict[str, str], text: str
) -> None:
    monkeypatch.setattr(queues, "require_active", lambda *_: None)
    monkeypatch.setattr(queues, "_ask", lambda *_: flavors)
    nothing: Any = None
    with pytest.raises(ProblemError, match=text) as found:
        queues.users_queue(nothing, api.Api("v1beta2"), nothing, "team")
    assert found.value.problem.reason == "quota_unknown"


@pytest.mark.parametrize(
    ("conditions", "reason", "text"),
    [
        ([], "controller_silent", "the LocalQueue team has no condition Active"),
        (
            [{"type": "Active", "status": "False", "reason": "Stopped", "message": "is stopped"}],
            "queue_inactive",
            "the LocalQueue team accepts no work: Stopped: is stopped",
        ),
    ],
)
def test_a_queue_must_accept_work(
    monkeypatch: pytest.MonkeyPatch, conditions: list[Object], reason: str, text: str
) -> None:
    def wait_for(*_: object, goal: Callable[[Object], bool], **__: object) -> None:
        assert not goal({"status": {"conditions": conditions}})
        raise HarnessError(Reason.TIMEOUT, "late")

    monkeypatch.setattr(wait, "wait_for", wait_for)
    trial: Any = SimpleNamespace(cluster=None, namespace="n", number=lambda _: 1)
    with pytest.raises(ProblemError, match=text) as found:
        queues.require_active(trial, api.Api("v1beta2"), "team")
    assert found.value.problem.reason == reason


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("health: {}", PodsReady(on=False)),
        ("waitForPodsReady: {enable: false, timeout: 5m}", PodsReady(on=False)),
        ("waitForPodsReady: {timeout: 5m}", PodsReady(on=True, timeout="5m")),
        (
            "waitForPodsReady: {enable: true, blockAdmission: true}",
            PodsReady(on=True, timeout="30m", blocks=True),
        ),
        ("- a list", None),
        ("a: [", None),
    ],
)
def test_the_configuration_says_what_becomes_of_a_gang_that_is_not_ready(
    config: str, expected: PodsReady | None
) -> None:
    assert wait_for_pods_ready(config) == expected


def test_who_may_not_read_the_configuration_is_told_what_was_not_read() -> None:
    asked: list[tuple[str, str]] = []

    def refuse(_: object, name: str, namespace: str) -> Object:
        asked.append((name, namespace))
        raise HarnessError(Reason.FORBIDDEN, "no")

    trial: Any = SimpleNamespace(cluster=SimpleNamespace(find=refuse))
    assert pods_ready(trial) is None
    assert asked == [("kueue-manager-config", "kueue-system")]
    found = guaranteed(Guarantee(by_quota=RAN, pods_ready=None, quota=225))
    assert found["waitForPodsReady"] == (
        "could not be read in the ConfigMap kueue-manager-config of kueue-system"
    )


RAN = Fragmented(size=4, bound=3, admitted=True)
HELD = Fragmented(size=4, bound=0, admitted=False, said="no fit")
OFF, ON = PodsReady(on=False), PodsReady(on=True, timeout="5m")


@pytest.mark.parametrize(
    ("by_quota", "ready", "expected"),
    [
        (RAN, OFF, "quota only: the gang was admitted, and 3 of its 4 pods got a node"),
        (RAN, ON, "quota, and a timeout until all pods are ready: the gang was admitted, and 3 "),
        (RAN, None, "quota; whether a timeout applies until all pods are ready is unknown: "),
        (HELD, OFF, "placement: the gang was held back as a whole"),
    ],
)
def test_the_level_of_the_guarantee_in_words(
    by_quota: Fragmented, ready: PodsReady | None, expected: str
) -> None:
    guarantee = Guarantee(by_quota=by_quota, pods_ready=ready, quota=225)
    assert guaranteed(guarantee)["level of the guarantee"].startswith(expected)


@pytest.mark.parametrize(
    ("topology", "nodes", "expected"),
    [
        (HELD, 1800, {"topology-aware scheduling": "the same gang in a queue of ours with a "
                      "topology: held back as a whole"}),
        (Problem(reason="no_topology", text="not served"), 1800,
         {"topology-aware scheduling": "could not be tried: not served"}),
        (None, 1800, {}),
        (None, None, {}),
        (None, 200, {"quota larger than the cluster": "225 m CPU can be given, and the nodes have "
                     "200 m: a gang may be admitted that has no room"}),
    ],
)  # fmt: skip
def test_what_else_is_told_of_the_guarantee(
    topology: Fragmented | Problem | None, nodes: int | None, expected: dict[str, str]
) -> None:
    guarantee = Guarantee(
        by_quota=RAN, by_topology=topology, pods_ready=OFF, quota=225, nodes=nodes
    )
    found = guaranteed(guarantee)
    always = {"API", "level of the guarantee", "waitForPodsReady"}
    assert {key: value for key, value in found.items() if key not in always} == expected


def guaranteed(guarantee: Guarantee) -> dict[str, str]:
    """The facts of a finding that has nothing but this."""
    backend = BackendObservation(version="kueue.x-k8s.io/v1beta2", guarantee=guarantee)
    seen = GangObservation(
        trial="gang",
        evidence=Evidence.SYNTHETIC,
        started=now(),
        finished=now(),
        looked_for=[],
        backends={"kueue": backend},
    )
    (found,) = judging.judge("gang.all_or_nothing", seen, default())
    assert found.outcome.value == "not_run"
    return {one.name: one.value for one in found.facts}


class Follows:
    """Stands in for the watches: the test tells what they show."""

    made: list[Follows]

    def __init__(self, _: object, kind: object, __: str, note: Any, **___: object) -> None:
        self.note, self.closed = note, False
        self.alive, self.misses = True, 0
        self.server: list[Object] = []
        self.made.append(self)

    def check(self) -> bool:
        """Note what the watch has not shown."""
        for item in self.server:
            self.note("LISTED", item)
        return not self.server

    def close(self) -> None:
        self.closed = True


def local_queue(active: str, **spec: str) -> Object:
    said = {"type": "Active", "status": active, "reason": "Stopped", "message": "is stopped"}
    return {
        "kind": "LocalQueue",
        "metadata": {"name": "q"},
        "spec": spec,
        "status": {"conditions": [said]},
    }


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> QueueRoom:
    Follows.made = []
    monkeypatch.setattr("kar_checks.checks.gang.kueue.queue.Follower", Follows)
    trial: Any = SimpleNamespace(cluster=None, namespace="n")
    queue = Queue(name="q", free=225, cluster_queue="q")
    return QueueRoom(trial, api.Api("v1beta2"), queue, None, 1)


def test_a_queue_that_is_stopped_meanwhile_is_a_disturbance(room: QueueRoom) -> None:
    note = Follows.made[0].note
    note("ADDED", local_queue("True"))
    room.arm(0.5)
    note("MODIFIED", local_queue("True"))
    assert room.disarm() == []
    room.arm(0.5)
    note("MODIFIED", local_queue("False"))
    found = room.disarm()
    assert [one.reason for one in found] == ["quota_changed"]
    assert "LocalQueue q was changed or stopped (Stopped: is stopped)" in found[0].text


def test_a_quota_that_is_changed_meanwhile_is_a_disturbance(room: QueueRoom) -> None:
    note = Follows.made[1].note
    quota: Object = {"kind": "ClusterQueue", "metadata": {"name": "q"}, "spec": {"quota": 1}}
    note("ADDED", quota)
    room.arm(0.5)
    note("MODIFIED", {**quota, "status": {"pendingWorkloads": 1}})
    assert room.disarm() == []
    room.arm(0.5)
    note("MODIFIED", {**quota, "spec": {"quota": 2}})
    note("DELETED", {**quota, "spec": {"quota": 2}})
    assert len(room.disarm()) == 2
    assert (room.alive, room.misses) == (True, 0)
    room.close()
    assert all(one.closed for one in Follows.made)


def test_the_verdict_says_that_it_is_about_a_quota() -> None:
    squeeze = Squeeze(
        arena=Arena(kind="quota", node="ClusterQueue q", free=225, member=50, places=2.5),
        groups=[],
        size=4,
        fitting=2,
        control=2,
        window=Window(
            began=0,
            ended=31,
            watched=True,
            bound=[],
            pulse=Pulsed(
                began=0,
                ended=31,
                beats={
                    "Kueue": [Beat(asked=one, answered=one) for one in range(-1, 34, 2)],
                },
                lost=0,
            ),
        ),
        refusal=Refusal(
            refused=True,
            condition=f"QuotaReserved=False, Pending: {SENTENCE}",
            needs_event=False,
            source="Workload",
        ),
        witness=Witness(asked=2, bound=2, seconds=0.4),
    )
    seen = GangObservation(
        trial="gang",
        evidence=Evidence.SYNTHETIC,
        started=now(),
        finished=now(),
        looked_for=[],
        backends={"kueue": BackendObservation(version="kueue.x-k8s.io/v1beta2", squeeze=squeeze)},
    )
    (found,) = judging.judge("gang.all_or_nothing", seen, default())
    assert (found.outcome.value, found.reason) == ("pass", "nothing_started")
    facts = {one.name: one for one in found.facts}
    assert facts["room"].value == "2.5 places of 50 m CPU in the quota of ClusterQueue q"
    assert facts["refusal"].source == "Workload"
