"""The probe workload on a cluster: what the trial does with it, and what it reads of it."""

from __future__ import annotations

import json
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

from kar_checks.checks.disaggregation import kv, workload
from kar_checks.checks.disaggregation.entrance import HOST, Entrance
from kar_checks.checks.disaggregation.form import Form
from kar_checks.checks.disaggregation.observation import (
    Batch,
    Counters,
    Interface,
    PhaseSeen,
    PodSeen,
    RequestSeen,
)
from kar_checks.cluster import kinds, pods
from kar_checks.cluster.client import Object
from kar_checks.cluster.errors import HarnessError
from kar_checks.cluster.target import pod_templates
from kar_checks.kit.trial import Trial
from kar_checks.model import Reason

Lines = list[dict[str, Any]]

_CLIENT_PROGRAM = "/probe/disagg_client.py"
_POLL_SECONDS = 0.3
_COUNTERS = {
    "sent": ("kar:kv_bytes_sent_total", ""),
    "received": ("vllm:nixl_bytes_transferred_sum", ""),
    "failed": ("vllm:nixl_num_failed_transfers_total", ""),
    "computed_tokens": ("vllm:prompt_tokens_by_source_total", "local_compute"),
    "transferred_tokens": ("vllm:prompt_tokens_by_source_total", "external_kv_transfer"),
    "cached_tokens": ("vllm:prompt_tokens_by_source_total", "local_cache_hit"),
}
_SAMPLE = re.compile(r"([a-z_:A-Z]+)(?:\{([^}]*)\})? (\S+)")
_SOURCE = re.compile(r'source="([^"]*)"')

Snapshot = tuple[dict[str, dict[tuple[str, str], float]], dict[str, dict[str, tuple[int, int]]]]
"""Counters by pod, and (received, sent) bytes by pod and device."""


class Stage:
    """The workload, deployed. Methods measure; none judges."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.key = secrets.token_hex(32)
        profile = trial.profile
        self.shape = workload.shape_of(profile)
        self.words = int(trial.number("disaggregation.words"))
        self.network = profile.text("disaggregation.network")
        usable = trial.facts.usable_nodes(trial.workspace.target)
        self.nodes_usable = None if trial.facts.nodes is None else len(usable)
        self.zones = {
            one["metadata"]["name"]: one["metadata"]
            .get("labels", {})
            .get("topology.kubernetes.io/zone", "")
            for one in usable
        }
        self.parts = workload.Workload(
            image=trial.workspace.target.image("python"),
            shape=self.shape,
            tokens=int(trial.number("disaggregation.tokens")),
            token_seconds=trial.number("disaggregation.token_seconds"),
            apart=len(usable) > 1,
            network=self.network,
            interface=profile.text("disaggregation.interface"),
        )
        self.pods: dict[str, Object] = {}
        """Every pod of the workload that was seen, by name."""
        self.form = Form(trial)
        self.entrance = Entrance(trial)
        self._number = 0
        self._addresses: dict[str, str] = {}
        self._pool = ThreadPoolExecutor(2)
        """Works out right answers while the cluster is busy with its own."""

    # -- setting up and down --

    def deploy(self) -> None:
        """Create everything, and wait until a request through the router is answered.

        By its Service first, so that a Gateway that does not work is told apart from a workload
        that does not.

        Raises:
            HarnessError: something was refused, cannot start, or did not become reachable.
        """
        trial, space = self.trial, self.trial.workspace
        trial.mount_probe(workload.SERVER)
        trial.mount_probe(workload.CLIENT_PROBE)
        space.create(kinds.SECRET, workload.secret(self.key))
        for part in ("prefill", "decode", "router"):
            made = space.create(kinds.SERVICE, workload.service(part))
            host = str(made["spec"]["clusterIP"])
            address = f"[{host}]" if ":" in host else host
            self._addresses[part] = f"{address}:{workload.PORT}"
        self.entrance.begin()
        client = space.create(kinds.POD, self.parts.client())
        stored = self.form.create({one: self.parts.engine(one) for one in ("prefill", "decode")})
        router = self.parts.router(self._addresses["prefill"], self._addresses["decode"])
        stored["router"] = space.create(kinds.DEPLOYMENT, router)
        for part, body in stored.items():
            for pod in self.await_pods(part, 1):
                space.mutations.extend(_admitted_otherwise(body, pod))
        self.pods[workload.CLIENT] = trial.wait_pod(client, pods.ready)
        self._await_route()
        if self.entrance.ready():
            try:
                self._await_route()
            except HarnessError as error:
                if error.fault.reason is not Reason.TIMEOUT:
                    raise
                self.entrance.close(error)

    def close(self) -> None:
        """Let go of what belongs to this process; objects are the workspace's."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _await_route(self) -> None:
        limit = self.trial.number("disaggregation.route_seconds")
        deadline = time.monotonic() + limit
        while True:
            (seen,) = self.ask(tokens=1, seconds=5).requests
            if seen.status == 200:
                return
            if time.monotonic() > deadline:
                raise HarnessError(
                    Reason.TIMEOUT,
                    f"no answer through the router within {limit:.0f} s of its pods being Ready: "
                    f"{seen.error or seen.status}",
                    "allow TCP between the pods of one namespace (NetworkPolicy, mesh), and look "
                    "at Services of type ClusterIP",
                )
            self.pause(_POLL_SECONDS)

    def pause(self, seconds: float) -> None:
        """Wait, unless the run is being interrupted.

        Raises:
            HarnessError: it is.
        """
        if self.trial.cluster.stopping.wait(seconds):
            raise HarnessError(Reason.INTERRUPTED, "disaggregated serving: interrupted")

    def await_pods(
        self, part: str, count: int, *, without: str = "", seconds: float | None = None
    ) -> list[Object]:
        """Wait until a part has exactly ``count`` pods and all are Ready; 0: until none is left.

        ``without`` names a pod that does not count.

        Raises:
            HarnessError: one can never start, or they were not there in time.
        """
        cluster, namespace = self.trial.cluster, self.trial.namespace
        labels = f"{workload.PART_LABEL}={part},kar-checks.dev/run={self.trial.workspace.run_id}"
        limit = self.trial.number("pods.start_seconds") if seconds is None else seconds
        deadline = time.monotonic() + limit
        listing = cluster.list(kinds.POD, namespace, labels=labels)
        there = {str(one["metadata"]["name"]): one for one in listing.items}

        def reached() -> bool:
            here = [one for name, one in there.items() if name != without]
            return len(here) == count and all(map(pods.ready, here))

        def note(pod: Object) -> None:
            self.pods[str(pod["metadata"]["name"])] = pod
            error = self.trial.hopeless(pod)
            if error and not pod["metadata"].get("deletionTimestamp"):
                raise error

        for pod in there.values():
            note(pod)
        if not reached():
            for change, pod in cluster.watch(
                kinds.POD,
                namespace,
                resource_version=listing.resource_version,
                deadline=deadline,
                labels=labels,
            ):
                name = str(pod["metadata"]["name"])
                if change == "DELETED":
                    there.pop(name, None)
                else:
                    there[name] = pod
                    note(pod)
                if reached():
                    break
        if not reached():
            self.pause(0)
            for one in there.values():
                if held := self.trial.overdue(one):
                    raise held
            states = "; ".join(f"{name}: {pods.describe(one)}" for name, one in there.items())
            raise HarnessError(
                Reason.TIMEOUT,
                f"{part}: not {count} Ready pods within {limit:.0f} s ({states or 'none'})",
                "look at the events of what makes them: quota or admission may refuse pods",
            )
        return [one for name, one in there.items() if name != without]

    def delete_pod(self, name: str) -> None:
        """Delete a pod of the workload, with a second to go."""
        uid = str(self.pods[name]["metadata"]["uid"])
        self.trial.cluster.delete(kinds.POD, name, self.trial.namespace, uid=uid, grace=1)

    # -- requests --

    def address(self, part: str) -> str:
        """Return ``host:port`` of a part's Service."""
        return self._addresses[part]

    def ask(
        self,
        *,
        count: int = 1,
        tokens: int,
        at_once: int = 1,
        part: str = "router",
        chat: bool = False,
        stream: bool = False,
        fault: Object | None = None,
        until: str = "",
        lasts: float = 0,
        seconds: float | None = None,
    ) -> Batch:
        """Send requests from the client pod, and return them with their right answers.

        ``until`` names a file in the client pod whose appearance ends it, after ``lasts`` seconds
        at most; then ``count`` is not used. ``seconds`` is the time that a request may take.

        Raises:
            HarnessError: the client itself could not be used.
        """
        first = self._number
        self._number += 100_000 if until else count
        run = f"kar-{self.trial.workspace.run_id}"
        limit = self.trial.number("disaggregation.request_seconds") if seconds is None else seconds
        path = "/v1/chat/completions" if chat else "/v1/completions"
        entered = part == "router" and self.entrance.address
        job = {
            "url": f"http://{entered or self._addresses[part]}{path}",
            "headers": {"Host": HOST} if entered else {},
            "run": run,
            "first": first,
            "count": count,
            "tokens": tokens,
            "words": self.words,
            "at_once": at_once,
            "stream": stream,
            "seconds": limit,
            "extra": {"kar_fault": fault} if fault else {},
            **({"until": until} if until else {}),
        }
        # The right answers are worked out at the same time, where the numbers are known.
        early = [f"{run}-{number}" for number in range(first, first + count)] if not until else []
        right = {one: self._pool.submit(self._right, one, tokens) for one in early}
        lasts = lasts or limit * -(-count // at_once)
        began = time.monotonic()
        lines = self._client(job, lasts + 10)
        took = time.monotonic() - began
        answers = {str(one["request_id"]): one for one in lines}
        for one in answers:
            if one not in right:
                right[one] = self._pool.submit(self._right, one, tokens)
        return Batch(
            requests=[
                _request(
                    one, answers.get(one, {"error": "the client reported nothing"}), tokens, text
                )
                for one, future in right.items()
                if (text := future.result()) is not None
            ],
            seconds=round(took, 3),
        )

    def _right(self, request_id: str, tokens: int) -> str:
        return kv.expected(self.key, request_id, tokens, self.shape, self.words)

    def read_urls(self, urls: Sequence[str]) -> Lines:
        """Read URLs from the client pod."""
        return self._client({"get": list(urls)}, 30)

    def becomes(self, url: str, *, answers: bool, seconds: float) -> bool:
        """Say whether a URL comes to answer, or comes to answer no more, within that time."""
        deadline = time.monotonic() + seconds
        while True:
            (line,) = self._client({"get": [url], "seconds": 1}, 30)
            if (line.get("status") == 200) is answers:
                return True
            if time.monotonic() > deadline:
                return False
            self.pause(_POLL_SECONDS)

    def touch(self, path: str) -> None:
        """Create a file in the client pod."""
        self.trial.exec(workload.CLIENT, ["touch", path])

    def _client(self, job: Object, seconds: float) -> Lines:
        argv = ["python3", "-I", "-S", _CLIENT_PROGRAM, json.dumps(job)]
        done = self.trial.cluster.exec(self.trial.namespace, workload.CLIENT, argv, seconds=seconds)
        if done.exit_code != 0:
            raise HarnessError(
                Reason.POD_FAILED if done.exit_code else Reason.TIMEOUT,
                f"the client pod could not do its job (exit code {done.exit_code}): "
                f"{done.stderr[-300:]}",
            )
        return list(_json_lines(done.stdout))

    # -- what is read --

    def engines(self) -> dict[str, Object]:
        """Return the pods of prefill and decode that are there now, as last seen."""
        return {
            name: pod
            for name, pod in self.pods.items()
            if part_of(pod) in ("prefill", "decode")
            and not pod["metadata"].get("deletionTimestamp")
        }

    def snapshot(self, *, interfaces: bool = True) -> Snapshot:
        """Read counters and interfaces of every engine."""
        engines = self.engines()
        urls = {f"http://{_host(pod)}:{workload.PORT}/metrics": one for one, pod in engines.items()}
        counters: dict[str, dict[tuple[str, str], float]] = {}
        for line in self.read_urls(list(urls)):
            if line.get("status") == 200:
                counters[urls[str(line["url"])]] = _samples(str(line["text"]))
        devices: dict[str, dict[str, tuple[int, int]]] = {}
        for name in engines if interfaces else ():
            done = self.trial.exec(name, ["cat", "/proc/net/dev"])
            devices[name] = _devices(done.stdout)
        return counters, devices

    def between(self, before: Snapshot, after: Snapshot) -> tuple[list[Counters], list[Interface]]:
        """Return what counters and interfaces did between two snapshots."""
        counted: list[Counters] = []
        for name in before[0].keys() & after[0].keys():
            one, other = before[0][name], after[0][name]
            start = ("process_start_time_seconds", "")
            deltas = {
                field: other[key] - one[key] if key in one and key in other else None
                for field, key in _COUNTERS.items()
            }
            counted.append(
                Counters(
                    pod=name,
                    part=part_of(self.pods[name]),
                    reset=one.get(start) != other.get(start),
                    **deltas,
                )
            )
        carried = [
            Interface(
                pod=name,
                part=part_of(self.pods[name]),
                device=device,
                received=received - before[1][name][device][0],
                sent=sent - before[1][name][device][1],
            )
            for name in before[1].keys() & after[1].keys()
            for device, (received, sent) in after[1][name].items()
            if device != "lo" and device in before[1][name]
        ]
        key: Callable[[Any], Any] = lambda one: (one.part, one.pod)  # noqa: E731
        return sorted(counted, key=key), sorted(carried, key=key)

    def log(self, pod: str) -> Lines:
        """Return what a pod's log has so far."""
        return self.trial.log_lines(pod)

    def tell_logs(self) -> tuple[dict[str, list[PhaseSeen]], list[PodSeen]]:
        """Read the logs of all pods that are there: phases by request id, and the pods."""
        phases: dict[str, list[PhaseSeen]] = {}
        seen: list[PodSeen] = []
        for name, pod in self.pods.items():
            if pod["metadata"].get("deletionTimestamp"):
                continue
            text = self.trial.cluster.pod_log(self.trial.namespace, name)
            self.trial.evidence(f"{name}.log", text)
            count: dict[str, int] = {}
            nameless = 0
            for line in _json_lines(text):
                phase = str(line.get("phase", ""))
                request_id = str(line.get("request_id") or "")
                if not phase:
                    continue
                count[phase] = count.get(phase, 0) + 1
                if not request_id:
                    nameless += 1
                    continue
                known = {key: line[key] for key in _PHASE_FIELDS if key in line}
                phases.setdefault(request_id, []).append(
                    PhaseSeen.model_validate({**known, "pod": name, "phase": phase})
                )
            labels = pod["metadata"].get("labels") or {}
            node = str(pod["spec"].get("nodeName", ""))
            seen.append(
                PodSeen(
                    name=name,
                    uid=str(pod["metadata"]["uid"]),
                    part=part_of(pod),
                    role=str(labels.get(workload.ROLE_LABEL, "")),
                    node=node,
                    zone=self.zones.get(node, ""),
                    phases=count,
                    lines_without_id=nameless,
                )
            )
        return phases, seen


_PHASE_FIELDS = {name for name in PhaseSeen.model_fields if name not in ("pod", "phase")}


def with_phases(batch: Batch, phases: dict[str, list[PhaseSeen]]) -> Batch:
    """Return a batch with what the logs say of each of its requests."""
    told = [one.model_copy(update={"phases": phases.get(one.id, [])}) for one in batch.requests]
    return batch.model_copy(update={"requests": told})


def part_of(pod: Object) -> str:
    """Return which part of the workload a pod was deployed as."""
    return str((pod["metadata"].get("labels") or {}).get(workload.PART_LABEL, ""))


class Aside:
    """Something that goes on in a thread of its own while the trial does other things."""

    def __init__(self, work: Callable[[], Batch]) -> None:
        self._found: Batch | BaseException | None = None

        def run() -> None:
            try:
                self._found = work()
            except BaseException as error:  # handed over in ``result``
                self._found = error

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def result(self) -> Batch:
        """Wait for its end; raises what it raised."""
        self._thread.join()
        if isinstance(self._found, Batch):
            return self._found
        raise cast("BaseException", self._found)


def _request(request_id: str, line: Object, tokens: int, expected: str) -> RequestSeen:
    return RequestSeen(
        id=request_id,
        tokens=tokens,
        status=int(line.get("status", 0)),
        text=str(line.get("text", "")),
        expected=expected,
        pod=str(line.get("inference_pod", "")),
        source=str(line.get("kar_kv_source", "")),
        code=str(line.get("code", "")),
        error=str(line.get("error", "")),
        at=float(line.get("at", 0)),
        seconds=float(line.get("seconds", 0)),
        headers_seconds=float(line.get("headers_seconds", 0)),
        parts=[float(one) for one in line.get("parts", [])],
    )


def _json_lines(text: str) -> Iterator[dict[str, Any]]:
    for line in text.splitlines():
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict):
            yield cast("dict[str, Any]", found)


def _samples(text: str) -> dict[tuple[str, str], float]:
    """Return samples of the Prometheus text format by name and ``source`` label."""
    found: dict[tuple[str, str], float] = {}
    for line in text.splitlines():
        if match := _SAMPLE.fullmatch(line):
            source = _SOURCE.search(match[2] or "")
            found[match[1], source[1] if source else ""] = float(match[3])
    return found


def _devices(text: str) -> dict[str, tuple[int, int]]:
    """Return (received, sent) bytes by device from ``/proc/net/dev``."""
    found: dict[str, tuple[int, int]] = {}
    for line in text.splitlines()[2:]:
        name, _, rest = line.partition(":")
        numbers = rest.split()
        if len(numbers) >= 9:
            found[name.strip()] = int(numbers[0]), int(numbers[8])
    return found


def _host(pod: Object) -> str:
    address = str(pod["status"].get("podIP", ""))
    return f"[{address}]" if ":" in address else address


def _admitted_otherwise(maker: Object, pod: Object) -> list[Any]:
    """Return what differs between a pod and the template that it was made from."""
    (template,) = pod_templates(maker)
    return pods.mutations({**template, "kind": "Pod"}, {"kind": "Pod", **pod})
