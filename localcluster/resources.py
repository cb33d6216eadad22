"""How the machine is divided among the nodes.

Every kubelet sees the whole machine. What it must not give to pods is declared as reserved for
the system, so that the nodes together never offer more than there is.
"""

import os
from dataclasses import dataclass
from pathlib import Path

MIB = 1024 * 1024
# The kubelet subtracts its eviction threshold from what pods may use; it is named in its
# configuration too.
EVICTION_MEMORY_MIB = 100
# The control plane, the image store and whoever runs the tests live on the same machine.
CONTROL_PLANE_CPU_SHARE = 0.1
CONTROL_PLANE_MEMORY_SHARE = 0.35


@dataclass(frozen=True)
class Share:
    """What one node offers to pods, and what its kubelet therefore reserves."""

    cpu_millis: int
    memory_mib: int
    reserved_cpu_millis: int
    reserved_memory_mib: int


def share_machine(cores: int, memory_bytes: int, nodes: int) -> Share:
    """Divide a machine among equal nodes, with a part left for the control plane."""
    cpu = int(cores * 1000 * (1 - CONTROL_PLANE_CPU_SHARE)) // nodes
    total = memory_bytes // MIB
    memory = int(total * (1 - CONTROL_PLANE_MEMORY_SHARE)) // nodes
    return Share(
        cpu_millis=cpu,
        memory_mib=memory,
        reserved_cpu_millis=cores * 1000 - cpu,
        # Rounded up, because `total` was rounded down.
        reserved_memory_mib=total - memory - EVICTION_MEMORY_MIB + 1,
    )


def machine_cores() -> int:
    """The processors of this machine, as the kubelet counts them."""
    return os.cpu_count() or 1


def machine_memory(meminfo: Path = Path("/proc/meminfo")) -> int:
    """The memory of this machine in bytes."""
    for line in meminfo.read_text().splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"{meminfo} does not name MemTotal")
