"""What the machine must be and have before a cluster is started."""

import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from localcluster.errors import ClusterError
from localcluster.paths import cache
from localcluster.progress import Progress
from localcluster.shell import run

# A file of each package that must be installed, and the package.
_NEEDED = {
    "/usr/lib/cni/ptp": "containernetworking-plugins",
    "/usr/sbin/conntrack": "conntrack",
    "/usr/sbin/iptables": "iptables",
    "/usr/sbin/nft": "nftables",
    "/usr/sbin/runc": "runc",
    "/sbin/ip": "iproute2",
    "/usr/bin/iperf3": "iperf3",
    "/usr/bin/mmdebstrap": "mmdebstrap",
    "/usr/bin/nsenter": "util-linux",
}
# Ubuntu lacks the keys for Debian's packages, of which the images are made; mmdebstrap finds the
# keys with gpg.
_DEBIAN_KEYS = {
    "/usr/share/keyrings/debian-archive-keyring.gpg": "debian-archive-keyring",
    "/usr/bin/gpg": "gpg",
}


@dataclass(frozen=True)
class System:
    """A distribution whose packages fit; `tried` if the cluster has been started on it."""

    name: str
    tried: bool
    more: Mapping[str, str] = field(default_factory=dict[str, str])
    """Packages that only this one needs, by a file of each."""

    @property
    def needed(self) -> dict[str, str]:
        """All packages, by a file of each."""
        return {**_NEEDED, **self.more}


SYSTEMS = {
    ("debian", "12"): System("Debian 12", tried=True),
    ("debian", "13"): System("Debian 13", tried=False),
    ("ubuntu", "22.04"): System("Ubuntu 22.04", tried=False, more=_DEBIAN_KEYS),
    ("ubuntu", "24.04"): System("Ubuntu 24.04", tried=False, more=_DEBIAN_KEYS),
}
"""By ID and VERSION_ID of /etc/os-release. The README states the same."""

ELSEWHERE = (
    "`kar run --kubeconfig FILE` can assess any cluster from here, such as one of kind or k3d "
    "(docs/laptop.md)"
)
"""What works where the local cluster does not."""

_GIB = 1024**3
_MB = 1_000_000
# Images on three nodes, and what pods write.
_DISK_RUNNING = 3 * _GIB
_MEMORY = 6 * _GIB


def require_root() -> None:
    """Raise unless this is root on Linux."""
    if platform.system() != "Linux":
        raise ClusterError(f"the local cluster needs Linux; this is {_kernel()}. But {ELSEWHERE}")
    if os.geteuid() != 0:
        raise ClusterError(
            f"the local cluster needs root: run it with sudo. Without root, {ELSEWHERE}"
        )


def _kernel() -> str:
    name = platform.system()
    return {"Darwin": "macOS"}.get(name, name or "an unknown system")


def require_system(os_release: Path = Path("/etc/os-release")) -> System:
    """Return this distribution; raise if its packages are not known to fit."""
    lines = os_release.read_text().splitlines() if os_release.exists() else []
    facts = dict(line.split("=", 1) for line in lines if "=" in line)
    system, version = (facts.get(key, "").strip('"') for key in ("ID", "VERSION_ID"))
    if (system, version) not in SYSTEMS:
        name = facts.get("PRETTY_NAME", "an unknown system").strip('"')
        fit = ", ".join(one.name for one in SYSTEMS.values())
        raise ClusterError(f"the local cluster is built for {fit}; this is {name}. But {ELSEWHERE}")
    return SYSTEMS[system, version]


def require_memory(total_bytes: int) -> None:
    """Raise when the machine is too small for three nodes."""
    if total_bytes < _MEMORY:
        raise ClusterError(
            f"the local cluster needs {_MEMORY // _GIB} GiB of memory; "
            f"this machine has {total_bytes / _GIB:.1f} GiB. But {ELSEWHERE}"
        )


def require_disk(building_mb: int) -> None:
    """Raise when the disk has no room for what will be built, in MB, and for a running cluster."""
    needed: dict[int, tuple[Path, int]] = {}
    for path, size in ((cache(), building_mb * _MB), (Path("/var"), _DISK_RUNNING)):
        folder = existing(path)
        # Both may be on one disk.
        first, before = needed.get(folder.stat().st_dev, (folder, 0))
        needed[folder.stat().st_dev] = (first, before + size)
    for folder, size in needed.values():
        free = shutil.disk_usage(folder).free
        if free < size:
            raise ClusterError(
                f"{size / _GIB:.1f} GiB of free disk are needed at {folder}; "
                f"there are {free / _GIB:.1f} GiB"
            )


def existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    while not path.exists():
        path = path.parent
    return path


def missing_packages(system: System) -> list[str]:
    """The packages that still have to be installed."""
    return [package for file, package in system.needed.items() if not Path(file).exists()]


def install_packages(system: System, progress: Progress) -> None:
    """Install the packages that are missing."""
    missing = missing_packages(system)
    if not missing:
        return
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    with progress.heartbeat(f"installing {system.name} packages: {' '.join(missing)}"):
        run(["apt-get", "update", "-q"], env=environment, timeout=600)
        run(
            ["apt-get", "install", "-q", "-y", "--no-install-recommends", *missing],
            env=environment,
            timeout=900,
        )
    if still := missing_packages(system):
        raise ClusterError(f"these packages did not bring what they should: {still}")
