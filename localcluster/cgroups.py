"""Control groups of the nodes and of the control plane, on version 1 and version 2 hosts.

Every process of the cluster lives in a folder of ours. That is what makes an end certain:
whatever is listed there is ours, however it was started.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MOUNTS = Path("/proc/mounts")
# Where a node's own daemons live: beside `kubepods`, because a version 2 folder that has
# children with controllers may hold no processes itself.
SYSTEM = "system"
_CPUSET_FILES = ("cpuset.cpus", "cpuset.mems")


@dataclass(frozen=True)
class Hierarchy:
    """One mounted tree of control groups; version 1 names its controllers in the options."""

    root: Path
    unified: bool
    options: frozenset[str]


def hierarchies(mounts: str | None = None) -> list[Hierarchy]:
    """The trees of this machine: one on a version 2 host, one per controller on version 1."""
    found: dict[Path, Hierarchy] = {}
    for line in (MOUNTS.read_text() if mounts is None else mounts).splitlines():
        _, target, kind, options, *_ = line.split()
        if kind == "cgroup2":
            found[Path(target)] = Hierarchy(Path(target), True, frozenset())
        elif kind == "cgroup":
            found[Path(target)] = Hierarchy(Path(target), False, frozenset(options.split(",")))
    return list(found.values())


def create(name: str, *, with_pods: bool) -> None:
    """Create the folder `name` with its `system` folder in every tree."""
    for tree in hierarchies():
        folder = tree.root / name
        if tree.unified:
            _delegate(tree.root)
            folder.mkdir(exist_ok=True)
            if with_pods:
                _delegate(folder)
            (folder / SYSTEM).mkdir(exist_ok=True)
            continue
        for path in (folder, folder / SYSTEM):
            path.mkdir(exist_ok=True)
            if "cpuset" in tree.options:
                # A new version 1 cpuset is empty and refuses every process.
                for file in _CPUSET_FILES:
                    (path / file).write_text((path.parent / file).read_text())


def _delegate(folder: Path) -> None:
    """Hand every controller of a version 2 folder to its children."""
    for controller in (folder / "cgroup.controllers").read_text().split():
        try:
            (folder / "cgroup.subtree_control").write_text(f"+{controller}")
        except OSError:
            # Some controllers cannot be delegated on some machines; the kubelet names those
            # that it misses.
            continue


def join_files(name: str) -> list[Path]:
    """The files into which a process writes itself to enter `name`'s system folder."""
    return [tree.root / name / SYSTEM / "cgroup.procs" for tree in hierarchies()]


def _folders(name: str) -> Iterator[Path]:
    """The folder `name` and all below it, in every tree, deepest first."""
    for tree in hierarchies():
        root = tree.root / name
        if root.is_dir():
            below = [path for path in root.rglob("*") if path.is_dir()]
            yield from sorted(below, key=lambda path: len(path.parts), reverse=True)
            yield root


def processes(name: str) -> set[int]:
    """The ids of all processes in the folder `name` and below it."""
    found: set[int] = set()
    for folder in _folders(name):
        try:
            found.update(int(pid) for pid in (folder / "cgroup.procs").read_text().split())
        except OSError:
            # The folder went away, or is a threaded one, which lists nothing itself.
            continue
    found.discard(0)
    return found


def thaw(name: str) -> None:
    """Let frozen processes run, since a frozen one does not die."""
    for folder in _folders(name):
        for file, word in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
            try:
                if (folder / file).exists():
                    (folder / file).write_text(word)
            except OSError:
                continue


def remove(name: str, timeout: float = 10) -> list[Path]:
    """Remove the folder `name` from every tree; returns what would not go."""
    deadline = time.monotonic() + timeout
    while True:
        for folder in _folders(name):
            try:
                folder.rmdir()
            except OSError:
                # A process that was just killed may still be on its way out.
                continue
        left = list(_folders(name))
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.05)


def container_files(node: str, pod_uid: str, container_id: str, file: str) -> list[Path]:
    """A container's kernel file as the host sees it, such as `cpu.max` or `cpu.cfs_quota_us`."""
    container = container_id.rpartition("/")[2]
    # Guaranteed pods have no folder of a class above their own. A search through all folders
    # would stumble over pods that are just being removed.
    places = [("kubepods",), ("kubepods", "burstable"), ("kubepods", "besteffort")]
    found = [
        tree.root.joinpath(node, *place, f"pod{pod_uid}", container, file)
        for tree in hierarchies()
        for place in places
    ]
    return [path for path in found if path.exists()]


def container_processes(node: str, container: str) -> set[int]:
    """The processes of a container of a node, by the ids that the host gives them."""
    found: set[int] = set()
    for tree in hierarchies():
        for pattern in (f"pod*/{container}", f"*/pod*/{container}"):
            for folder in (tree.root / node / "kubepods").glob(pattern):
                try:
                    pids = (folder / "cgroup.procs").read_text().split()
                except OSError:
                    # Removed since it was found.
                    continue
                found.update(int(pid) for pid in pids)
    return found
