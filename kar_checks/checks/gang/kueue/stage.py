"""A scenario whose room is a quota: everything goes through a queue, as Job or as single pods."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from kar_checks.checks.gang import pods as objects
from kar_checks.checks.gang.kueue import api as kueue
from kar_checks.checks.gang.kueue.queue import Queue
from kar_checks.checks.gang.observation import Arena, Disturbance, Problem, Refusal, Start
from kar_checks.checks.gang.pods import DEFAULT_SCHEDULER, JOB_RANK_LABEL
from kar_checks.checks.gang.stage import Place, ProblemError, Stage, size_changed
from kar_checks.checks.gang.watching import OwnPods
from kar_checks.cluster import kinds, pods
from kar_checks.cluster.client import Object
from kar_checks.cluster.facts import Facts
from kar_checks.cluster.kinds import Kind
from kar_checks.kit.pulse import NOWHERE, PlainPods, Pulses
from kar_checks.kit.trial import Trial
from kar_checks.kit.words import Reasons

verdict = Reasons(__package__)

_EVENTS = "involvedObject.kind=Workload,reason=Pending"


class Groups:
    """The gangs of one scenario, for :class:`Stage`; see :class:`backend.GangBackend`."""

    name = "kueue"
    looks_for = "Workload of kueue.x-k8s.io (Kueue)"
    scheduler = DEFAULT_SCHEDULER

    def __init__(self, api: kueue.Api, workloads: kueue.Workloads, queue: str) -> None:
        self._api, self._workloads, self._queue = api, workloads, queue
        self._sizes: dict[str, int] = {}
        self._owners: dict[str, str] = {}

    def detect(self, facts: Facts) -> str:
        """Return the API that is served."""
        found = kueue.detect(facts)
        return found.api_version if found else ""

    def create_group(self, trial: Trial, group: str, size: int) -> int:
        """Remember the size: a group has no object of its own before its Workload."""
        self._sizes[group] = size
        return size

    def group_objects(self, group: str) -> Sequence[tuple[Kind, Object]]:
        """Return nothing: the Workloads are watched as a whole."""
        return ()

    def join(self, pod: Object, group: str) -> Object:
        """Add what makes a pod a member of a plain pod group."""
        return kueue.grouped(pod, self._queue, group, self._sizes[group])

    def joined(self, stored: Object, group: str) -> bool:
        """Read it back, with the gate by which Kueue holds the pod."""
        meta = stored["metadata"]
        self._owners.setdefault(group, str(meta["uid"]))
        return (
            kueue.asks(stored, self._queue)
            and (meta.get("labels") or {}).get(kueue.GROUP_LABEL) == group
            and (meta.get("annotations") or {}).get(kueue.COUNT) == str(self._sizes[group])
            and kueue.gated(stored)
        )

    def why_not_joined(self, trial: Trial, stored: Object) -> Problem:
        """Tell a pod that Kueue did not take from one that was changed."""
        return not_taken(stored, self._queue)

    def make(self, trial: Trial, group: str, body: Object) -> None:
        """Create a gang that is a Job.

        Raises:
            ProblemError: Kueue does not hold it.
        """
        stored = trial.workspace.create(kinds.JOB, kueue.queued(body, self._queue))
        self._owners[group] = str(stored["metadata"]["uid"])
        if not kueue.asks(stored, self._queue) or not stored["spec"].get("suspend"):
            raise ProblemError(not_taken(stored, self._queue))
        if kueue.MIN_PARALLELISM in (stored["metadata"].get("annotations") or {}):
            raise ProblemError(_partial(stored))
        if stored["spec"].get("parallelism") != self._sizes[group]:
            raise ProblemError(
                size_changed(self._sizes[group], int(stored["spec"].get("parallelism", 0)))
            )

    def workload(self, group: str) -> Object | None:
        """Return the group's Workload, if it has one yet."""
        return self._workloads.of(self.owner(group))

    def owner(self, group: str) -> str:
        """Return the UID of what its Workload belongs to, empty before that is made."""
        return self._owners.get(group, "")

    def refusal(self, trial: Trial, group: str, pods: Sequence[str]) -> Refusal:
        """Read the Workload's condition and the events on it."""
        workload = self.workload(group)
        if workload is None:
            return Refusal(refused=False)
        uid = workload["metadata"]["uid"]
        events = trial.cluster.list(kinds.EVENT, trial.namespace, fields=_EVENTS).items
        texts = {
            str(one.get("message", ""))
            for one in events
            if (one.get("involvedObject") or {}).get("uid") == uid
        }
        return kueue.refusal(workload).model_copy(
            update={
                "events": sorted(texts)[:4],
                "needs_event": False,
                "source": "Workload that Kueue made for the group",
            }
        )

    def await_refusal(self, trial: Trial, group: str, pods: Sequence[str], seconds: float) -> None:
        """Wait until Kueue looked at the Workload."""

        def decided() -> bool:
            found = self.workload(group)
            return found is not None and (kueue.waits(found) or kueue.admitted(found))

        self._workloads.wait(decided, seconds)

    def delete_group(self, trial: Trial, group: str) -> None:
        """Delete the Workload that Kueue made for our group: it keeps the group's ended pods."""
        found = self.workload(group)
        if found is not None:
            meta = found["metadata"]
            trial.cluster.delete(
                self._api.workload, meta["name"], trial.namespace, uid=str(meta["uid"])
            )


@dataclass(frozen=True)
class QueuedPods:
    """Pulses of Kueue: pods for a queue that does not exist, which take nobody's quota.

    That it is missing is what Kueue's controller says on the Workload that it makes for the pod.
    """

    trial: Trial
    api: kueue.Api
    labels: Mapping[str, str]
    who: str = "Kueue's controller"

    def body(self, name: str) -> Object:
        """Return a pod for no queue."""
        plain = PlainPods(self.trial, DEFAULT_SCHEDULER, self.labels).body(name)
        return kueue.queued(plain, "kar-pulse")

    def shown(self, pod: Object) -> bool:
        """Say nothing: the answer is on the Workload."""
        return False

    def decided(self, pod: Object) -> bool:
        """Say whether Kueue looked at the pod's Workload."""
        name = str(pod["metadata"]["name"])
        found = self.trial.cluster.list(self.api.workload, self.trial.namespace).items
        return any(name in kueue.owners(one) and kueue.waits(one) for one in found)


class QuotaStage(Stage):
    """A scenario in a queue. ``jobs`` names the gangs that are Jobs; the others are plain pods."""

    backend: Groups

    def __init__(
        self,
        name: str,
        trial: Trial,
        groups: Groups,
        place: Place,
        own: OwnPods,
        pulses: Pulses,
        *,
        queue: Queue,
        workloads: kueue.Workloads,
        jobs: Sequence[str] = (),
    ) -> None:
        super().__init__(name, trial, groups, place, own, pulses)
        self._queue, self._workloads, self._jobs = queue, workloads, jobs

    def fill(self, group: str, millicores: int) -> None:
        """Take quota away. In the user's queue without a node: it may be more than any has.

        Raises:
            ProblemError: Kueue did not admit it, so that nothing can be measured.
        """
        one = self._open(group, "filler", 1)
        if millicores <= 0:
            return
        body = objects.filler(self._shape, group=one.name, millicores=millicores)
        if not self._queue.cluster_queue:
            body["spec"]["nodeSelector"] = {"kubernetes.io/hostname": NOWHERE}
        stored = self.trial.workspace.create(kinds.POD, self._alone(body))
        self.own.expect(stored)
        one.names.append(str(stored["metadata"]["name"]))
        self._require_taken(stored)
        uid = str(stored["metadata"]["uid"])

        def has_quota() -> bool:
            return kueue.admitted(self._workloads.of(uid) or {})

        seconds = self.trial.number("gang.control_seconds")
        if not self._workloads.wait(has_quota, seconds):
            said = (
                kueue.refusal(self._workloads.of(uid)).condition
                or "its Workload has no condition QuotaReserved"
            )
            why = verdict(
                "quota_in_use",
                millicores=millicores,
                queue=self._queue.place,
                free=self.free,
                seconds=seconds,
                condition=said or "no condition QuotaReserved",
            )
            raise ProblemError(Problem.of(why))

    def add(self, group: str, ranks: Iterable[int]) -> None:
        """Create members; a Job makes all of its own, so it comes with the first.

        Raises:
            ProblemError: Kueue does not hold what we made.
        """
        if group not in self._jobs:
            super().add(group, ranks)
            return
        one = self._groups[group]
        if 0 in ranks:
            self.backend.make(
                self.trial,
                one.name,
                objects.job(
                    self._shape, group=one.name, size=one.size, meet=one.meet, hold=one.hold
                ),
            )

    def add_homeless(self, group: str, rank: int) -> None:
        """Create a member that fits on no node.

        Raises:
            ProblemError: Kueue does not hold it.
        """
        one = self._groups[group]
        shape = replace(self._shape, hostname=NOWHERE)
        body = objects.pod(shape, group=one.name, role="gang", rank=rank, size=one.size)
        stored = self.trial.workspace.create(kinds.POD, self.backend.join(body, one.name))
        self.own.expect(stored)
        one.names.append(str(stored["metadata"]["name"]))
        self._require_taken(stored)

    def workload(self, group: str) -> Object | None:
        """Return what Kueue made of a gang."""
        return self.backend.workload(self._groups[group].name)

    def names(self, *groups: str) -> list[str]:
        """Return the names of all pods of these groups, whoever made them."""
        return [
            name
            for group in groups
            for name in (
                self.own.named(self._groups[group].name)
                if group in self._jobs
                else self._groups[group].names
            )
        ]

    def start(self, group: str, room_at: float) -> Start:
        """Follow a gang that has quota.

        Raises:
            ProblemError: Kueue let it go, and the nodes had no room: no fault of the quota.
        """
        seen = super().start(group, room_at)
        homeless = [name for name in self.names(group) if self.own.refused(name)]
        if len(seen.bound) < seen.size and homeless:
            self._workloads.sync()
            if not self._taken_back(group):
                why = verdict("no_room_on_nodes", homeless=len(homeless), size=seen.size)
                raise ProblemError(Problem.of(why))
        if seen.completed == seen.size:
            # Its quota is free once Kueue says so, some steps after the last pod has ended.
            self._workloads.wait(
                lambda: pods.is_true(
                    self.backend.workload(self._groups[group].name) or {}, "Finished"
                ),
                self.trial.number("gang.control_seconds"),
            )
        return seen

    def make_room(self, group: str, label: str) -> float:
        """Remove a filler: its quota is free once it is told to go, not once it is gone."""
        moment = self.mark(label)
        self.leave(group)
        return moment

    def _losses(self) -> list[Disturbance]:
        """Return what happened to our own: Kueue ends the pods of what it takes back.

        That is seen by two watches, of which the one of the pods may be ahead.
        """
        self._workloads.sync()
        return [
            one
            for group in self._groups
            for one in (self._taken_back(group) or self.own.losses(self.names(group), self.zero))
        ]

    def _changed_groups(self) -> list[Disturbance]:
        """Return what somebody did to the Workloads of our gangs."""
        gangs = [name for name, one in self._groups.items() if one.min_count is not None]
        return self._workloads.changed(self._owners(*gangs), self.zero)

    def _owners(self, *groups: str) -> set[str]:
        """Return the UIDs of what the Workloads of these groups belong to."""
        jobs = {self.backend.owner(self._groups[group].name) for group in groups}
        members = {str(self.own.latest(name)["metadata"]["uid"]) for name in self.names(*groups)}
        return jobs | members

    def _taken_back(self, group: str) -> list[Disturbance]:
        """Return what preemption did to the Workloads of a group."""
        return self._workloads.losses(self._owners(group), self.zero)

    def arena(self, places: float) -> Arena:
        """Return the record of the quota."""
        return Arena(
            kind="quota",
            node=self._queue.place,
            free=self.free,
            member=self.member,
            places=places,
        )

    def _alone(self, body: Object) -> Object:
        return kueue.queued(body, self._queue.name)

    def _create(self, group: object, body: Object, millicores: int) -> Object:
        stored = super()._create(group, body, millicores)  # type: ignore[arg-type]
        self._require_taken(stored)
        return stored

    def _require_taken(self, stored: Object) -> None:
        if not kueue.asks(stored, self._queue.name) or not kueue.gated(stored):
            raise ProblemError(not_taken(stored, self._queue.name))

    def _refused(self, name: str) -> bool:
        uid = str(self.own.latest(name)["metadata"]["uid"])
        return kueue.waits(self._workloads.of(uid) or {})

    def _meeting_place(self, group: str) -> Object:
        is_job = group in [self._groups[name].name for name in self._jobs if name in self._groups]
        return objects.service(group, JOB_RANK_LABEL) if is_job else objects.service(group)

    def _remove(self, groups: Sequence[str], present: Sequence[str]) -> None:
        """Ask for the end of pods; Kueue keeps ended ones of a group until its Workload goes."""
        jobs = [one for one in groups if one in self._jobs]
        theirs = set(self.names(*jobs))
        for group in jobs:
            self.trial.workspace.delete(kinds.JOB, self._groups[group].name)
        super()._remove(groups, [name for name in present if name not in theirs])
        for group in groups:
            if group not in self._jobs and self._groups[group].min_count is not None:
                self.backend.delete_group(self.trial, self._groups[group].name)


def _partial(job: Object) -> Problem:
    """Return the problem of a Job of which Kueue may admit a part: that is no gang."""
    name = job["metadata"]["name"]
    return Problem.of(verdict("partial_admission", job=name, annotation=kueue.MIN_PARALLELISM))


def not_taken(stored: Object, queue: str) -> Problem:
    """Return the problem of a pod or Job of ours that Kueue does not hold."""
    what = f"the {stored['kind']} {stored['metadata']['name']}"
    if not kueue.asks(stored, queue):
        return Problem.of(verdict("mutated.queue", what=what, label=kueue.QUEUE_LABEL))
    held = kueue.gated(stored) if stored["kind"] == "Pod" else stored["spec"].get("suspend")
    if not held:
        return Problem.of(verdict("not_managed", what=what))
    return Problem.of(
        verdict("mutated.group", what=what, group_label=kueue.GROUP_LABEL, count=kueue.COUNT)
    )
