"""The place of a trial: simulated model servers, a client, and Gateways with routes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from kar_checks import paths
from kar_checks.cluster import kinds, pods, policies, wait
from kar_checks.cluster.client import MERGE, Object
from kar_checks.cluster.errors import HarnessError
from kar_checks.cluster.kinds import Kind
from kar_checks.cluster.target import Target
from kar_checks.kit.http_testbed.records import (
    Condition,
    GatewaySeen,
    Parent,
    Sample,
    Settled,
    Surroundings,
    failures,
    tallied,
    unwanted,
)
from kar_checks.kit.http_testbed.steady import Watch, watch
from kar_checks.kit.trial import Trial, manifest
from kar_checks.model import Reason
from kar_checks.profile import names

PORT = 8000
_SERVER = "model_server"
_CLIENT = "gateway_client"
COMPLETION: Object = {
    "method": "POST",
    "body": '{"model": "kar-model", "prompt": "{r} {n}", "max_tokens": 4}',
    "headers": {"content-type": "application/json"},
}
"""What inference is asked by; whatever is counted is counted on such requests."""
PATH = "/v1/completions"
_WORKERS = 8
_SAMPLE_SECONDS = 120.0
"""What samples may take: 400 requests to a gateway that takes two seconds for each."""
_STEADY_MOST_SECONDS = 400.0
_SLACK_SECONDS = 30.0
"""What a task of the client may take beside the waiting that it was asked for."""


def server_pod(name: str, labels: Mapping[str, str], image: str) -> Object:
    """Return a simulated model server."""
    probe = f"kar-probe-{_SERVER.replace('_', '-')}"
    labels = {"kar-checks.dev/server": name, **labels}
    return manifest(
        "http_testbed/server.yaml.j2", name=name, labels=labels, image=image, port=PORT, probe=probe
    )


def client_pod(name: str, image: str) -> Object:
    """Return the pod from which requests are sent."""
    probe = f"kar-probe-{_CLIENT.replace('_', '-')}"
    return manifest("http_testbed/client.yaml.j2", name=name, image=image, probe=probe)


def service(name: str, selector: Mapping[str, str]) -> Object:
    """Return a Service before servers."""
    return manifest("http_testbed/service.yaml.j2", name=name, selector=dict(selector), port=PORT)


def manifests(target: Target, topic: str) -> list[tuple[Kind, Object]]:
    """Return one of each kind that needs no API beside the core, for dry runs."""
    image = target.image("python")
    return [
        (kinds.SERVICE, service(f"{topic}-dry-run", {})),
        (kinds.POD, server_pod(f"{topic}-dry-run", {}, image)),
        (kinds.POD, client_pod(f"{topic}-dry-run-client", image)),
    ]


class Site:
    """Servers and client of one trial; every name in it begins with the topic's."""

    def __init__(self, trial: Trial, topic: str) -> None:
        self.trial = trial
        self.topic = topic
        self.addresses: dict[str, str] = {}
        """Address of each server's pod, by its name."""
        self._labels: dict[str, dict[str, str]] = {}
        self._policies: list[str] = []
        self._image = trial.workspace.target.image("python")
        self._client = f"{topic}-client"
        self._outside = trial.profile.text("gateway.client") == "outside"

    # -- what exists ------------------------------------------------------------------------

    def start(self, servers: Mapping[str, Mapping[str, str]]) -> None:
        """Start the servers (name: labels) and the client, all at once.

        Raises:
            HarnessError: a pod could not start.
        """
        self.trial.mount_probe(_SERVER)
        self.trial.mount_probe(_CLIENT)
        create = self.trial.workspace.create
        made = [create(kinds.POD, client_pod(self._client, self._image))]
        made += [
            create(kinds.POD, server_pod(name, labels, self._image))
            for name, labels in servers.items()
        ]
        ready = [self.trial.wait_pod(one, pods.ready) for one in made]
        for one in ready[1:]:
            name = str(one["metadata"]["name"])
            self.addresses[name] = str(one["status"]["podIP"])
            self._labels[name] = one["metadata"].get("labels") or {}
        self._policies = self._restricting()

    def surroundings(self) -> Surroundings:
        """Look, apart from any gateway, at what may keep traffic from the servers."""
        names = list(self.addresses)
        targets = [[self.addresses[name], PORT, "GET", "/ready", ""] for name in names]
        answers = self.do({"do": "each", "targets": targets}, inside=True)["answers"]
        unreached = [name for name, (status, _) in zip(names, answers, strict=True) if not status]
        found = self._restricting(cluster_wide=bool(unreached))
        return Surroundings(
            policies=found,
            later=[one for one in found if one not in self._policies],
            unreached=unreached,
        )

    def _restricting(self, *, cluster_wide: bool = False) -> list[str]:
        found = [
            one
            for labels in self._labels.values()
            for one in policies.restricting(
                self.trial.cluster,
                self.trial.facts,
                self.trial.namespace,
                labels,
                cluster_wide=cluster_wide,
            )
        ]
        return list(dict.fromkeys(found))

    def expose(self, name: str, selector: Mapping[str, str]) -> None:
        """Make a Service."""
        self.trial.workspace.create(kinds.SERVICE, service(name, selector))

    def gateway(self, class_name: str) -> str:
        """Create a Gateway of a class; returns its name."""
        name = f"{self.topic}-{class_name}"[:60].rstrip("-.").replace(".", "-")
        self.trial.workspace.create(
            kinds.GATEWAY,
            manifest("http_testbed/gateway.yaml.j2", name=name, class_name=class_name),
        )
        return name

    def route(self, gateway: str, name: str, host: str, rules: Sequence[Object]) -> str:
        """Create an HTTPRoute on a Gateway; returns its name."""
        full = f"{gateway}-{name}"
        self.trial.workspace.create(
            kinds.HTTP_ROUTE,
            manifest(
                "http_testbed/route.yaml.j2",
                name=full,
                gateway=gateway,
                host=host,
                rules=list(rules),
            ),
        )
        return full

    def change_rules(self, route: str, rules: Sequence[Object]) -> None:
        """Put other rules into a route."""
        self.trial.cluster.patch(
            kinds.HTTP_ROUTE,
            route,
            {"spec": {"rules": list(rules)}},
            self.trial.namespace,
            content_type=MERGE,
        )

    # -- what controllers report -----------------------------------------------------------

    def await_gateway(self, name: str, *, seconds: float | None = None) -> GatewaySeen:
        """Wait until a Gateway is programmed and has an address, or the time for it is over."""
        limit = self.trial.number("gateway.programmed_seconds") if seconds is None else seconds
        return self._await_gateway(name, lambda seen: seen.programmed, limit)

    def await_routes(self, name: str) -> GatewaySeen:
        """Wait until a Gateway's listeners count a route; controllers write that number late."""
        limit = self.trial.number("gateway.status_seconds")
        return self._await_gateway(name, lambda seen: seen.attached_routes > 0, limit)

    def _await_gateway(
        self, name: str, goal: Callable[[GatewaySeen], bool], limit: float
    ) -> GatewaySeen:
        began = time.monotonic()
        try:
            self._await(kinds.GATEWAY, name, lambda stored: goal(_gateway(stored, 0)), limit)
        except HarnessError as error:
            if error.fault.reason is not Reason.TIMEOUT:
                raise
        return self.look(name, time.monotonic() - began)

    def look(self, name: str, seconds: float) -> GatewaySeen:
        """Read a Gateway as it is now."""
        stored = self.trial.cluster.get(kinds.GATEWAY, name, self.trial.namespace)
        return _gateway(stored, round(seconds, 1))

    def parents(
        self, kind: Kind, name: str, controller: str, *wanted: str, seconds: float | None = None
    ) -> list[Parent]:
        """Return a route's or a pool's status, after waiting for a controller's conditions.

        That they do not come in time is an answer as well.
        """

        def said(stored: Object) -> bool:
            return any(
                parent.controller == controller and all(map(parent.condition, wanted))
                for parent in _parents(stored)
            )

        limit = self.trial.number("gateway.status_seconds") if seconds is None else seconds
        try:
            return _parents(self._await(kind, name, said, limit))
        except HarnessError as error:
            if error.fault.reason is not Reason.TIMEOUT:
                raise
        return _parents(self.trial.cluster.get(kind, name, self.trial.namespace))

    def _await(self, kind: Kind, name: str, goal: Any, seconds: float) -> Object:
        return wait.wait_for(
            self.trial.cluster,
            kind,
            name,
            self.trial.namespace,
            goal=goal,
            seconds=seconds,
            what=f"{kind.kind} {name}",
            report=self.trial.report,
        )

    # -- traffic ----------------------------------------------------------------------------

    def do(self, task: Object, seconds: float = 0, *, inside: bool = False) -> Object:
        """Let the client do a task (see ``probes/gateway_client.py``) and return what it printed.

        The client is a pod, or where the user wants it this machine; ``inside`` makes it the pod.

        Raises:
            HarnessError: the client could not do it.
        """
        return self._do(task, seconds, inside=inside)[-1]

    def _do(self, task: Object, seconds: float, *, inside: bool = False) -> list[Object]:
        """Let the client do a task, and return all lines that it printed."""
        limit = seconds + _SLACK_SECONDS
        text = json.dumps(task)
        if inside or not self._outside:
            argv = ["python3", f"/probe/{_CLIENT}.py", text]
            printed = self.trial.output(self._client, argv, seconds=limit)
            return [cast("Object", json.loads(line)) for line in printed.splitlines()]
        program = str(paths.data("probes", f"{_CLIENT}.py"))
        try:
            done = subprocess.run(
                [sys.executable, program, text],
                capture_output=True,
                text=True,
                timeout=limit,
                check=True,
            )
        except subprocess.SubprocessError as error:
            raise HarnessError(Reason.INTERNAL, f"the client on this machine: {error}") from error
        return [cast("Object", json.loads(line)) for line in done.stdout.splitlines()]

    def settle(self, address: str, host: str, path: str, **more: Any) -> Settled:
        """Ask until answers of ours are steady after a change, or the time for it is over."""
        seconds = self.trial.number("gateway.settle_seconds")
        task: Object = {
            "do": "settle",
            "address": address,
            "port": 80,
            "host": host,
            "path": path,
            "steady": int(self.trial.number("gateway.settle_answers")),
            "seconds": seconds,
            "timeout": 5,
            **COMPLETION,
            **more,
        }
        done = self.do(task, seconds)
        return Settled(
            settled=done["settled"],
            seconds=done["seconds"],
            asked=done["asked"],
            last=tallied(done["answers"]),
            began=done["began"],
            failed=done["failed"],
            failures=unwanted(done["failures"]),
            usual=done["usual"],
        )

    def sample(
        self,
        address: str,
        host: str,
        path: str,
        count: int,
        *,
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> Sample:
        """Send ``count`` requests, half over new connections, and read the servers' counts."""
        task = {"host": host, "path": path, "count": count, "headers": headers or {}, **more}
        return self.samples(address, [task])[0]

    def samples(
        self, address: str, tasks: Sequence[Object], *, together: bool = False
    ) -> list[Sample]:
        """Send several samples, one after the other or at once, and then ask the servers.

        Each task has ``host``, ``path``, ``count`` and what else ``ask`` of the client takes.
        """
        asked: list[Object] = []
        for task in tasks:
            token = {"x-kar-token": uuid.uuid4().hex}
            more = {**COMPLETION, "do": "ask", "address": address, "port": 80, "fresh": True}
            headers = {**COMPLETION["headers"], **(task.get("headers") or {}), **token}
            asked.append({**more, "workers": _WORKERS, **task, "headers": headers})
        done = self.do({"do": "batch", "tasks": asked, "together": together}, _SAMPLE_SECONDS)
        tokens = [str(one["headers"]["x-kar-token"]) for one in asked]
        states = self.states(tokens=tokens)
        return [
            _sampled(task, token, answers, states)
            for task, token, answers in zip(asked, tokens, done["done"], strict=True)
        ]

    def steady(self, address: str, host: str, path: str, until: str) -> Watch:
        """Ask at a fixed rate, for the stated time at least and until :meth:`stop`.

        ``until`` is a word that no other such client has.
        """
        rate = self.trial.number("gateway.steady_rate")
        task: Object = {
            "do": "steady",
            "address": address,
            "port": 80,
            "host": host,
            "path": path,
            "rate": rate,
            "seconds": self.trial.number("gateway.steady_seconds"),
            "most": _STEADY_MOST_SECONDS,
            "until": _file(until),
            **COMPLETION,
            "headers": {**COMPLETION["headers"], "x-kar-token": until},
        }
        *parts, end = self._do(task, _STEADY_MOST_SECONDS)
        answers = [answer for part in parts for answer in part["answers"]]
        return watch(end["began"], rate, answers)

    def stop(self, until: str) -> None:
        """Let a steady client end."""
        self.do({"do": "stop", "until": _file(until)})

    def states(
        self, changes: Mapping[str, Object] | None = None, tokens: Sequence[str] = ()
    ) -> dict[str, Object]:
        """Ask every server for its counts, directly; ``changes`` go to some of them.

        Of the ``tokens`` each also returns the ids of the requests.

        Raises:
            HarnessError: one of them does not answer.
        """
        names = list(self.addresses)
        told = changes or {}
        targets = [
            [
                self.addresses[name],
                PORT,
                "POST" if name in told else "GET",
                f"/kar/state?token={','.join(tokens)}",
                json.dumps(told[name]) if name in told else "",
            ]
            for name in names
        ]
        answers = self.do({"do": "each", "targets": targets}, inside=True)["answers"]
        for name, (status, text) in zip(names, answers, strict=True):
            if status != 200:
                raise HarnessError(
                    Reason.POD_FAILED,
                    f"the server {name} does not answer its client directly: {status} {text[:200]}",
                    "allow TCP between pods of one namespace (NetworkPolicy)",
                )
        return {
            name: cast("Object", json.loads(text))
            for name, (_, text) in zip(names, answers, strict=True)
        }


def _file(until: str) -> str:
    return f"/tmp/kar-{until}"  # noqa: S108 - its name is unique, and nothing is written to it


def _sampled(task: Object, token: str, done: Object, states: Mapping[str, Object]) -> Sample:
    answers = done["answers"]
    return Sample(
        sent=int(task["count"]),
        seconds=done["seconds"],
        tallies=tallied(answers),
        counted={name: int(one["tokens"].get(token, 0)) for name, one in states.items()},
        distinct={name: len(logical(one["ids"][token])) for name, one in states.items()},
        method=str(task["method"]),
        token=token,
        began=done["began"],
        failures=failures(answers),
        again=sum(bool(one[8]) for one in answers),
        altered=sum(one[7] is True for one in answers),
    )


def logical(ids: Mapping[str, int]) -> set[str]:
    """Return the requests that ids are of; one that was sent again has two."""
    return {one.removesuffix("r") for one in ids}


def classes(trial: Trial, wanted: str = "") -> dict[str, Object]:
    """Return GatewayClasses by name: those wanted (separated by commas), or all that exist.

    Without ``wanted`` the profile names them. One that does not exist is missing in the result.
    """
    wanted = wanted or trial.profile.text("gateway.class")
    found = {
        str(one["metadata"]["name"]): one for one in trial.cluster.list(kinds.GATEWAY_CLASS).items
    }
    return {name: found[name] for name in names(wanted) or sorted(found) if name in found}


def pools_served(trial: Trial) -> bool:
    """Return whether Gateways and InferencePools are both served."""
    pool, gateway = kinds.INFERENCE_POOL, kinds.GATEWAY
    return all(trial.facts.serves(one.group, one.version, one.plural) for one in (pool, gateway))


def accepted(stored: Object) -> bool:
    """Return whether a controller accepts a GatewayClass."""
    said = conditions(stored, stored.get("status") or {})
    return any(one.type == "Accepted" and one.holds for one in said)


def conditions(stored: Object, said: Object) -> list[Condition]:
    """Return the conditions in a part of an object's status."""
    generation = int(stored["metadata"].get("generation", 0))
    return [
        Condition(
            type=str(one.get("type")),
            status=str(one.get("status")),
            reason=str(one.get("reason", "")),
            message=str(one.get("message", ""))[:300],
            current=int(one.get("observedGeneration", generation)) == generation,
        )
        for one in said.get("conditions") or []
    ]


def _gateway(stored: Object, seconds: float) -> GatewaySeen:
    status: Object = stored.get("status") or {}
    addresses: list[Object] = status.get("addresses") or []
    listeners: list[Object] = status.get("listeners") or []
    return GatewaySeen(
        name=str(stored["metadata"]["name"]),
        address=str(addresses[0].get("value", "")) if addresses else "",
        conditions=conditions(stored, status),
        attached_routes=sum(int(one.get("attachedRoutes", 0)) for one in listeners),
        seconds=seconds,
    )


def _parents(stored: Object) -> list[Parent]:
    return [
        Parent(
            controller=str(one.get("controllerName", "")),
            gateway=str((one.get("parentRef") or {}).get("name", "")),
            conditions=conditions(stored, one),
        )
        for one in (stored.get("status") or {}).get("parents") or []
    ]
