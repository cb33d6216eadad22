"""What `kar doctor --probe` tries on the cluster: dry runs, and pods that really start."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, cast

from rich.console import Console
from rich.markup import escape

from kar_checks.checks.registry import topics
from kar_checks.cluster import kinds, pods, policies
from kar_checks.cluster.client import Object
from kar_checks.cluster.errors import ApiError, HarnessError
from kar_checks.cluster.kinds import Kind
from kar_checks.cluster.ownership import Workspace
from kar_checks.cluster.target import RUN_LABEL, Target
from kar_checks.commands import remarks
from kar_checks.commands.remarks import Remark
from kar_checks.kit.topic import load
from kar_checks.kit.trial import Trial, manifest
from kar_checks.model import Cleanup, Fault
from kar_checks.options import Options
from kar_checks.plan import needed_images
from kar_checks.runner import Preflight

_PORT = 18080
_SERVICE = "kubernetes.default.svc"
_EVENT_SECONDS = 10.0
"""How long the event of a deletion may take over a watch that was silent before."""
_SERVER, _CLIENT = "kar-doctor-a", "kar-doctor-b"
_EXTENDED = ("python3", "-c", "print('started')")


def probed(before: Preflight, options: Options, console: Console) -> list[Remark]:
    """Send every manifest as a dry run, start pods, and return what went wrong."""
    workspace = Workspace(
        before.cluster,
        options.target,
        run_id=before.run_id,
        until=time.time() + 600,
        cleanup_seconds=60,
    )
    out: list[Remark] = []
    cleanup = Cleanup(verdict="clean")
    try:
        workspace.open(before.profile.text("namespace.pod_security"))
        out += _dry_runs(before, workspace, console)
        trial = Trial(before.cluster, workspace, before.facts, before.profile, frozenset())
        out += _Pods(before, options, trial, console).tried()
        if not options.target.namespace:
            # By now a controller has put into a new namespace what it puts into each.
            out += remarks.of_policies(before, workspace.namespace)
    except HarnessError as error:
        out.append(_blocker(error.fault))
    finally:
        cleanup = workspace.close()
    if cleanup.verdict == "leaked":
        out.append(Remark(cleanup.message, blocks=True))
    return out


# -- dry runs ---------------------------------------------------------------------------------


def _dry_runs(before: Preflight, workspace: Workspace, console: Console) -> list[Remark]:
    refused: dict[tuple[str, str], list[str]] = {}
    sent = 0
    for kind, body in _manifests(before):
        name = f"{kind.kind}/{body['metadata']['name']}"
        sent += 1
        try:
            workspace.try_out(kind, body)
        except ApiError as error:
            told = f"{error.fault.reason.value}: {error.server_message}"
            told = told.replace(body["metadata"]["name"], "NAME")
            refused.setdefault((told, error.fault.help), []).append(name)
    where = escape(workspace.namespace)
    console.print(f"[dim]{sent} manifests were sent as a dry run into {where}[/]", soft_wrap=True)
    out = [
        Remark(
            f"{told} [{', '.join(names[:4])}]",
            advice,
            blocks=True,
            options=["--platform-user"] if "--platform-user" in advice else [],
        )
        for (told, advice), names in refused.items()
    ]
    return out + _standing_limits(before, workspace.namespace)


def _manifests(before: Preflight) -> list[tuple[Kind, Object]]:
    chosen = {topic.id for topic, _ in before.selection}
    out: list[tuple[Kind, Object]] = []
    for topic in topics():
        if topic.id in chosen:
            made = cast("Callable[[Target], list[tuple[Kind, Object]]]", load(topic.manifests))
            out += made(before.options.target)
    return out


def _standing_limits(before: Preflight, namespace: str) -> list[Remark]:
    """A quota that has room for each manifest may still be too small for all of them at once."""
    out: list[Remark] = []
    for kind in (kinds.QUOTA, kinds.LIMIT_RANGE):
        try:
            items = before.cluster.list(kind, namespace).items
        except ApiError:
            continue  # not ours to see; the dry runs tell what it refuses
        for item in items:
            spec = item.get("spec") or {}
            limits = spec.get("hard") or spec
            out.append(
                Remark(
                    f"{kind.kind} {item['metadata']['name']} limits the namespace: {limits}",
                    "if a run meets it, raise it or name another namespace with --namespace",
                )
            )
    return out


# -- real pods --------------------------------------------------------------------------------


@dataclass
class _Watched:
    """What a watch over one connection brought: how long it lasted, and what came."""

    began: float
    ended: float = 0.0
    events: queue.Queue[str] = field(default_factory=queue.Queue[str])


class _Pods:
    """Two pods of the suite's image, and one of each other image that the selection uses."""

    def __init__(self, before: Preflight, options: Options, trial: Trial, console: Console) -> None:
        self.before = before
        self.trial = trial
        self.console = console
        self.images = needed_images(before.selection, options.target)
        self.images.setdefault("python", options.target.image("python"))
        self.out: list[Remark] = []

    def tried(self) -> list[Remark]:
        """Start the pods, try what checks rely on, and return what does not work."""
        probe = self.trial.mount_probe("doctor_probe")
        serve = ("python3", "-u", "/probe/doctor_probe.py", "serve", str(_PORT))
        wanted = {
            name: manifest(
                "doctor/pod.yaml.j2",
                name=name,
                image=self.images["python"],
                command=serve,
                probe=probe,
            )
            for name in (_SERVER, _CLIENT)
        }
        for image, reference in self.images.items():
            if image != "python":
                name = f"kar-doctor-image-{image}"
                wanted[name] = manifest(
                    "doctor/pod.yaml.j2", name=name, image=reference, command=_EXTENDED, probe=""
                )
        with ThreadPoolExecutor(max_workers=len(wanted)) as pool:
            running = {name: pool.submit(self._start, body) for name, body in wanted.items()}
        started = {name: one.result() for name, one in running.items()}
        changed = pods.relevant(self.trial.workspace.mutations)
        if changed:
            named = ", ".join(dict.fromkeys(f"{one.object} {one.field}" for one in changed))
            self.out.append(
                Remark(
                    f"the cluster changes our pods on their way in ({named[:300]}): checks that "
                    "this matters to decide nothing",
                    pods.opt_out(changed),
                )
            )
        server, client = started[_SERVER], started[_CLIENT]
        if server is not None and client is not None:
            self._talk(server, client)
        return self.out

    def _start(self, body: Object) -> Object | None:
        began = time.monotonic()
        try:
            found = self.trial.start_pod(body, until=_runs)
        except HarnessError as error:
            self.out.append(_blocker(error.fault))
            return None
        image = body["spec"]["containers"][0]["image"]
        where = found["spec"].get("nodeName")
        self._good(f"pulled and started {image} on {where} in {time.monotonic() - began:.0f} s")
        return found

    def _talk(self, server: Object, client: Object) -> None:
        idle = self.trial.number("doctor.idle_seconds")
        watched = self._watch(idle)
        if self._part("exec", lambda: self._exec(client)):
            self._part("log", lambda: self._log(server))
            self._part("DNS", lambda: self._resolve(client))
            self._part("traffic", lambda: self._ask(client, server))
        else:
            self._part("log", lambda: self._log(server))
        self._idle(watched, idle)

    def _part(self, what: str, work: Callable[[], str]) -> bool:
        try:
            self._good(work())
        except HarnessError as error:
            fault = error.fault
            said = fault.message if fault.message.startswith(what) else f"{what}: {fault.message}"
            self.out.append(Remark(said, fault.help, blocks=True))
            return False
        return True

    def _exec(self, client: Object) -> str:
        began = time.monotonic()
        said = self._run(client, "resolve", "localhost")
        _ = said.get("addresses")
        return f"exec works ({time.monotonic() - began:.1f} s)"

    def _log(self, server: Object) -> str:
        deadline = time.monotonic() + _EVENT_SECONDS
        while not (found := self.trial.log_lines(server["metadata"]["name"])):
            if time.monotonic() > deadline or self.before.cluster.stopping.wait(0.5):
                raise _fails("the pod's log stays empty", "look at the kubelet and its log files")
        return f"logs can be read ({len(found)} line)"

    def _resolve(self, client: Object) -> str:
        said = self._run(client, "resolve", _SERVICE)
        if "error" in said:
            raise _fails(
                f"a pod cannot resolve {_SERVICE}: {said['error']}",
                f"look at the cluster's DNS pods{self._policies()}",
            )
        return f"{_SERVICE} resolves in a pod ({said['seconds']} s)"

    def _ask(self, client: Object, server: Object) -> str:
        address = str(server["status"].get("podIP") or "")
        where = f"{client['spec'].get('nodeName')} to {server['spec'].get('nodeName')}"
        said = self._run(client, "ask", address, str(_PORT))
        if "error" in said:
            raise _fails(
                f"a pod cannot reach another (node {where}): {said['error']}",
                f"look at the network plugin and its policies{self._policies()}",
            )
        return f"a pod reaches another (node {where}, {said['seconds']} s)"

    def _run(self, pod: Object, *words: str) -> dict[str, Any]:
        import json

        name = pod["metadata"]["name"]
        text = self.trial.output(name, ["python3", "/probe/doctor_probe.py", *words])
        try:
            return cast("dict[str, Any]", json.loads(text))
        except ValueError as error:
            raise _fails(f"exec in pod {name} printed {text[:100]!r}", "") from error

    def _policies(self) -> str:
        found = policies.standing(self.before.cluster, self.before.facts, self.trial.namespace)
        if not found:
            return ""
        return f"; these may be why: {policies.sentence(found)}; {policies.ADVICE}"

    # -- a silent watch -----------------------------------------------------------------------

    def _watch(self, idle: float) -> _Watched:
        cluster, namespace = self.before.cluster, self.trial.namespace
        labels = f"{RUN_LABEL}={self.before.run_id}"
        version = cluster.list(kinds.POD, namespace, labels=labels).resource_version
        watched = _Watched(time.monotonic())

        def follow() -> None:
            try:
                for change, pod in cluster.listen(
                    kinds.POD,
                    namespace,
                    resource_version=version,
                    labels=labels,
                    seconds=idle + _EVENT_SECONDS,
                ):
                    watched.events.put(f"{change} {pod['metadata']['name']}")
            except ApiError as error:
                watched.events.put(error.fault.message)
            watched.ended = time.monotonic()

        threading.Thread(target=follow, daemon=True).start()
        return watched

    def _idle(self, watched: _Watched, idle: float) -> None:
        self.console.print(
            f"[dim]a watch stays silent for {idle:.0f} s, to see whether anything cuts it[/]"
        )
        cluster = self.before.cluster
        while time.monotonic() < watched.began + idle and not watched.ended:
            if cluster.stopping.wait(0.2):
                return
        if watched.ended:
            lasted = watched.ended - watched.began
            self.out.append(
                Remark(
                    f"a watch is cut after {lasted:.0f} s, though the server should keep it",
                    "raise the idle timeout of the proxy or load balancer in front of the API "
                    "server; checks reconnect a watch that is cut",
                )
            )
            return
        while not watched.events.empty():  # what the start of the pods still changed
            watched.events.get_nowait()
        self.trial.workspace.delete(kinds.POD, _CLIENT, seconds=0)
        try:
            watched.events.get(timeout=_EVENT_SECONDS)
        except queue.Empty:
            self.out.append(
                Remark(
                    f"a watch that was silent for {idle:.0f} s delivers no more events: something "
                    "between here and the API server holds it open and drops them",
                    "raise the idle timeout and switch off buffering there, or run behind it, "
                    "for example in the cluster (`kar install`)",
                    blocks=True,
                )
            )
        else:
            self._good(f"a watch that was silent for {idle:.0f} s still delivers events")

    def _good(self, text: str) -> None:
        self.console.print(f"[green]✔[/] {escape(text)}", soft_wrap=True)


def _runs(pod: Object) -> bool:
    return pods.phase(pod) in ("Running", "Succeeded")


def _fails(message: str, advice: str) -> HarnessError:
    from kar_checks.model import Reason

    return HarnessError(Reason.MEASUREMENT_FAILED, message, advice)


def _blocker(fault: Fault) -> Remark:
    options = ["--platform-user"] if "--platform-user" in fault.help else []
    return Remark(fault.message, fault.help, blocks=True, options=options)
