"""How the machine is divided among the nodes.

Every kubelet sees the whole machine. What it must not give to pods is declared as reserved for
the system, so that the nodes together never offer more than there is.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

MIB = 1024 * 1024
# The kubelet subtracts its eviction threshold from what pods may use; it is named in its
# configuration too.
EVICTION_MEMORY_MIB = 100
# The control plane, the image store and whoever runs the tests live on the same machine.
CONTROL_PLANE_CPU_SHARE = 0.1
CONTROL_PLANE_MEMORY_SHARE = 0.35
# Of what is free; a test must not be able to fill the user's disk.
NODES_STORAGE_SHARE = 0.5


@dataclass(frozen=True)
class Machine:
    """What a machine has, as a kubelet on it would report."""

    cores: int
    memory_bytes: int
    storage_bytes: int
    storage_free_bytes: int


@dataclass(frozen=True)
class Share:
    """What one node offers to pods, and what its kubelet therefore reserves."""

    cpu_millis: int
    memory_mib: int
    storage_mib: int
    reserved_cpu_millis: int
    reserved_memory_mib: int
    reserved_storage_mib: int


def share_machine(machine: Machine, nodes: int) -> Share:
    """Divide a machine among equal nodes, with a part left for the control plane."""
    cpu = int(machine.cores * 1000 * (1 - CONTROL_PLANE_CPU_SHARE)) // nodes
    memory_total = machine.memory_bytes // MIB
    memory = int(memory_total * (1 - CONTROL_PLANE_MEMORY_SHARE)) // nodes
    storage = int(machine.storage_free_bytes * NODES_STORAGE_SHARE) // MIB // nodes
    # The reserved parts are rounded up, because the totals were rounded down.
    return Share(
        cpu_millis=cpu,
        memory_mib=memory,
        storage_mib=storage,
        reserved_cpu_millis=machine.cores * 1000 - cpu,
        reserved_memory_mib=memory_total - memory - EVICTION_MEMORY_MIB + 1,
        reserved_storage_mib=machine.storage_bytes // MIB - storage + 1,
    )


def this_machine(meminfo: Path = Path("/proc/meminfo"), disk: Path = Path("/var")) -> Machine:
    """What this machine has."""
    lines = meminfo.read_text().splitlines()
    memory = next(line for line in lines if line.startswith("MemTotal:"))
    usage = shutil.disk_usage(disk)
    return Machine(
        cores=os.cpu_count() or 1,
        memory_bytes=int(memory.split()[1]) * 1024,
        storage_bytes=usage.total,
        storage_free_bytes=usage.free,
    )
