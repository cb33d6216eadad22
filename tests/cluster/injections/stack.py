"""Sabotages of the user's own serving stack: the stack itself, deployed as a user would."""

from __future__ import annotations

import contextlib
import json
import threading
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kar_checks.cluster import kinds, pods, wait
from kar_checks.cluster.client import Cluster, Object
from localcluster import PROBE_IMAGES, LocalCluster
from tests.cluster.injections import injection

NAMESPACE = "default"
PORT = 8000
_START_SECONDS = 60
_KV = 2_000_000
"""Bytes for each request: 4 KB for each of its tokens."""
_TOKEN = 4000
"""Bytes for each prompt token."""
_FEW = 10
"""Requests that are enough to see what happens to all or to every second."""
_REQUESTS = 22
"""Two to warm up and twenty that are counted."""


def asked(front: str, *, settle: int = 1, requests: int = 20) -> tuple[str, ...]:
    """Return the words for ``kar run`` that name a front; what is here counts at once.

    Each stack has a front of another name: a DNS server answers with the address of one that is
    gone for half a minute.
    """
    settings = {
        "quiet_seconds": 1,
        "settle_seconds": settle,
        "prompt_words": 500,
        "requests": requests,
    }
    words = ["--target-url", f"http://{front}.{NAMESPACE}.svc:{PORT}"]
    for name, value in settings.items():
        words += ["--set", f"stack.{name}={value}"]
    return tuple(words)


class Serving:
    """A serving stack as a user would have it; nothing in it has a label of ours.

    ``programs`` are files that its pods find in ``/programs``.
    """

    def __init__(
        self, local: LocalCluster, cluster: Cluster, programs: Sequence[Path] = ()
    ) -> None:
        self.cluster = cluster
        self.nodes = [one.name for one in local.nodes]
        self._programs = [Path(__file__).parents[1] / "programs" / "stack_server.py", *programs]
        self._starting: list[tuple[str, Object]] = []
        self._made: list[tuple[kinds.Kind, str, str]] = []

    def __enter__(self) -> Serving:
        """Put the programs there."""
        data = {one.name: one.read_text("utf-8") for one in self._programs}
        self._create(kinds.CONFIG_MAP, {**_object("ConfigMap", "programs"), "data": data})
        secret = {**_object("Secret", "key"), "stringData": {"key": "only prefill knows"}}
        self._create(kinds.SECRET, secret)
        return self

    def __exit__(self, *_: object) -> None:
        """Remove everything, and wait for its end."""
        for kind, name, _uid in self._made:
            self.cluster.delete(kind, name, NAMESPACE, grace=0)
        for kind, name, uid in self._made:
            assert wait.wait_gone(
                self.cluster, kind, name, NAMESPACE, uid=uid, seconds=_START_SECONDS
            )

    def _create(self, kind: kinds.Kind, body: Object) -> Object:
        made = self.cluster.create(kind, body, NAMESPACE)
        self._made.append((kind, body["metadata"]["name"], made["metadata"]["uid"]))
        return made

    def start(
        self,
        name: str,
        command: Sequence[str],
        *,
        node: int = 0,
        role: str = "",
        label: str = "llm-d.ai/role",
        env: dict[str, Any] | None = None,
        image: str = PROBE_IMAGES["python"],
        secret: bool = False,
        chatter: dict[str, Any] | None = None,
    ) -> str:
        """Start one pod and return ``address:port`` as soon as it has one.

        ``chatter`` is the environment of a sidecar that chats with others of its kind.
        """
        mounts = [{"name": "programs", "mountPath": "/programs"}]
        volumes: list[Object] = [{"name": "programs", "configMap": {"name": "programs"}}]
        if secret:
            mounts.append({"name": "key", "mountPath": "/secret"})
            volumes.append({"name": "key", "secret": {"secretName": "key"}})
        fields = {"KAR_POD": "metadata.name", "KAR_POD_IP": "status.podIP"}
        container: Object = {
            "name": "server",
            "image": image,
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
        body["metadata"]["labels"] = {"app": name, **({label: role} if role else {})}
        body["spec"] = {
            "nodeSelector": {"kubernetes.io/hostname": self.nodes[node]},
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "containers": [container, *([_sidecar(chatter)] if chatter is not None else [])],
            "volumes": volumes,
        }
        begun = self._create(kinds.POD, body)
        found = self._wait(name, lambda one: "podIP" in one.get("status", {}), begun)
        self._starting.append((name, found))
        return f"{found['status']['podIP']}:{PORT}"

    def _wait(self, name: str, goal: Callable[[Object], bool], begin: Object) -> Object:
        return wait.wait_for(
            self.cluster,
            kinds.POD,
            name,
            NAMESPACE,
            goal=goal,
            seconds=_START_SECONDS,
            what=f"pod {name}",
            hopeless=pods.hopeless,
            begin=begin,
        )

    def front(self, name: str, app: str) -> None:
        """Make the Service that the user would name, before ``app``, when all pods are Ready."""
        for started, begin in self._starting:
            self._wait(started, pods.ready, begin)
        self._starting.clear()
        service = _object("Service", name)
        service["spec"] = {"selector": {"app": app}, "ports": [{"port": PORT}]}
        self._create(kinds.SERVICE, service)

    def server(
        self, name: str, role: str, chatter: dict[str, Any] | None = None, **env: Any
    ) -> str:
        """Start a server of ``stack_server.py``; each phase has its node."""
        command = ["python3", "-u", "/programs/stack_server.py", name]
        node = int(name == "decode")
        return self.start(name, command, node=node, role=role, env=env, chatter=chatter)


def _sidecar(env: dict[str, Any]) -> Object:
    return {
        "name": "chatter",
        "image": PROBE_IMAGES["python"],
        "command": ["python3", "-u", "/programs/stack_server.py", "chatter"],
        "env": [{"name": key, "value": str(value)} for key, value in env.items()],
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
        "volumeMounts": [{"name": "programs", "mountPath": "/programs"}],
    }


def chats_with(address: str) -> dict[str, Any]:
    """Return the environment of a sidecar that pulls 5 MB a second from that pod's sidecar."""
    return {"PEER": f"{address.rpartition(':')[0]}:9000", "SIZE": 500_000, "BEAT": 0.1}


def _object(kind: str, name: str) -> Object:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}}


@contextmanager
def _pair(
    local: LocalCluster,
    cluster: Cluster,
    front: str,
    *,
    claims: int = _KV,
    moves: int = _KV,
    dies_after: int = 0,
    chatter: bool = False,
    **env: Any,
) -> Iterator[Serving]:
    """One prefill and one decode; decode is the front."""
    with Serving(local, cluster) as stack:
        server: dict[str, Any] | None = {} if chatter else None
        prefill = stack.server("prefill", "prefill", chatter=server, DIES_AFTER=dies_after)
        told = {"PREFILL": prefill, "CLAIMS": claims, "MOVES": moves, **env}
        stack.server("decode", "decode", chats_with(prefill) if chatter else None, **told)
        stack.front(front, "decode")
        yield stack


@injection(words=asked("alone", requests=_FEW))
@contextmanager
def decode_answers_alone(local: LocalCluster, cluster: Cluster) -> Iterator[None]:
    """All is deployed and labelled, and decode never asks prefill: HTTP 200."""
    with Serving(local, cluster) as stack:
        stack.server("prefill", "prefill")
        stack.server("decode", "decode")
        stack.front("alone", "decode")
        yield


@injection(words=asked("both", requests=_FEW))
@contextmanager
def one_pod_for_both_fails(local: LocalCluster, cluster: Cluster) -> Iterator[None]:
    """A stack that is not disaggregated at all, and answers each request with a server error."""
    with Serving(local, cluster) as stack:
        stack.server("decode", "both", FAILS="yes")
        stack.front("both", "decode")
        yield


@injection(words=asked("claims", requests=_FEW))
@contextmanager
def transfer_claimed(local: LocalCluster, cluster: Cluster) -> Iterator[None]:
    """Counters and logs are as they should be, and no KV state ever moves."""
    with _pair(local, cluster, "claims", moves=0):
        yield


@injection(words=asked("chats", requests=_FEW))
@contextmanager
def sidecars_chat(local: LocalCluster, cluster: Cluster) -> Iterator[None]:
    """No KV state moves; a sidecar of decode pulls far more from one of prefill than is claimed."""
    with _pair(local, cluster, "chats", claims=100_000, moves=0, chatter=True):
        yield


@injection(words=asked("same", requests=_FEW))
@contextmanager
def same_for_every_prompt(local: LocalCluster, cluster: Cluster) -> Iterator[None]:
    """Decode pulls as much for a short prompt as for a long one, and claims just that."""
    with _pair(local, cluster, "same"):
        yield


@injection(words=asked("invents", requests=_FEW))
@contextmanager
def counters_are_made_up(local: LocalCluster, cluster: Cluster) -> Iterator[None]:
    """What moves grows with the prompt, and is ten times what decode counts."""
    token: dict[str, Any] = {"CLAIMS_TOKEN": _TOKEN // 10, "MOVES_TOKEN": _TOKEN}
    with _pair(local, cluster, "invents", claims=0, moves=0, **token):
        yield


def _recomputes(
    local: LocalCluster, cluster: Cluster, front: str, which: str
) -> contextlib.AbstractContextManager[Serving]:
    token: dict[str, Any] = {"CLAIMS_TOKEN": _TOKEN, "MOVES_TOKEN": _TOKEN}
    return _pair(local, cluster, front, claims=0, moves=0, RECOMPUTES=which, **token)


@injection(words=asked("tires", requests=12))
@contextmanager
def decode_recomputes_later(local: LocalCluster, cluster: Cluster) -> Iterator[None]:
    """From the sixth request on nothing moves; counters and logs stay as they should be."""
    with _recomputes(local, cluster, "tires", "after 5"):
        yield


@injection(words=asked("odd", requests=_FEW))
@contextmanager
def decode_recomputes_every_second(local: LocalCluster, cluster: Cluster) -> Iterator[None]:
    """Of every second request nothing moves; counters and logs stay as they should be."""
    with _recomputes(local, cluster, "odd", "odd"):
        yield


@injection(words=asked("long", requests=_FEW))
@contextmanager
def decode_recomputes_long_prompts(local: LocalCluster, cluster: Cluster) -> Iterator[None]:
    """Of long prompts nothing moves; counters and logs stay as they should be."""
    with _recomputes(local, cluster, "long", "long 400"):
        yield


@injection(words=asked("cached", requests=_FEW))
@contextmanager
def cache_answers(local: LocalCluster, cluster: Cluster) -> Iterator[None]:
    """A cache before a sound stack answers everything."""
    with Serving(local, cluster) as stack:
        prefill = stack.server("prefill", "prefill")
        stack.server("decode", "decode", PREFILL=prefill)
        stack.server("cache", "")
        stack.front("cached", "cache")
        yield


@injection(words=asked("half", requests=_FEW))
@contextmanager
def cache_answers_half(local: LocalCluster, cluster: Cluster) -> Iterator[None]:
    """A cache before a sound stack answers every second request."""
    with Serving(local, cluster) as stack:
        token: dict[str, Any] = {"CLAIMS_TOKEN": _TOKEN, "MOVES_TOKEN": _TOKEN}
        prefill = stack.server("prefill", "prefill")
        decode = stack.server("decode", "decode", PREFILL=prefill, **token)
        stack.server("cache", "", DECODE=decode)
        stack.front("half", "cache")
        yield


@injection(words=asked("other", requests=_FEW))
@contextmanager
def others_answer(local: LocalCluster, cluster: Cluster) -> Iterator[None]:
    """The URL leads to another deployment, which is not disaggregated at all."""
    with Serving(local, cluster) as stack:
        prefill = stack.server("prefill", "prefill")
        stack.server("decode", "decode", PREFILL=prefill)
        command = ["python3", "-u", "/programs/stack_server.py", "decode"]
        stack.start("another", command)
        stack.front("other", "another")
        yield


@injection(words=asked("restarts", settle=10))
@contextmanager
def server_restarted(local: LocalCluster, cluster: Cluster) -> Iterator[None]:
    """Prefill dies, and comes back with counters that begin anew, when it has done its work."""
    with _pair(local, cluster, "restarts", dies_after=_REQUESTS):
        yield


@injection(words=asked("shared"))
@contextmanager
def somebody_else_asks(local: LocalCluster, cluster: Cluster) -> Iterator[None]:
    """Another user's requests go through the same stack all the time."""
    ended = threading.Event()
    with _pair(local, cluster, "shared") as stack:
        address = stack.cluster.get(kinds.POD, "decode", NAMESPACE)["status"]["podIP"]
        body = json.dumps({"prompt": "a b c"}).encode()
        headers = {"Content-Type": "application/json"}

        def ask() -> None:
            while not ended.wait(0.2):
                request = urllib.request.Request(
                    f"http://{address}:{PORT}/v1/completions", body, headers
                )
                with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=5):  # noqa: S310 - http
                    pass

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join(10)
