"""A pod under test: started, changed through ``/resize``, watched, and asked from inside."""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kar_checks.checks.resize import enforced
from kar_checks.checks.resize import kernel as rules
from kar_checks.checks.resize.observation import (
    Answer,
    Arena,
    Burn,
    Case,
    Contest,
    Fill,
    Hold,
    Kernel,
    Look,
    NodeSigns,
    Patch,
    Resources,
    Snapshot,
    Spin,
    Step,
    Use,
    look,
    resources,
)
from kar_checks.checks.resize.plans import ContainerPlan, Plan
from kar_checks.checks.resize.state import at_rest, deferred, refused_as_infeasible
from kar_checks.cluster import kinds, pods, quantity, wait
from kar_checks.cluster.client import Object
from kar_checks.cluster.errors import ApiError, HarnessError
from kar_checks.kit.trial import Trial, manifest
from kar_checks.model import Reason
from kar_checks.store import now

PROBE = "resize_probe"
_TRIES = 3
_PAUSE_SECONDS = 1.0
_ATTEMPTS = 5
"""How often a measurement by use is made until it decides something; noise comes and goes."""
_BURN_SECONDS = 6.0
"""About how long the busy loops of a case take in all, attempts included."""
_LINGER_SECONDS = 10
"""How long a container keeps its page cache, so that the pod's others can fill theirs."""
_MIB = 1 << 20
_ABOVE = {True: 16 * _MIB, False: 48 * _MIB}
"""By how much a file is larger than a limit that grows or stays, or than one that shrinks."""


def pod_manifest(
    plan: Plan, *, image: str, config_map: str, node: str = "", pod: str = ""
) -> Object:
    """Return a plan's pod; with ``node`` only that node takes it."""
    return manifest(
        "resize/pod.yaml.j2",
        name=pod or plan.pod,
        plans=plan.containers,
        image=image,
        config_map=config_map,
        node=node,
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

    def __init__(self, trial: Trial, plan: Plan, *, node: str = "") -> None:
        self._trial = trial
        self._plan = plan
        self._wanted_node = node
        self._kept = {one.name: secrets.token_hex(8) for one in plan.containers}
        self._steps: list[Step] = []
        self._start: Snapshot | None = None
        self._node = ""
        self._changes: dict[str, list[_Change]] = {one.name: [] for one in plan.containers}
        self._ahead: float | None = None
        self._uses: list[Use] = []
        self._hold: Hold | None = None

    @property
    def plan(self) -> Plan:
        """What the case is."""
        return self._plan

    @property
    def node(self) -> str:
        """Where the pod runs."""
        return self._node

    @property
    def settled(self) -> bool:
        """Whether there is something that must hold: each change that had to go through did."""
        must = [one for one in self._steps if one.expect in ("resize", "restart")]
        return bool(must) and all(one.settled for one in must)

    @property
    def now_held(self) -> Snapshot:
        """The pod as it was seen last."""
        for step in reversed(self._steps):
            if step.after is not None:
                return step.after
        assert self._start is not None, "the pod has not been started"  # noqa: S101
        return self._start

    def start(self, labels: Mapping[str, str] | None = None) -> None:
        """Create the pod, and give each first process something to remember.

        ``labels`` come on top of its own.

        Raises:
            HarnessError: it was refused or does not start.
        """
        trial = self._trial
        body = pod_manifest(
            self._plan,
            image=trial.workspace.target.image("python"),
            config_map=trial.mount_probe(PROBE),
            node=self._wanted_node,
        )
        body["metadata"]["labels"].update(labels or {})
        pod = trial.start_pod(body)
        self._node = str(pod["spec"]["nodeName"])
        start = self.snapshot()
        if start.silence:
            raise HarnessError(
                Reason.POD_FAILED,
                f"Pod {self._plan.pod} on node {self._node} did not answer through exec: "
                f"{start.silence}",
                f"check the kubelet, which serves exec: `kubectl describe node {self._node}`",
            )
        self._start = start

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
            kernel_trace={name: self._trace(found) for name, found in self._changes.items()},
            arena=arena,
            hold=self._hold,
            uses=self._uses,
        )

    def _trace(self, changes: Iterable[_Change]) -> list[tuple[datetime, Kernel]]:
        """Return what a probe saw, by our clock.

        The answer that was fastest on its way says best how far the two clocks are apart.
        """
        ahead = self._ahead or 0.0
        return [(datetime.fromtimestamp(one.clock + ahead, UTC), one.kernel) for one in changes]

    # -- looking ----------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """Ask each container, then read the pod, so that the pod's state is the younger one."""
        answers: dict[str, Answer] = {}
        silence = ""
        for one in self._plan.containers:
            try:
                answers[one.name] = self._ask(one)[0]
            except HarnessError as error:
                if error.fault.reason in (Reason.FORBIDDEN, Reason.INTERRUPTED):
                    raise
                silence = f"{one.name}: {error.fault.message}"
        return Snapshot(look=look(self._get()), answers=answers, silence=silence)

    def _get(self) -> Object:
        return self._trial.cluster.get(kinds.POD, self._plan.pod, self._trial.namespace)

    def _ask(
        self, container: ContainerPlan, work: Mapping[str, object] | None = None
    ) -> tuple[Answer, dict[str, Any]]:
        """Ask a first process, after some work of its own; returns both answers."""
        nonce = secrets.token_hex(8)
        known = self._changes[container.name]
        started = known[-1].started if known else 0
        question: dict[str, object] = {
            "nonce": nonce,
            "since": (started, sum(one.started == started for one in known)),
        }
        if self._start is None:
            # Only now: a process that is started later must not be able to prove it.
            question["keep"] = self._kept[container.name]
        if work:
            question["work"] = work
        argv = ["python3", "-I", "-S", f"/probe/{PROBE}.py", "ask", container.socket]
        argv.append(json.dumps(question))
        trouble = ""
        for left in reversed(range(_TRIES)):
            try:
                stdout = self._trial.output(self._plan.pod, argv, container=container.name)
                said, ended = json.loads(stdout), time.time()
                self._learn(container.name, said, ended)
                return _answer(said, nonce, ended), said["work"]
            except (HarnessError, ValueError) as error:
                final = (Reason.FORBIDDEN, Reason.TIMEOUT)
                if isinstance(error, HarnessError) and error.fault.reason in final:
                    raise
                trouble = str(error)
            if left:
                self.pause()
        raise HarnessError(Reason.POD_FAILED, trouble)

    def _learn(self, name: str, said: dict[str, Any], ended: float) -> None:
        ahead = ended - float(said["clock"])
        self._ahead = ahead if self._ahead is None else min(self._ahead, ahead)
        self._changes[name] += [
            _Change(int(said["started"]), clock, _kernel(said, files))
            for clock, files in said["changes"]
        ]

    def pause(self) -> None:
        """Wait a moment between two looks at what cannot be watched.

        Raises:
            HarnessError: the run is being interrupted.
        """
        if self._trial.cluster.stopping.wait(_PAUSE_SECONDS):
            raise HarnessError(Reason.INTERRUPTED, "interrupted")

    # -- measuring by use -------------------------------------------------------------------

    def work(self, container: str, wanted: Mapping[str, object]) -> dict[str, Any]:
        """Let a child of a container's first process do something; returns what it says.

        Raises:
            HarnessError: it could not.
        """
        plan = next(one for one in self._plan.containers if one.name == container)
        _, done = self._ask(plan, wanted)
        if "error" in done:
            raise HarnessError(Reason.MEASUREMENT_FAILED, f"{container}: {done['error']}")
        return done

    def spin(self, container: str, seconds: float, cpu: int) -> Spin:
        """Run a busy loop on one CPU.

        Raises:
            HarnessError: it could not be run.
        """
        done = self.work(container, {"do": "spin", "seconds": seconds, "cpu": cpu})
        return Spin(cpu=cpu, samples=done["samples"], periods=done["periods"])

    def burn(self, seconds: float) -> None:
        """Run busy loops under the CPU limits that are set now, until they decide something.

        They take a few seconds in all: there are fewer attempts with long ones.
        """
        wanted = {"do": "burn", "seconds": seconds}
        burns: dict[str, list[Burn]] = {}
        trouble = ""
        for _ in range(max(2, min(_ATTEMPTS, int(_BURN_SECONDS / seconds)))):
            try:
                found = self._everywhere(dict.fromkeys(self._names, wanted))
            except HarnessError as error:
                trouble = _passing_trouble(error)
                break
            for name, done in found.items():
                burns.setdefault(name, []).append(_burn(done))
            if self._decided(Use(at=now(), steps=len(self._steps), burns=burns)):
                break
            self.pause()
        self._note(burns=burns, trouble=trouble)

    def fill(self) -> None:
        """Fill the page cache beyond the memory limits that are set now."""
        shrinks = self._shrinks()
        works: dict[str, Mapping[str, object]] = {}
        for name, one in self.now_held.look.containers.items():
            if name in self._names and "memory" in one.spec.get("limits", {}):
                limit = int(quantity.parse(one.spec["limits"]["memory"]))
                size = shrinks.get(name, limit) + _ABOVE[name not in shrinks]
                enough = min(limit, size) * self._trial.number("resize.memory_reach")
                works[name] = {
                    "do": "fill",
                    "bytes": size,
                    "enough": int(enough),
                    # Writing takes a disk, and it is slow at a limit: only where a hole did not do.
                    "how": next(
                        (one.fills[name][-1].how for one in self._uses if name in one.fills), ""
                    ),
                    "linger": _LINGER_SECONDS if len(self._names) > 1 else 0,
                }
        fills: dict[str, list[Fill]] = {}
        trouble = ""
        for _ in range(_ATTEMPTS):
            try:
                for name, fill in self._filled(works).items():
                    fills.setdefault(name, []).append(fill)
            except HarnessError as error:
                trouble = _passing_trouble(error)
                break
            if self._decided(Use(at=now(), steps=len(self._steps), fills=fills)):
                break
            self.pause()
        self._note(fills=fills, trouble=trouble)

    def _filled(self, works: Mapping[str, Mapping[str, object]]) -> dict[str, Fill]:
        done = {name: self.work(name, work) for name, work in works.items()}
        if len(works) < 2:
            return {name: _fill(one) for name, one in done.items()}
        gone = min(float(one["until"]) for one in done.values())
        left = {name: self.work(name, {"do": "usage"}) for name in works}
        return {
            name: _fill(one, left[name]["usage"] if left[name]["clock"] < gone else None)
            for name, one in done.items()
        }

    def compete(self, contests: Callable[[], list[Contest]]) -> None:
        """Keep what loops of several pods on one CPU got."""
        try:
            self._note(contests=contests())
        except HarnessError as error:
            self._note(trouble=_passing_trouble(error))

    def fits(self, contest: Contest) -> bool:
        """Say whether a contest went as the requests promise."""
        use = Use(at=now(), steps=len(self._steps), contests=[contest])
        return all(one.verdict == "fits" for one in self._points(use))

    @property
    def _names(self) -> list[str]:
        return [one.name for one in self._plan.containers]

    def _shrinks(self) -> dict[str, int]:
        """Return the memory limits, in bytes, that a step of the plan makes smaller."""
        out: dict[str, int] = {}
        for one in self._plan.containers:
            first = one.resources.get("limits", {}).get("memory")
            for step in self._plan.steps:
                later = step.change.get(one.name, {}).get("limits", {}).get("memory")
                if first and later and quantity.parse(later) < quantity.parse(first):
                    out[one.name] = int(quantity.parse(later))
        return out

    def _everywhere(self, works: Mapping[str, Mapping[str, object]]) -> dict[str, dict[str, Any]]:
        """Let containers work at the same time."""
        with ThreadPoolExecutor(max_workers=max(1, len(works))) as pool:
            jobs = {name: pool.submit(self.work, name, work) for name, work in works.items()}
        return {name: job.result() for name, job in jobs.items()}

    def _points(self, use: Use) -> list[enforced.Point]:
        case = self.case().model_copy(update={"uses": [use]})
        return enforced.points(case, self._trial.profile)

    def _decided(self, use: Use) -> bool:
        """Say whether more attempts can be spared: it fits, or it is off twice in a row."""
        return all(one.decided for one in self._points(use))

    def _note(self, **found: Any) -> None:
        self._uses.append(Use(at=now(), steps=len(self._steps), **found))

    # -- changing ---------------------------------------------------------------------------

    def resize(self, name: str, change: dict[str, Resources], *, restart: bool = False) -> Step:
        """Make a change that must go through, and look at it when it has come to rest."""
        step, pod = self._send(name, change, "restart" if restart else "resize")
        if pod is None:
            return self._keep(step, {"after": self.snapshot()})
        return self.await_rest(step, pod)

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
            self.snapshot,
        )

    def defer(self, name: str, change: dict[str, Resources]) -> tuple[Step, Object | None]:
        """Ask for what does not fit now; ends when the kubelet says so, or has done it.

        Returns the unfinished step and the pod's last state, for :meth:`await_rest`.
        """
        step, pod = self._send(name, change, "resize")
        if pod is None:
            return self._keep(step, {"after": self.snapshot()}), None
        wanted, generation = self._wanted(change), step.patch.generation or 0

        def done(seen: Look) -> bool:
            return at_rest(seen, wanted, generation, tracked=self._tracked)

        looks, last, replaced = self._follow(
            pod, lambda seen: deferred(seen) or refused_as_infeasible(seen) or done(seen)
        )
        step = step.model_copy(update={"looks": looks, "replaced": replaced})
        if not replaced and deferred(looks[-1]):
            return step, last
        if not replaced and refused_as_infeasible(looks[-1]):
            return self._keep(step, {"after": self.snapshot()}), None
        return self._ended(step, done, self._kernel_followed), None

    def await_rest(self, step: Step, pod: Object) -> Step:
        """Watch until the change that ``step`` sent is done."""
        wanted = self._wanted(step.patch.wanted)
        generation = step.patch.generation or 0
        return self._watch(
            step,
            pod,
            lambda seen: at_rest(seen, wanted, generation, tracked=self._tracked),
            self._kernel_followed,
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
        update = {"looks": [*step.looks, *looks], "replaced": replaced}
        return self._ended(step.model_copy(update=update), goal, finish)

    def _ended(
        self, step: Step, goal: Callable[[Look], bool], finish: Callable[[], Snapshot]
    ) -> Step:
        """Look at a step that has been watched; where it was in vain, for signs of the node too."""
        if step.replaced:
            return self._keep(step, {})
        reached = goal(step.looks[-1])
        after = finish() if reached else self.snapshot()
        signs = None if reached else self._signs(after)
        return self._keep(step, {"settled": reached, "after": after, "signs": signs})

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
            if error.fault.reason is Reason.TIMEOUT:
                # A proxy may keep a watch open and deliver nothing.
                with contextlib.suppress(ApiError):
                    reached(self._get())
            else:
                if replaced := self._replaced(uid):
                    return looks, last, replaced
                raise
        if uid != expected:
            return looks, last, f"the answer came from a pod with UID {uid}, ours had {expected}"
        return looks, last, ""

    def finish(self, states: Iterable[Look]) -> None:
        """Look at the pod for the last time; ``states`` are those that a watch brought."""
        known = {one.resource_version for step in self._steps for one in step.looks}
        begin = self._steps[0].patch.at
        self._hold = Hold(
            looks=[one for one in states if one.at >= begin and one.resource_version not in known],
            end=self._answered(),
        )

    def _replaced(self, uid: str) -> str:
        found = self._trial.cluster.find(kinds.POD, self._plan.pod, self._trial.namespace)
        if found is None:
            return "the pod was deleted by somebody"
        if found["metadata"]["uid"] != uid:
            return f"a new pod of the same name has UID {found['metadata']['uid']}, ours had {uid}"
        return "the pod is being deleted" if "deletionTimestamp" in found["metadata"] else ""

    def _kernel_followed(self) -> Snapshot:
        """Look inside until the kernel agrees with the spec, for the time that it may need."""
        deadline = time.monotonic() + self._trial.number("resize.kernel_seconds")
        earlier = self.now_held
        while True:
            seen = self._answered()
            if _agrees(seen, earlier) or time.monotonic() >= deadline:
                return seen
            self.pause()

    def _answered(self) -> Snapshot:
        """Look inside; again, if a container was silent: a busy node is slow to start processes."""
        seen = self.snapshot()
        return self.snapshot() if seen.silence else seen

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
    counters: dict[str, int] = said["counters"]
    return Answer(
        at=datetime.fromtimestamp(ended, UTC),
        nonce=nonce,
        proof=said["proof"],
        pid1_started=said["started"],
        kernel=_kernel(said, said["values"]),
        memory_bytes=counters.get("memory_bytes"),
        node_at=datetime.fromtimestamp(said["now"], UTC),
    )


def _burn(done: dict[str, Any]) -> Burn:
    usage = done.get("usage_ns")
    return Burn(
        seconds=done["seconds"],
        usage_seconds=None if usage is None else usage / 1e9,
        nr_periods=_whole(done.get("nr_periods")),
        nr_throttled=_whole(done.get("nr_throttled")),
        used_seconds=done["used"],
        cpu=done["cpu"],
        idle_seconds=done["idle"],
    )


def _fill(done: dict[str, Any], kept: int | None = None) -> Fill:
    return Fill(
        size=done["bytes"],
        samples=done["samples"],
        high=done["high"],
        available=done["available"],
        kept=kept,
        how=done["how"],
        file_system=done["file_system"],
    )


def _passing_trouble(error: HarnessError) -> str:
    """Return why a measurement failed, unless the run cannot go on at all."""
    if error.fault.reason in (Reason.FORBIDDEN, Reason.INTERRUPTED):
        raise error
    return error.fault.message


@dataclass(frozen=True)
class _Change:
    """What a first process saw in the kernel's files."""

    started: int
    """Tells one first process from the next."""
    clock: float
    """Monotonic time of the node."""
    kernel: Kernel


def _kernel(said: dict[str, Any], files: dict[str, str]) -> Kernel:
    return Kernel(version=said["version"], page=said["page"], files=files)


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
