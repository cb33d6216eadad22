"""Ending a cluster, or what an unclean death left of one."""

import shutil
from contextlib import suppress
from pathlib import Path

from localcluster import cgroups, network, state
from localcluster.errors import ClusterError
from localcluster.layout import CGROUPS
from localcluster.paths import STATE
from localcluster.processes import kill_all
from localcluster.progress import Progress
from localcluster.shell import run


def remains() -> list[str]:
    """What exists on this machine of a cluster, in words."""
    found = [f"link or namespace {name}" for name in network.remains()]
    found += [
        f"control group {tree.root / name}"
        for name in CGROUPS
        for tree in cgroups.hierarchies()
        if (tree.root / name).exists()
    ]
    found += [f"mount {path}" for path in _mounts()]
    if STATE.exists():
        found.append(f"folder {STATE}")
    return found


def tear_down(progress: Progress) -> None:
    """Remove everything; raises when something will not go."""
    record = _recorded()
    progress.say("ending all processes")
    # At once and for certain: nothing of what they would still write is kept.
    kill_all(record.processes.values() if record else (), CGROUPS)
    progress.say("removing links, namespaces, mounts and control groups")
    for path in _mounts():
        run(["umount", "--lazy", path], check=False)
    if mounted := _mounts():
        # What is mounted there would be deleted with the folder.
        raise ClusterError(f"cannot unmount {' '.join(mounted)}")
    network.remove()
    stuck = [str(folder) for name in CGROUPS for folder in cgroups.remove(name)]
    if stuck:
        raise ClusterError(f"these control groups cannot be removed: {' '.join(stuck)}")
    shutil.rmtree(STATE, ignore_errors=True)
    with suppress(OSError):
        # Only if empty; what else may be there is not the cluster's.
        STATE.parent.rmdir()
    if left := remains():
        raise ClusterError(f"could not remove: {'; '.join(left)}")


def _recorded() -> state.State | None:
    try:
        return state.load()
    except ClusterError:
        # Control groups and names still tell what is ours.
        return None


def _mounts() -> list[str]:
    """Mounts below the state folder that reached the machine's own view, innermost first."""
    targets = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [path for path in reversed(targets) if path.startswith(f"{STATE}/")]
