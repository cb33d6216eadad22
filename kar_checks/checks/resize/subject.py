"""A pod under test: started, changed through ``/resize``, watched, and asked from inside."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from kar_checks.checks.resize import kernel as rules
from kar_checks.checks.resize.observation import (
    Answer,
    Arena,
    Burn,
    Case,
    Kernel,
    Look,
    NodeSigns,
    Patch,
    Resources,
    Snapshot,
    Step,
    look,
    resources,
)
from kar_checks.checks.resize.plans import ContainerPlan, Plan
from kar_checks.checks.resize.state import at_rest, deferred, refused_as_infeasible
from kar_checks.checks.trial import Trial, manifest
from kar_checks.cluster import kinds, pods, wait
from kar_checks.cluster.client import Object
from kar_checks.cluster.errors import ApiError, HarnessError
from kar_checks.model import Reason
from kar_checks.store import now

PROBE = "resize_probe"
_TRIES = 3
_PAUSE_SECONDS = 1.0


def pod_manifest(
    plan: Plan, *, image: str, config_map: str, hostname: str = "", pod: str = ""
) -> Object:
    """Return a plan's pod; with ``hostname`` only that node takes it."""
    return manifest(
        "resize/pod.yaml.j2",
        name=pod or plan.pod,
        plans=plan.containers,
        image=image,
        config_map=config_map,
        hostname=hostname,
    )


def patch_body(change: Mapping[str, Resources], containers: tuple[ContainerPlan, ...]) -> Object:
    """Return a change as a strategic merge patch of the containers that it names."""
    spec: dict[str, list[Object]] = {}
    for one in containers:
        if one.name in change:
            entry = {"name": one.name, "resources": change[one.name]}
            spec.setdefault(one.room, []).append(entry)
    return {"spec": spec}


class Subject:
    """One pod of a case, and what was seen of it so far."""

    def __init__(self, trial: Trial, plan: Plan, *, hostname: str = "") -> None:
        self._trial = trial
        self._plan = plan
        self._hostname = hostname
        self._kept = {one.name: secrets.token_hex(8) for one in plan.containers}
        self._steps: list[Step] = []
        self._start: Snapshot | None = None
        self._node = ""
        self._trace: dict[str, list[tuple[datetime, Kernel]]] = {
            one.name: [] for one in plan.containers
        }

    @property
    def now_held(self) -> Snapshot:
        """The pod as it was seen last."""
        for step in reversed(self._steps):
            if step.after is not None:
                return step.after
        assert self._start is not None, "the pod has not been started"  # noqa: S101
        return self._start

    def start(self) -> None:
        """Create the pod, and give each first process something to remember.

        Raises:
            HarnessError: it was refused or does not start.
        """
        trial = self._trial
        body = pod_manifest(
            self._plan,
            image=trial.workspace.target.image("python"),
            config_map=trial.mount_probe(PROBE),
            hostname=self._hostname,
        )
        pod = trial.start_pod(body)
        self._node = str(pod["spec"]["nodeName"])
        start = self.snapshot()
        if start.silence:
            raise HarnessError(
                Reason.POD_FAILED, f"the probe in pod {self._plan.pod} is silent: {start.silence}"
            )
        self._start = start

    def spin(self, seconds: float) -> None:
        """Run a busy loop under the first limit, and take that for the beginning."""
        self._start = self.snapshot(burn=seconds)

    def case(self, arena: Arena | None = None) -> Case:
        """Return everything that was seen."""
        info = [
            one for one in self._trial.facts.nodes or [] if one["metadata"]["name"] == self._node
        ]
        assert self._start is not None, "the pod has not been started"  # noqa: S101
        return Case(
            name=self._plan.name,
            pod=self._plan.pod,
            node=self._node,
            kubelet=str(info[0]["status"]["nodeInfo"]["kubeletVersion"]) if info else "",
            kept=self._kept,
            sent={one.name: one.resources for one in self._plan.containers},
            start=self._start,
            steps=self._steps,
            kernel_trace=self._trace,
            arena=arena,
        )

    # -- looking ----------------------------------------------------------------------------

    def snapshot(self, *, burn: float = 0) -> Snapshot:
        """Ask each container, then read the pod, so that the pod's state is the younger one."""
        answers: dict[str, Answer] = {}
        silence = ""
        for one in self._plan.containers:
            try:
                answers[one.name] = self._ask(one, burn)
            except HarnessError as error:
                if error.fault.reason in (Reason.FORBIDDEN, Reason.INTERRUPTED):
                    raise
                silence = f"{one.name}: {error.fault.message}"
        return Snapshot(look=look(self._get()), answers=answers, silence=silence)

    def _get(self) -> Object:
        return self._trial.cluster.get(kinds.POD, self._plan.pod, self._trial.namespace)

    def _ask(self, container: ContainerPlan, burn: float) -> Answer:
        nonce = secrets.token_hex(8)
        question = {"nonce": nonce}
        if self._start is None:
            # Only now: a process that is started later must not be able to prove it.
            question["keep"] = self._kept[container.name]
        if burn:
            question["burn"] = str(burn)
        argv = ["python3", "-I", "-S", f"/probe/{PROBE}.py", "ask", container.socket]
        argv.append(json.dumps(question))
        trouble = ""
        for left in reversed(range(_TRIES)):
            try:
                done = self._trial.exec(self._plan.pod, argv, container=container.name)
                if done.exit_code == 0:
                    said, ended = json.loads(done.stdout), time.time()
                    self._trace[container.name] += _trace(said, ended)
                    return _answer(said, nonce, ended)
                trouble = f"exit code {done.exit_code}: {done.stderr.strip()[-300:]}"
            except (HarnessError, ValueError) as error:
                final = (Reason.FORBIDDEN, Reason.TIMEOUT)
                if isinstance(error, HarnessError) and error.fault.reason in final:
                    raise
                trouble = str(error)
            if left:
                self.pause()
        raise HarnessError(Reason.POD_FAILED, trouble)

    def pause(self) -> None:
        """Wait a moment between two looks at what cannot be watched.

        Raises:
            HarnessError: the run is being interrupted.
        """
        if self._trial.cluster.stopping.wait(_PAUSE_SECONDS):
            raise HarnessError(Reason.INTERRUPTED, "interrupted")

    # -- changing ---------------------------------------------------------------------------

    def resize(
        self, name: str, change: dict[str, Resources], *, restart: bool = False, burn: float = 0
    ) -> Step:
        """Make a change that must go through, and look at it when it has come to rest."""
        step, pod = self._send(name, change, "restart" if restart else "resize")
        if pod is None:
            return self._keep(step, {"after": self.snapshot()})
        return self.await_rest(step, pod, burn=burn)

    def resize_in_vain(self, name: str, change: dict[str, Resources], *, infeasible: bool) -> Step:
        """Ask for what must not happen; an accepted request is watched until it is refused."""
        step, pod = self._send(name, change, "infeasible" if infeasible else "refusal")
        if pod is None or not infeasible:
            return self._keep(step, {"after": self.snapshot()})
        generation = step.patch.generation or 0
        wanted = self._wanted(change)
        return self._watch(
            step,
            pod,
            lambda seen: (
                refused_as_infeasible(seen)
                or at_rest(seen, wanted, generation, tracked=self._tracked)
            ),
            lambda: self.snapshot(),
        )

    def defer(self, name: str, change: dict[str, Resources]) -> tuple[Step, Object | None]:
        """Ask for what does not fit now; ends when the kubelet says so, or has done it.

        Returns the unfinished step and the pod's last state, for :meth:`await_rest`.
        """
        step, pod = self._send(name, change, "resize")
        if pod is None:
            return self._keep(step, {"after": self.snapshot()}), None
        wanted, generation = self._wanted(change), step.patch.generation or 0
        looks, last, replaced = self._follow(
            pod,
            lambda seen: (
                deferred(seen)
                or refused_as_infeasible(seen)
                or at_rest(seen, wanted, generation, tracked=self._tracked)
            ),
        )
        step = step.model_copy(update={"looks": looks, "replaced": replaced})
        if replaced or not deferred(looks[-1]):
            return self._keep(step, {"after": None if replaced else self.snapshot()}), None
        return step, last

    def await_rest(self, step: Step, pod: Object, *, burn: float = 0) -> Step:
        """Watch until the change that ``step`` sent is done."""
        wanted = self._wanted(step.patch.wanted)
        generation = step.patch.generation or 0
        return self._watch(
            step,
            pod,
            lambda seen: at_rest(seen, wanted, generation, tracked=self._tracked),
            lambda: self._kernel_followed(burn),
        )

    @property
    def _tracked(self) -> bool:
        return self.now_held.look.observed_generation is not None

    def _wanted(self, change: Mapping[str, Resources]) -> dict[str, Resources]:
        held = {name: one.spec for name, one in self.now_held.look.containers.items()}
        return {name: rules.merged(held[name], more) for name, more in change.items()}

    def _send(
        self, name: str, change: dict[str, Resources], expect: Any
    ) -> tuple[Step, Object | None]:
        body = patch_body(change, self._plan.containers)
        at = now()
        try:
            pod = self._trial.cluster.patch(
                kinds.POD, self._plan.pod, body, self._trial.namespace, subresource="resize"
            )
        except ApiError as error:
            patch = Patch(
                at=at,
                wanted=change,
                status=error.status,
                message=error.server_message,
                reason=error.fault.reason.value,
            )
            return Step(name=name, expect=expect, patch=patch), None
        spec = pod["spec"]
        stored = {
            str(one["name"]): resources(one.get("resources"))
            for one in [*(spec.get("initContainers") or []), *spec["containers"]]
        }
        patch = Patch(
            at=at,
            wanted=change,
            status=200,
            generation=int(pod["metadata"].get("generation") or 0),
            stored=stored,
        )
        return Step(name=name, expect=expect, patch=patch), pod

    def _watch(
        self,
        step: Step,
        pod: Object,
        goal: Callable[[Look], bool],
        finish: Callable[[], Snapshot],
    ) -> Step:
        looks, _, replaced = self._follow(pod, goal)
        looks = [*step.looks, *looks]
        if replaced:
            return self._keep(step, {"looks": looks, "replaced": replaced})
        reached = goal(looks[-1])
        after = finish() if reached else self.snapshot()
        signs = None if reached else self._signs(after)
        found = {"looks": looks, "settled": reached, "after": after, "signs": signs}
        return self._keep(step, found)

    def _keep(self, step: Step, found: dict[str, Any]) -> Step:
        done = step.model_copy(update=found)
        self._steps.append(done)
        return done

    def _follow(self, pod: Object, goal: Callable[[Look], bool]) -> tuple[list[Look], Object, str]:
        """Watch the pod; returns every state, the last one raw, and how it was replaced."""
        uid = str(pod["metadata"]["uid"])
        expected = self.now_held.look.uid
        looks: list[Look] = []
        last = pod

        def reached(state: Object) -> bool:
            nonlocal last
            last = state
            looks.append(look(state))
            return goal(looks[-1])

        try:
            wait.wait_for(
                self._trial.cluster,
                kinds.POD,
                self._plan.pod,
                self._trial.namespace,
                goal=reached,
                seconds=self._trial.number("resize.settle_seconds"),
                what=f"pod {self._plan.pod}",
                hopeless=lambda state: _other(state, uid) or pods.hopeless(state),
                describe=_describe,
                report=self._trial.report,
                begin=pod,
            )
        except HarnessError as error:
            if error.fault.reason is not Reason.TIMEOUT:
                if replaced := self._replaced(uid):
                    return looks, last, replaced
                raise
        if uid != expected:
            return looks, last, f"the answer came from a pod with UID {uid}, ours had {expected}"
        return looks, last, ""

    def _replaced(self, uid: str) -> str:
        found = self._trial.cluster.find(kinds.POD, self._plan.pod, self._trial.namespace)
        if found is None:
            return "the pod was deleted by somebody"
        if found["metadata"]["uid"] != uid:
            return f"a new pod of the same name has UID {found['metadata']['uid']}, ours had {uid}"
        return "the pod is being deleted" if "deletionTimestamp" in found["metadata"] else ""

    def _kernel_followed(self, burn: float) -> Snapshot:
        """Look inside until the kernel agrees with the spec, for the time that it may need."""
        deadline = time.monotonic() + self._trial.number("resize.kernel_seconds")
        earlier = self.now_held
        while True:
            seen = self.snapshot()
            if _agrees(seen, earlier) or time.monotonic() >= deadline:
                return self.snapshot(burn=burn) if burn else seen
            self.pause()

    def _signs(self, after: Snapshot) -> NodeSigns:
        try:
            lease = self._trial.cluster.get(kinds.LEASE, self._node, "kube-node-lease")
            renewed = datetime.fromisoformat(str(lease["spec"]["renewTime"]))
        except (ApiError, KeyError, ValueError):
            renewed = None
        return NodeSigns(lease_renewed=renewed, exec_answered=bool(after.answers))


def _other(pod: Object, uid: str) -> HarnessError | None:
    if pod["metadata"]["uid"] == uid:
        return None
    return HarnessError(Reason.POD_FAILED, "the pod was replaced by somebody")


def _describe(pod: Object) -> str:
    conditions = [f"{one.type} {one.reason}".strip() for one in look(pod).conditions]
    return ", ".join(conditions) or pods.describe(pod)


def _agrees(seen: Snapshot, earlier: Snapshot) -> bool:
    """Say whether the kernel follows the spec, and the status knows of a restart if there was one.

    What cannot be read does not get better by waiting.
    """
    for name, answer in seen.answers.items():
        container = seen.look.containers[name]
        before = earlier.answers.get(name)
        if (
            before
            and before.pid1_started != answer.pid1_started
            and (container.restart_count == earlier.look.containers[name].restart_count)
        ):
            return False
        try:
            if any(rules.differs(one) for one in rules.compare(answer.kernel, container.spec)):
                return False
        except rules.NotObservableError:
            continue
    return not seen.silence


def _answer(said: dict[str, Any], nonce: str, ended: float) -> Answer:
    burned: dict[str, float] = said.get("burned") or {}
    counters: dict[str, int] = said["counters"]

    usage = burned.get("usage_ns")
    return Answer(
        at=datetime.fromtimestamp(ended, UTC),
        nonce=nonce,
        proof=said["proof"],
        pid1_started=said["started"],
        kernel=_kernel(said, said["values"]),
        memory_bytes=counters.get("memory_bytes"),
        burn=Burn(
            seconds=burned["seconds"],
            usage_seconds=None if usage is None else usage / 1e9,
            nr_periods=_whole(burned.get("nr_periods")),
            nr_throttled=_whole(burned.get("nr_throttled")),
        )
        if burned
        else None,
    )


def _trace(said: dict[str, Any], ended: float) -> list[tuple[datetime, Kernel]]:
    """Return the changes that a probe saw; its clock is moved to ours by the end of the call."""
    skew = timedelta(seconds=ended - float(said["now"]))
    return [
        (datetime.fromtimestamp(at, UTC) + skew, _kernel(said, files))
        for at, files in said["changes"]
    ]


def _kernel(said: dict[str, Any], files: dict[str, str]) -> Kernel:
    return Kernel(version=said["version"], page=said["page"], files=files)


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
