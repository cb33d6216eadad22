"""Sabotages of windows: whoever could start a gang, or show it, hangs while nothing must happen."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from kar_checks.cluster import kinds, pods
from kar_checks.cluster.client import Cluster
from kar_checks.cluster.connect import connect
from localcluster import LocalCluster
from tests.cluster.injections import injection
from tests.cluster.injections.gang_backends import ADDONS, SHORT, only
from tests.cluster.injections.kueue_everywhere import managers

INTO_THE_WINDOW = 1.6
WINDOWS = ("--set", "gang.window_seconds=6", "--set", "gang.incomplete_seconds=6")
_OURS = "app.kubernetes.io/managed-by=kar-checks"
_WATCH_SECONDS = 600.0
_HELD = 20.0
"""Longer than a window of 6 s and what it may be made longer by."""


@contextmanager
def when_created(local: LocalCluster, name: str, react: Callable[[], None]) -> Iterator[None]:
    """Call ``react`` once in a thread when a pod of ours with this name was created."""
    with contextlib.closing(Cluster(connect(local.kubeconfig, None), run_id="sabotage")) as own:
        begin = own.list(kinds.POD, labels=_OURS).resource_version

        def follow() -> None:
            for change, pod in own.watch(
                kinds.POD,
                resource_version=begin,
                deadline=time.monotonic() + _WATCH_SECONDS,
                labels=_OURS,
            ):
                if change == "ADDED" and pod["metadata"]["name"] == name:
                    react()
                    return

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield
        finally:
            own.stop()
            thread.join(10)


@contextmanager
def hanging(
    local: LocalCluster,
    pod: str,
    pause: Callable[[], object],
    resume: Callable[[], object],
    seconds: float,
) -> Iterator[None]:
    """Let something hang for a while, a moment after a pod of ours was created."""
    over = threading.Event()

    def react() -> None:
        if over.wait(INTO_THE_WINDOW):
            return
        pause()
        try:
            over.wait(seconds)
        finally:
            resume()

    with when_created(local, pod, react):
        try:
            yield
        finally:
            over.set()
            time.sleep(0.1)
            resume()
    local.ready()


def component_hangs(
    local: LocalCluster, name: str, pod: str, seconds: float
) -> AbstractContextManager[None]:
    """Let a component of the control plane hang for a while."""
    return hanging(local, pod, lambda: local.pause(name), lambda: local.resume(name), seconds)


@injection(words=WINDOWS)
def api_server_hangs_in_the_window(local: LocalCluster, _: Cluster) -> AbstractContextManager[None]:
    """While a member is missing nobody can be told anything, for 30 s."""
    return component_hangs(local, "kube-apiserver", "native-incomplete-gang-0", 30)


@injection(words=WINDOWS)
def scheduler_hangs_in_the_window(local: LocalCluster, _: Cluster) -> AbstractContextManager[None]:
    """While a gang does not fit nobody could start it."""
    return component_hangs(local, "kube-scheduler", "native-squeeze-gang-0", _HELD)


@injection(addons=("dranet",), words=("--set", "networking.refused_seconds=6"))
def scheduler_hangs_while_a_pod_is_kept_away(
    local: LocalCluster, _: Cluster
) -> AbstractContextManager[None]:
    """While a pod must not get onto a node without the network, nobody could put it there."""
    return component_hangs(local, "kube-scheduler", "net0-refused", _HELD)


@injection(addons=ADDONS, words=(*only("kueue"), *SHORT, *WINDOWS))
def kueue_hangs_in_the_window(
    local: LocalCluster, cluster: Cluster
) -> AbstractContextManager[None]:
    """While a gang has no quota, Kueue gives none to anybody."""
    (pod,) = managers(cluster)
    node = next(one for one in local.nodes if one.name == pod["spec"]["nodeName"])
    manager = pods.container_status(pod, "manager")
    process = node.container_pid1(str(manager["containerID"]))
    return hanging(
        local,
        "kueue-squeeze-gang-0",
        lambda: os.kill(process, signal.SIGSTOP),
        lambda: os.kill(process, signal.SIGCONT),
        _HELD,
    )
