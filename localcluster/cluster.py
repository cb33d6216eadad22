"""The running cluster, for tests and tools: find it, look into it, change its components."""

import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from localcluster import cgroups, state
from localcluster.components import Component
from localcluster.errors import ClusterError
from localcluster.layout import NODES, NodeLayout
from localcluster.lifecycle import start_component
from localcluster.node import CONTAINERD_SOCKET, enter_argv
from localcluster.paths import KUBECONFIG
from localcluster.processes import Process, end
from localcluster.settings import Settings
from localcluster.shell import answer, run

READY_SECONDS = 120.0
_POLL_SECONDS = 0.25


@dataclass(frozen=True)
class Node:
    """A node as the machine that hosts it sees it."""

    layout: NodeLayout
    holder_pid: int

    @property
    def name(self) -> str:
        """The node's name in Kubernetes."""
        return self.layout.name

    @property
    def netns(self) -> str:
        """The name of the node's network namespace."""
        return self.layout.name

    @property
    def address(self) -> str:
        """The node's InternalIP."""
        return self.layout.address

    @property
    def cgroup_root(self) -> str:
        """The node's control group, relative to the root of every hierarchy."""
        return f"/{self.layout.name}"

    def exec(
        self, argv: Sequence[str], *, check: bool = True, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run a program of the machine inside the node's network and mount namespaces."""
        return run([*enter_argv(self.holder_pid), *argv], check=check, timeout=timeout)

    def container_cgroup_files(
        self, pod_uid: str, container_id: str, controller_file: str
    ) -> list[Path]:
        """A container's kernel file, such as `cpu.max`, to read or rewrite from the machine."""
        return cgroups.container_files(self.name, pod_uid, container_id, controller_file)

    def container_pid1(self, container_id: str) -> int:
        """The machine's process id of a container's first process."""
        container = container_id.rpartition("/")[2]
        for pid in sorted(cgroups.container_processes(self.name, container)):
            try:
                status = Path(f"/proc/{pid}/status").read_text()
            except OSError:
                continue
            ids = next(line for line in status.splitlines() if line.startswith("NSpid:"))
            if ids.split()[-1] == "1":
                return pid
        raise ClusterError(f"container {container} runs no process on {self.name}")


class LocalCluster:
    """The cluster of this machine."""

    def __init__(self, record: state.State) -> None:
        self._record = record

    @classmethod
    def load(cls) -> "LocalCluster":
        """The cluster that was started before; raises if there is none."""
        record = state.load()
        if record is None:
            raise ClusterError("no local cluster is running")
        return cls(record)

    @property
    def settings(self) -> Settings:
        """What the cluster was started with."""
        return self._record.settings

    @property
    def kubeconfig(self) -> Path:
        """A kubeconfig with every right."""
        return KUBECONFIG

    @property
    def kubectl(self) -> list[str]:
        """The words before a kubectl command on this cluster."""
        program = self._record.binary("kubernetes") / "kubectl"
        return [str(program), f"--kubeconfig={self.kubeconfig}"]

    @property
    def nodes(self) -> list[Node]:
        """The nodes, in the order of their names."""
        processes = self._record.processes
        return [Node(layout, processes[f"node@{layout.name}"].pid) for layout in NODES]

    def import_image(self, node: Node, file: Path) -> None:
        """Put an image on a node, before anything there wants it."""
        self.images(node, "import", str(file))

    def images(self, node: Node, *words: str) -> None:
        """Do to the images of a node what `ctr images WORDS` does."""
        program = self._record.binary("containerd") / "ctr"
        address = f"--address={CONTAINERD_SOCKET}"
        node.exec([str(program), address, "--namespace=k8s.io", "images", *words])

    @property
    def components(self) -> list[str]:
        """The names of all components."""
        return sorted(self._record.components)

    def alive(self, name: str) -> bool:
        """Whether a component's process runs."""
        return self._process(name).alive

    def pid(self, name: str) -> int:
        """The process id of a component."""
        return self._process(name).pid

    def log(self, name: str) -> Path:
        """The file that a component prints to."""
        return self._component(name).log

    def stop(self, name: str) -> None:
        """End a component, kindly first."""
        end(self._process(name), self._component(name).grace)

    def start(
        self,
        name: str,
        extra_args: Sequence[str] = (),
        feature_gates: Mapping[str, bool] | None = None,
    ) -> None:
        """Start a component that was stopped; changes hold for this start only.

        An extra argument replaces the component's own flag of the same name. Feature gates are
        merged into the component's own.
        """
        component = self._component(name)
        if self.alive(name):
            raise ClusterError(f"{name} is running already")
        start_component(self._record, component, extra_args, feature_gates)

    def restart(
        self,
        name: str,
        extra_args: Sequence[str] = (),
        feature_gates: Mapping[str, bool] | None = None,
    ) -> None:
        """Stop and start a component; without changes this also undoes earlier ones."""
        self.stop(name)
        self.start(name, extra_args, feature_gates)

    def pause(self, name: str) -> None:
        """Let a component hang: it keeps its connections and answers nothing."""
        self._process(name).signal(signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """Let a paused component go on."""
        self._process(name).signal(signal.SIGCONT)

    def ready(self, timeout: float = READY_SECONDS) -> None:
        """Wait until everything runs, the API answers and every node is ready."""
        deadline = time.monotonic() + timeout
        while reason := self.unready_reason():
            # Nothing starts a component again but we ourselves, so there is nothing to wait for.
            dead = next((name for name in self.components if not self.alive(name)), None)
            if dead:
                raise ClusterError(f"the cluster is not ready: {dead} ended", self.log(dead))
            if time.monotonic() > deadline:
                raise ClusterError(f"the cluster is not ready after {timeout:.0f} s: {reason}")
            time.sleep(_POLL_SECONDS)

    def unready_reason(self) -> str | None:
        """Why the cluster is not ready; nothing if it is."""
        dead = [name for name in self.components if not self.alive(name)]
        if dead:
            return f"{', '.join(dead)} does not run"
        if answer([*self.kubectl, "get", "--raw", "/readyz", "--request-timeout=2s"]) != "ok":
            return "the API server is not ready"
        ready = '{range .items[*]}{.metadata.name}={.status.conditions[?(@.type=="Ready")].status} '
        seen = answer(
            [*self.kubectl, "get", "nodes", "--request-timeout=2s", f"-o=jsonpath={ready}{{end}}"]
        )
        states = set((seen or "").split())
        waiting = [node.name for node in NODES if f"{node.name}=True" not in states]
        return f"{', '.join(waiting)} not Ready" if waiting else None

    def _component(self, name: str) -> Component:
        try:
            return self._record.components[name]
        except KeyError:
            known = ", ".join(self.components)
            raise ClusterError(f"there is no component {name!r}; known: {known}") from None

    def _process(self, name: str) -> Process:
        self._component(name)
        return self._record.processes[name]
