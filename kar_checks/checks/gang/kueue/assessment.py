"""How Kueue is assessed: the scenarios of every gang scheduler, in queues instead of on nodes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import partial

from kar_checks.checks.gang.bench import Bench
from kar_checks.checks.gang.kueue import api as kueue
from kar_checks.checks.gang.kueue.guarantee import all_nodes, fragmented, pods_ready
from kar_checks.checks.gang.kueue.queue import (
    Queue,
    QueueRoom,
    Undisturbed,
    own_queue,
    users_queue,
)
from kar_checks.checks.gang.kueue.stage import Groups, QueuedPods, QuotaStage
from kar_checks.checks.gang.observation import Canary, Fragmented, Guarantee, Problem, Scenario
from kar_checks.checks.gang.placement import SCENARIOS, SIZE, Script, scripts
from kar_checks.checks.gang.pods import Shape, pod
from kar_checks.checks.gang.stage import HALF, WATCH_SECONDS, Place, ProblemError
from kar_checks.checks.gang.watching import GANG_LABEL
from kar_checks.cluster import kinds
from kar_checks.cluster.errors import ApiError, HarnessError
from kar_checks.cluster.facts import Facts
from kar_checks.kit.pulse import NOWHERE, Pulse, Pulses
from kar_checks.kit.trial import Trial
from kar_checks.model import Reason, Record

JOBS: dict[str, tuple[str, ...]] = {"fits": ("gang",), "contest": ("other",)}
"""The gangs that are Jobs, by scenario: both forms run, wait and are let in."""


class Kueue:
    """See :class:`bench.Assessment`."""

    name = "kueue"
    looks_for = Groups.looks_for

    def __init__(self, local_queue: str) -> None:
        self._local_queue = local_queue
        self._users_turn = threading.Lock()
        self._api = kueue.Api(kueue.VERSIONS[0])

    def detect(self, facts: Facts) -> str:
        """Take the newest version in the server's discovery."""
        found = kueue.detect(facts)
        if found is None:
            return ""
        self._api = found
        return found.api_version

    def canary(self, trial: Trial) -> Canary | Problem:
        """Create a member for no queue, and see whether Kueue takes it and holds it back."""
        shape = Shape(
            hostname=NOWHERE,
            image=trial.workspace.target.image("python"),
            probe=trial.mount_probe("gang_member"),
            millicores=int(trial.number("gang.member_millicores")),
        )
        group = f"{self.name}-canary"
        with self._workloads(trial) as workloads:
            groups = Groups(self._api, workloads, group)
            size = groups.create_group(trial, group, SIZE)
            member = pod(shape, group=group, role="gang", rank=0, size=size)
            stored = trial.workspace.create(kinds.POD, groups.join(member, group))
            try:
                if not groups.joined(stored, group):
                    return groups.why_not_joined(trial, stored)
            finally:
                trial.workspace.delete(kinds.POD, str(stored["metadata"]["name"]))
        return Canary.of(stored)

    def parts(self, bench: Bench) -> Mapping[str, Callable[[], Record]]:
        """Return the selected scenarios, each in a queue of its own, or in turns in the user's."""
        selected = bench.trial.selected
        scenarios: dict[str, Callable[[], Record]] = {
            name: partial(self._play, bench, name, script)
            for name, script in scripts(selected).items()
        }
        if "gang.all_or_nothing" in selected:
            scenarios["guarantee"] = partial(self._guarantee, bench)
        return scenarios

    @contextmanager
    def _workloads(self, trial: Trial) -> Iterator[kueue.Workloads]:
        found = kueue.Workloads(trial.cluster, self._api, trial.namespace, WATCH_SECONDS)
        try:
            yield found
        finally:
            found.close()

    @contextmanager
    def _queue(
        self, trial: Trial, workloads: kueue.Workloads, name: str, *, by_topology: bool
    ) -> Iterator[Queue]:
        if self._local_queue:
            with self._users_turn:
                yield users_queue(trial, self._api, workloads, self._local_queue)
            return
        free = int((SIZE + HALF) * trial.number("gang.member_millicores"))
        with own_queue(trial, self._api, name, free, by_topology=by_topology) as queue:
            yield queue

    def _play(self, bench: Bench, name: str, script: Script) -> Scenario | Problem:
        """Run one scenario."""
        try:
            with self._stage(bench, name) as stage:
                seen = stage.play(script)
                if isinstance(seen, Scenario):
                    bench.figures.append(stage.figure(*SCENARIOS[name]))
                return seen
        except ProblemError as error:
            return error.problem

    def _guarantee(self, bench: Bench) -> Guarantee | Problem:
        """Find out what holds beyond the quota."""
        try:
            with self._stage(bench, "fragmented") as stage:
                by_quota, quota = fragmented(stage), stage.free
        except ProblemError as error:
            return error.problem
        by_topology: Fragmented | Problem | None = None
        if not self._local_queue:
            try:
                with self._stage(bench, "topology", by_topology=True) as stage:
                    by_topology = fragmented(stage)
            except ProblemError as error:
                by_topology = error.problem
            except ApiError as error:
                by_topology = Problem(reason="no_topology", text=error.server_message)
        return Guarantee(
            by_quota=by_quota,
            by_topology=by_topology,
            pods_ready=pods_ready(bench.trial),
            quota=quota,
            nodes=all_nodes(bench.trial),
        )

    def _pulse(self, bench: Bench) -> Pulse:
        """Return the pulse of Kueue's controller, over a watch of Workloads of its own."""
        trial = bench.trial
        workloads: list[kueue.Workloads] = []

        def follow(pulse: Pulse) -> Callable[[], object]:
            found = kueue.Workloads(trial.cluster, self._api, trial.namespace, WATCH_SECONDS)
            workloads.append(found)
            found.proves(pulse)
            return found.close

        def renew() -> None:
            for one in workloads:
                one.sync()

        prover = QueuedPods(trial, self._api, {GANG_LABEL: "pulse"})
        return bench.beating(self.name, prover, renew, follow)

    @contextmanager
    def _stage(self, bench: Bench, name: str, *, by_topology: bool = False) -> Iterator[QuotaStage]:
        """Have a queue, and a node where there is one; leave nothing in them, however it ends.

        Raises:
            ProblemError: there is no queue to work in.
        """
        trial = bench.trial
        pulses = Pulses(trial.profile, bench.pulse(Groups.scheduler), self._pulse(bench))
        with ExitStack() as stack:
            node = stack.enter_context(_node(bench))
            stack.enter_context(pulses.needed())
            workloads = stack.enter_context(self._workloads(trial))
            queue = stack.enter_context(
                self._queue(trial, workloads, name, by_topology=by_topology)
            )
            room = QueueRoom(trial, self._api, queue, node.room if node else None, WATCH_SECONDS)
            stack.callback(room.close)
            stage = QuotaStage(
                name,
                trial,
                Groups(self._api, workloads, queue.name),
                Place(
                    hostname=node.hostname if node else "",
                    room=room,
                    around=node.around if node else Undisturbed(),
                ),
                bench.own,
                pulses,
                queue=queue,
                workloads=workloads,
                jobs=JOBS.get(name, ()),
            )
            try:
                yield stage
            finally:
                # What cannot be removed stays registered: the cleanup tries again, and tells.
                with suppress(HarnessError):
                    stage.close()


@contextmanager
def _node(bench: Bench) -> Iterator[Place | None]:
    """Have a node alone, so that nobody's measurement meets our pods there.

    Who may not list nodes measures nothing else that needs one: then pods run anywhere.
    """
    with ExitStack() as stack:
        try:
            place = stack.enter_context(bench.node())
        except HarnessError as error:
            if error.fault.reason is not Reason.FORBIDDEN:
                raise
            place = None
        yield place
