"""What the machine must be and have before a cluster is started."""

import os
import shutil
from pathlib import Path

from localcluster.errors import ClusterError
from localcluster.paths import cache
from localcluster.progress import Progress
from localcluster.shell import run

# A file that tells that a Debian package is there, and the package.
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
_GIB = 1024**3
_MB = 1_000_000
# Images on three nodes, and what pods write.
_DISK_RUNNING = 3 * _GIB
_MEMORY = 6 * _GIB


def require_root() -> None:
    """Raise unless this is root on Linux."""
    if os.uname().sysname != "Linux":
        raise ClusterError(f"the local cluster needs Linux; this is {os.uname().sysname}")
    if os.geteuid() != 0:
        raise ClusterError("the local cluster needs root; run this as root or with sudo")


def require_debian(os_release: Path = Path("/etc/os-release")) -> None:
    """Raise unless this is the Debian release whose packages are known to fit."""
    lines = os_release.read_text().splitlines() if os_release.exists() else []
    facts = dict(line.split("=", 1) for line in lines if "=" in line)
    system, version = (facts.get(key, "").strip('"') for key in ("ID", "VERSION_ID"))
    if (system, version) != ("debian", "12"):
        name = facts.get("PRETTY_NAME", "an unknown system").strip('"')
        raise ClusterError(f"the local cluster is built for Debian 12; this is {name}")


def require_memory(total_bytes: int) -> None:
    """Raise when the machine is too small for three nodes."""
    if total_bytes < _MEMORY:
        raise ClusterError(
            f"the local cluster needs {_MEMORY // _GIB} GiB of memory; "
            f"this machine has {total_bytes / _GIB:.1f} GiB"
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


def missing_packages() -> list[str]:
    """The Debian packages that still have to be installed."""
    return [package for file, package in _NEEDED.items() if not Path(file).exists()]


def install_packages(progress: Progress) -> None:
    """Install the Debian packages that are missing."""
    missing = missing_packages()
    if not missing:
        return
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    with progress.heartbeat(f"installing Debian packages: {' '.join(missing)}"):
        run(["apt-get", "update", "-q"], env=environment, timeout=600)
        run(
            ["apt-get", "install", "-q", "-y", "--no-install-recommends", *missing],
            env=environment,
            timeout=900,
        )
    if still := missing_packages():
        raise ClusterError(f"these Debian packages did not bring what they should: {still}")
