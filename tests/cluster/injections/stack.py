"""Sabotages of the user's own serving stack: the stack itself, deployed as a user would."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kar_checks import paths
from kar_checks.cluster import kinds, pods, wait
from kar_checks.cluster.client import Cluster, Object
from kar_checks.cluster.connect import connect
from localcluster import PROBE_IMAGES, LocalCluster
from tests.cluster.injections import injection

NAMESPACE = "serving"
PORT = 8000
URL = f"http://front.{NAMESPACE}.svc:{PORT}"
ASKED = ("--target-url", URL, "--set", "stack.quiet_seconds=2")
_START_SECONDS = 60
_CLIENT = "kar-stack-client"
_SHAPE = {"LAYERS": 8, "KV_HEADS": 4, "HEAD_DIM": 64, "DTYPE_BYTES": 2, "BLOCK_TOKENS": 64}
"""8 KiB for each prompt token."""


class Serving:
    """A serving stack in a namespace of its own; nothing in it has a label of ours."""

    def __init__(self, local: LocalCluster, cluster: Cluster) -> None:
        self.cluster = cluster
        self.nodes = [one.name for one in local.nodes]
        self.image = PROBE_IMAGES["python"]
        self._uid = ""

    def __enter__(self) -> Serving:
        """Make the namespace and put the programs there."""
        made = self.cluster.create(kinds.NAMESPACE, _object("Namespace", NAMESPACE))
        self._uid = made["metadata"]["uid"]
        fakes = Path(__file__).with_name("stack_fakes.py").read_text("utf-8")
        server = paths.data("probes", "disagg_server.py").read_text("utf-8")
        programs = {"stack_fakes.py": fakes, "disagg_server.py": server}
        self._create(kinds.CONFIG_MAP, {**_object("ConfigMap", "programs"), "data": programs})
        secret = {**_object("Secret", "key"), "stringData": {"key": "only prefill knows"}}
        self._create(kinds.SECRET, secret)
        return self

    def __exit__(self, *_: object) -> None:
        """Remove everything with the namespace, and wait for its end."""
        self.cluster.delete(kinds.NAMESPACE, NAMESPACE, uid=self._uid)
        assert wait.wait_gone(
            self.cluster, kinds.NAMESPACE, NAMESPACE, "", uid=self._uid, seconds=_START_SECONDS
        )

    def _create(self, kind: kinds.Kind, body: Object) -> Object:
        return self.cluster.create(kind, body, NAMESPACE)

    def start(
        self,
        name: str,
        command: Sequence[str],
        *,
        node: int = 0,
        role: str = "",
        env: dict[str, Any] | None = None,
        image: str = "",
        secret: bool = False,
    ) -> str:
        """Start one pod, wait until it is Ready, and return ``address:port``."""
        mounts = [{"name": "programs", "mountPath": "/programs"}]
        volumes: list[Object] = [{"name": "programs", "configMap": {"name": "programs"}}]
        if secret:
            mounts.append({"name": "key", "mountPath": "/secret"})
            volumes.append({"name": "key", "secret": {"secretName": "key"}})
        fields = {"KAR_POD": "metadata.name", "KAR_POD_IP": "status.podIP"}
        container: Object = {
            "name": "server",
            "image": image or self.image,
            "command": list(command),
            "env": [
                *({"name": key, "value": str(value)} for key, value in (env or {}).items()),
                *(
                    {"name": key, "valueFrom": {"fieldRef": {"fieldPath": path}}}
                    for key, path in fields.items()
                ),
            ],
            "ports": [{"containerPort": PORT}],
            "readinessProbe": {"httpGet": {"path": "/health", "port": PORT}, "periodSeconds": 1},
            "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
            "volumeMounts": mounts,
        }
        body = _object("Pod", name)
        body["metadata"]["labels"] = {"app": name, **({"llm-d.ai/role": role} if role else {})}
        body["spec"] = {
            "nodeSelector": {"kubernetes.io/hostname": self.nodes[node]},
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "containers": [container],
            "volumes": volumes,
        }
        begun = self._create(kinds.POD, body)
        ready = wait.wait_for(
            self.cluster,
            kinds.POD,
            name,
            NAMESPACE,
            goal=pods.ready,
            seconds=_START_SECONDS,
            what=f"pod {name}",
            hopeless=pods.hopeless,
            begin=begun,
        )
        return f"{ready['status']['podIP']}:{PORT}"

    def front(self, app: str) -> None:
        """Make the Service that the user would name."""
        service = _object("Service", "front")
        service["spec"] = {"selector": {"app": app}, "ports": [{"port": PORT}]}
        self._create(kinds.SERVICE, service)

    def engine(self, role: str, *, labelled: str | None = None, quiet: bool = False) -> str:
        """Start an engine of the probe workload, on a node of its role."""
        command = ["python3", "-u", "/programs/disagg_server.py", "engine"]
        if quiet:
            command = ["sh", "-c", f"exec {' '.join(command)} >/dev/null"]
        return self.start(
            role,
            command,
            node=1 if role == "decode" else 0,
            role=role if labelled is None else labelled,
            env={f"KAR_{key}": value for key, value in _SHAPE.items()},
            secret=role == "prefill",
        )

    def router(self, prefill: str, decode: str) -> None:
        """Start the probe workload's router before two engines."""
        command = ["python3", "-u", "/programs/disagg_server.py", "router"]
        self.start("router", command, env={"KAR_PREFILL": prefill, "KAR_DECODE": decode})
        self.front("router")

    def fake(self, name: str, role: str, *, node: int = 0, **env: str) -> str:
        """Start a server of ``stack_fakes.py``."""
        command = ["python3", "-u", "/programs/stack_fakes.py", name]
        return self.start(name, command, node=node, role=role, env=env)


def _object(kind: str, name: str) -> Object:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}}


@contextmanager
def honest(local: LocalCluster, cluster: Cluster, *, quiet: bool = False) -> Iterator[Serving]:
    """The probe workload, deployed as if it were the user's; ``quiet`` hides its logs."""
    with Serving(local, cluster) as stack:
        stack.router(stack.engine("prefill", quiet=quiet), stack.engine("decode", quiet=quiet))
        yield stack


@injection(words=ASKED)
@contextmanager
def decode_answers_alone(local: LocalCluster, cluster: Cluster) -> Iterator[None]:
    """All is deployed and labelled, and the Service leads straight to decode: HTTP 200."""
    with Serving(local, cluster) as stack:
        stack.engine("prefill")
        stack.engine("decode")
        stack.front("decode")
        yield


@injection(words=ASKED)
@contextmanager
def phases_swapped(local: LocalCluster, cluster: Cluster) -> Iterator[None]:
    """The pods carry each other's labels."""
    with Serving(local, cluster) as stack:
        prefill = stack.engine("prefill", labelled="decode")
        stack.router(prefill, stack.engine("decode", labelled="prefill"))
        yield


@injection(words=ASKED)
@contextmanager
def one_pod_for_both(local: LocalCluster, cluster: Cluster) -> Iterator[None]:
    """A stack that is not disaggregated at all."""
    with Serving(local, cluster) as stack:
        stack.engine("decode", labelled="both")
        stack.front("decode")
        yield


@injection(words=ASKED)
@contextmanager
def transfer_claimed(local: LocalCluster, cluster: Cluster) -> Iterator[None]:
    """Counters and logs are as they should be, and no KV state ever moves."""
    with Serving(local, cluster) as stack:
        prefill = stack.fake("prefill", "prefill")
        stack.fake("decode", "decode", node=1, PREFILL=prefill)
        stack.front("decode")
        yield


@injection(words=ASKED)
@contextmanager
def decode_gone(local: LocalCluster, cluster: Cluster) -> Iterator[None]:
    """The router has nobody behind it, and says so with every answer."""
    with Serving(local, cluster) as stack:
        prefill = stack.engine("prefill")
        address = stack.engine("decode")
        stack.router(prefill, f"{address.rpartition(':')[0]}:1")
        yield


@injection(words=("--target-url", URL, "--set", "stack.quiet_seconds=10"))
@contextmanager
def server_restarted(local: LocalCluster, cluster: Cluster) -> Iterator[None]:
    """Decode dies and comes back while the stack is looked at."""

    def kill(own: Cluster) -> None:
        decode = own.get(kinds.POD, "decode", NAMESPACE)
        node = next(one for one in local.nodes if one.name == decode["spec"]["nodeName"])
        container = pods.container_status(decode, "server")["containerID"]
        os.kill(node.container_pid1(container), signal.SIGKILL)

    with honest(local, cluster), _when_asked(local, kill):
        yield


@injection(words=ASKED)
@contextmanager
def somebody_else_asks(local: LocalCluster, cluster: Cluster) -> Iterator[None]:
    """Another user's requests go through the same stack all the time."""
    ended = threading.Event()

    with honest(local, cluster) as stack:
        router = stack.cluster.get(kinds.POD, "router", NAMESPACE)["status"]["podIP"]
        url = f"http://{router}:{PORT}/v1/completions"
        body = json.dumps({"model": "kar-probe", "prompt": "a b c", "max_tokens": 1}).encode()
        headers = {"Content-Type": "application/json"}

        def ask() -> None:
            while not ended.wait(0.3):
                request = urllib.request.Request(url, body, headers)
                with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=5):  # noqa: S310
                    pass

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join(10)


@contextmanager
def _when_asked(local: LocalCluster, react: Callable[[Cluster], None]) -> Iterator[None]:
    """Call ``react`` once, in a thread, when the client of the run is running."""
    with contextlib.closing(Cluster(connect(local.kubeconfig, None), run_id="sabotage")) as own:
        begin = own.list(kinds.POD).resource_version

        def follow() -> None:
            for _, pod in own.watch(
                kinds.POD,
                resource_version=begin,
                deadline=time.monotonic() + 600,
                fields=f"metadata.name={_CLIENT}",
            ):
                if pods.phase(pod) == "Running":
                    react(own)
                    return

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield
        finally:
            own.stop()
            thread.join(10)
