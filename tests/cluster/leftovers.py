"""What a cluster could leave on its machine, as comparable sets."""

import json
import subprocess
from dataclasses import dataclass, fields
from pathlib import Path

from localcluster.node import STANDARD_PATHS
from localcluster.paths import STATE, cache

# Where kubelet and containerd make folders unless they are kept from it.
MADE_BY_DAEMONS = ("/opt/containerd", "/usr/libexec/kubernetes", "/var/lib/nri")


@dataclass(frozen=True)
class Snapshot:
    """One moment of the machine."""

    processes: frozenset[str]
    links: frozenset[str]
    routes: frozenset[str]
    namespaces: frozenset[str]
    mounts: frozenset[str]
    cgroups: frozenset[str]
    nftables: frozenset[str]
    folders: frozenset[str]

    def additions(self, later: "Snapshot") -> dict[str, list[str]]:
        """What exists later and did not before, by kind; kinds without news are left out."""
        news = {
            field.name: sorted(getattr(later, field.name) - getattr(self, field.name))
            for field in fields(self)
        }
        return {kind: found for kind, found in news.items() if found}


def take() -> Snapshot:
    """Look at the machine now."""
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    folders = [STATE.parent, *(Path(path) for path in (*STANDARD_PATHS, *MADE_BY_DAEMONS))]
    return Snapshot(
        processes=frozenset(_processes()),
        links=frozenset(link["ifname"] for link in _ip("link")),
        routes=frozenset(f"{route['dst']} {route.get('dev')}" for route in _ip("route")),
        namespaces=frozenset(str(path) for path in Path("/run/netns").glob("*")),
        mounts=frozenset(line.split()[4] for line in mounts),
        cgroups=frozenset(str(path) for path in Path("/sys/fs/cgroup").rglob("kar*")),
        nftables=frozenset(_lines("nft", "list", "tables")),
        folders=frozenset(str(path) for path in folders if path.exists()),
    )


def _processes() -> list[str]:
    """The processes that run a program which was built for a cluster or for its images.

    Others come and go on a machine that is in use.
    """
    found: list[str] = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            program = str((folder / "exe").readlink())
            groups = (folder / "cgroup").read_text()
        except OSError:
            continue
        if program.startswith(str(cache())) or ":/kar" in groups:
            found.append(f"{folder.name} {program}")
    return found


def _ip(kind: str) -> list[dict[str, str]]:
    done = subprocess.run(["ip", "-j", kind], capture_output=True, text=True, check=True)
    answer: list[dict[str, str]] = json.loads(done.stdout or "[]")
    return answer


def _lines(*argv: str) -> list[str]:
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()
