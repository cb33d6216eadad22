"""What a trial gets: the cluster, a workspace, settings and a way to tell how it goes."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any, TypeVar, cast

from jinja2 import Environment, StrictUndefined

from kar_checks import fast_yaml, paths
from kar_checks.cluster import capacity, kinds, pods, policies, wait
from kar_checks.cluster.client import Cluster, Object
from kar_checks.cluster.errors import HarnessError, internal
from kar_checks.cluster.facts import Facts
from kar_checks.cluster.ownership import Workspace
from kar_checks.model import Command, Fault, Reason, Record
from kar_checks.profile import Profile
from kar_checks.redact import redact
from kar_checks.store import now

T = TypeVar("T", bound=Record)

PROBE_FOLDER = "/probe"
MOST_OUTPUT = 4096
"""Characters that are kept of what a command printed."""


@dataclass
class Trial:
    """One experiment's surroundings. ``selected`` are the checks that will be judged from it."""

    cluster: Cluster
    workspace: Workspace
    facts: Facts
    profile: Profile
    selected: frozenset[str]
    report: Callable[[str], None] = wait.quiet
    keep: Callable[[str, Record], None] = lambda _name, _record: None
    """Puts a finished part aside at once, so that even a killed run keeps it."""
    evidence: Callable[[str, str], str] = lambda _name, _text: ""
    """Stores a raw file of the trial (name, text) and returns its path inside the run folder."""
    commands: list[Command] = field(default_factory=list[Command])
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def namespace(self) -> str:
        """Where the trial's objects live."""
        return self.workspace.namespace

    def number(self, key: str) -> float:
        """Return a setting of the profile."""
        return self.profile.number(key)

    def text(self, key: str) -> str:
        """Return a setting of the profile as text."""
        return self.profile.text(key)

    def mount_probe(self, name: str) -> str:
        """Put ``probes/NAME.py`` into a ConfigMap of the run; returns the ConfigMap's name.

        Calling it again for the same probe makes nothing new.
        """
        config_map = f"kar-probe-{name.replace('_', '-')}"
        with self._lock:
            if any(
                one.kind == "ConfigMap" and one.name == config_map for one in self.workspace.made
            ):
                return config_map
            body: Object = {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": config_map},
                "data": {f"{name}.py": paths.data("probes", f"{name}.py").read_text("utf-8")},
            }
            self.workspace.create(kinds.CONFIG_MAP, body)
        return config_map

    def start_pod(self, body: Object, *, until: Callable[[Object], bool] = pods.ready) -> Object:
        """Create a pod and wait until it is Ready (or whatever ``until`` says).

        Raises:
            HarnessError: it was refused, can never start, or did not start in time.
        """
        stored = self.workspace.create(kinds.POD, body)
        return self.wait_pod(stored, until)

    def wait_pod(
        self, pod: Object, until: Callable[[Object], bool], *, seconds: float | None = None
    ) -> Object:
        """Wait for a state of a pod, from the state that the caller has."""
        name = str(pod["metadata"]["name"])
        return wait.wait_for(
            self.cluster,
            kinds.POD,
            name,
            self.namespace,
            goal=until,
            seconds=self.number("pods.start_seconds") if seconds is None else seconds,
            what=f"pod {name}",
            hopeless=self.hopeless,
            overdue=self.overdue,
            describe=pods.describe,
            report=self.report,
            begin=pod,
        )

    def hopeless(self, pod: Object) -> HarnessError | None:
        """See :func:`pods.hopeless`; names who holds the room that a pod lacks."""
        return self._with_holders(pod, pods.hopeless(pod))

    def overdue(self, pod: Object) -> HarnessError | None:
        """See :func:`pods.overdue`; names who holds the room that a pod lacks."""
        return self._with_holders(pod, pods.overdue(pod))

    def _with_holders(self, pod: Object, error: HarnessError | None) -> HarnessError | None:
        if error is None or error.fault.reason is not Reason.NO_ROOM:
            return error
        held = self.holders(pod)
        message = error.fault.message
        return HarnessError(Reason.NO_ROOM, f"{message}; {held}" if held else message)

    def holders(self, pod: Object) -> str:
        """Return who holds the room that a pod lacks, as far as we may look."""
        return self._holders(capacity.needs(pod, pods.short_of(pod)), pods.selector(pod))

    def no_room(self, message: str, wanted: Mapping[str, Decimal]) -> HarnessError:
        """Return the error of what finds too little of these resources on every node."""
        held = self._holders(wanted, {})
        return HarnessError(Reason.NO_ROOM, f"{message}; {held}" if held else message)

    def _holders(self, wanted: Mapping[str, Decimal], selector: Mapping[str, str]) -> str:
        nodes = [
            node
            for node in self.facts.usable_nodes(self.workspace.target)
            if selector.items() <= (node["metadata"].get("labels") or {}).items()
        ]
        with suppress(HarnessError):
            return capacity.holders(self.cluster, nodes, wanted) if wanted else ""
        return ""

    def exec(
        self, pod: str, argv: Sequence[str], *, container: str = "", namespace: str = ""
    ) -> Command:
        """Run a command in a container (of ours, without ``namespace``) and keep it as evidence."""
        return self._exec(pod, argv, container, 20, namespace)[0]

    def output(
        self, pod: str, argv: Sequence[str], *, container: str = "", seconds: float = 20
    ) -> str:
        """Run a command that must succeed, keep it as evidence, and return all that it printed.

        Raises:
            HarnessError: it failed or did not end in time.
        """
        command, stdout = self._exec(pod, argv, container, seconds)
        if command.exit_code != 0:
            ended = "did not end" if command.exit_code is None else f"ended {command.exit_code}"
            raise HarnessError(
                Reason.POD_FAILED if command.exit_code else Reason.TIMEOUT,
                f"{' '.join(argv[:3])} in pod {pod} {ended}: {command.stderr[-300:]}",
            )
        return stdout

    def _exec(
        self,
        pod: str,
        argv: Sequence[str],
        container: str,
        seconds: float,
        namespace: str = "",
    ) -> tuple[Command, str]:
        at: datetime = now()
        done = self.cluster.exec(
            namespace or self.namespace, pod, argv, container=container, seconds=seconds
        )
        command = Command(
            at=at,
            pod=pod,
            container=container,
            argv=list(argv),
            exit_code=done.exit_code,
            stdout=redact(done.stdout[:MOST_OUTPUT]),
            stderr=redact(done.stderr[:MOST_OUTPUT]),
        )
        with self._lock:
            self.commands.append(command)
        return command, done.stdout

    def side_by_side(self, work: Mapping[str, Callable[[], T]]) -> dict[str, T | Fault]:
        """Do independent parts of the trial at once; one that fails leaves its fault, not a hole.

        Each part is kept on disk as soon as it is done.
        """
        with ThreadPoolExecutor(max_workers=max(1, len(work))) as pool:
            running = {name: pool.submit(self._part, name, one) for name, one in work.items()}
        return {name: future.result() for name, future in running.items()}

    def _part(self, name: str, work: Callable[[], T]) -> T | Fault:
        try:
            done = work()
        except HarnessError as error:
            return error.fault
        except Exception as error:
            return internal(error).fault
        self.keep(name, done)
        return done

    def standing_policies(self, labels: Mapping[str, str] | None = None) -> list[str]:
        """Name the network policies of others that may hold for pods of ours with these labels.

        Worth recording wherever traffic of ours got lost; empty if they may not be listed.
        """
        found = policies.standing(self.cluster, self.facts, self.namespace, labels)
        return [str(one) for one in found]

    def log_lines(self, pod: str, container: str = "") -> list[dict[str, Any]]:
        """Return what a probe printed: one JSON object a line; other lines are passed over."""
        out: list[dict[str, Any]] = []
        for line in self.cluster.pod_log(self.namespace, pod, container).splitlines():
            try:
                found = json.loads(line)
            except ValueError:
                continue
            if isinstance(found, dict):
                out.append(cast("dict[str, Any]", found))
        return out


def manifest(template: str, **values: Any) -> Object:
    """Render ``manifests/TEMPLATE`` (Jinja2 that gives YAML) to one object.

    Raises:
        jinja2.UndefinedError: the template wants a value that was not given.
    """
    environment = Environment(undefined=StrictUndefined, autoescape=False)  # noqa: S701 - YAML
    environment.filters["yaml"] = partial(json.dumps, default=str)  # str names what is undefined
    text = paths.data("manifests", *template.split("/")).read_text("utf-8")
    return cast("Object", fast_yaml.load(environment.from_string(text).render(**values)))
