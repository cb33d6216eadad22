"""The pods of the user's stack: which phase they serve, what their interfaces carried."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from kar_checks.checks.stack.client import Address
from kar_checks.checks.stack.engines import Role, is_worker, known, role_of
from kar_checks.checks.stack.observation import LogCount, StackPod, Traffic
from kar_checks.checks.trial import MOST_OUTPUT, Trial
from kar_checks.cluster import kinds, pods
from kar_checks.cluster.client import Object
from kar_checks.cluster.errors import HarnessError

_READ = """cat /proc/net/dev
cd /sys/class/infiniband 2>/dev/null || exit 0
for c in counters/port_rcv_data counters/port_xmit_data hw_counters/rx_bytes hw_counters/tx_bytes
do for f in */ports/*/$c; do test -r $f && echo "port $f $(cat $f)"; done; done; true"""
"""All counters at once; the second way works where an image has no shell."""
_WAYS: tuple[Sequence[str], ...] = (("sh", "-c", _READ), ("cat", "/proc/net/dev"))
_PORT = re.compile(r"port ([^/]+)/ports/(\d+)/\w+/(\w+) (\d+)")
_WORDS = 4
"""An InfiniBand port counts data in units of four bytes."""
_PAST_THE_INTERFACE = re.compile(r"rdma|efa|infiniband|hca|roce|sriov", re.I)
_PROGRAM = re.compile(r"[A-Za-z0-9_./:-]{1,120}")


def find(trial: Trial, namespace: str) -> dict[str, tuple[Object, Role, str]]:
    """Return the stack's running pods by name: the object, its phase and what says so."""
    chosen: dict[Role, str] = {
        "prefill": trial.text("stack.prefill"),
        "decode": trial.text("stack.decode"),
    }
    out: dict[str, tuple[Object, Role, str]] = {}
    if chosen["prefill"]:
        for role, selector in chosen.items():
            for one in trial.cluster.list(kinds.POD, namespace, labels=selector).items:
                name = str(one["metadata"]["name"])
                # Selectors that overlap name a pod of both phases, and that is a finding.
                known_role: Role = "both" if name in out else role
                out[name] = one, known_role, selector
    else:
        for one in trial.cluster.list(kinds.POD, namespace).items:
            if found := role_of(one["metadata"].get("labels") or {}):
                out[str(one["metadata"]["name"])] = one, *found
    return {
        name: one
        for name, one in out.items()
        if pods.phase(one[0]) == "Running" and "deletionTimestamp" not in one[0]["metadata"]
    }


def record(item: Object, role: Role, role_by: str) -> StackPod:
    """Return what is known of a pod beforehand."""
    spec = item["spec"]
    containers = _containers(spec)
    return StackPod(
        name=item["metadata"]["name"],
        uid=item["metadata"]["uid"],
        role=role,
        role_by=role_by,
        worker=is_worker(item["metadata"].get("labels") or {}),
        node=spec.get("nodeName", ""),
        images=sorted({str(one["image"]) for one in containers}),
        commands=sorted(
            {
                str(one["command"][0])
                for one in containers
                if one.get("command") and _PROGRAM.fullmatch(str(one["command"][0]))
            }
        ),
        host_network=bool(spec.get("hostNetwork")),
        devices=_devices(spec, containers),
        restarts=restarts(item),
    )


def _containers(spec: Object) -> list[Object]:
    """Return the containers that go on running, sidecars among the init containers included."""
    sidecars = [
        one for one in spec.get("initContainers") or [] if one.get("restartPolicy") == "Always"
    ]
    return [*spec["containers"], *sidecars]


def restarts(item: Object) -> int:
    """Return how often the containers of a pod were restarted."""
    return sum(int(one.get("restartCount", 0)) for one in pods.statuses(item))


def _devices(spec: Object, containers: Iterable[Object]) -> list[str]:
    names = {
        str(name)
        for one in containers
        for name in ((one.get("resources") or {}).get("limits") or {})
        if "/" in name and _PAST_THE_INTERFACE.search(name)
    }
    names.update(f"claim {one['name']}" for one in spec.get("resourceClaims") or [])
    if any((one.get("securityContext") or {}).get("privileged") for one in containers):
        names.add("devices of the node (privileged)")
    return sorted(names)


def address(item: Object) -> Address:
    """Return where a pod may tell its metrics: declared ports first, then the usual ones."""
    declared = [
        int(port["containerPort"])
        for one in _containers(item["spec"])
        for port in one.get("ports") or []
        if port.get("protocol", "TCP") == "TCP"
    ]
    return Address(
        name=item["metadata"]["name"],
        address=str((item.get("status") or {}).get("podIP", "")),
        ports=tuple(dict.fromkeys([*declared, *known().ports])),
    )


def traffic(trial: Trial, namespace: str, item: Object) -> Traffic | str:
    """Read the byte counters of a pod's interfaces, or say why that is not possible."""
    if item["spec"].get("hostNetwork"):
        return "it shares the node's network, whose counters are not its own"
    why = "it has no running container"
    for one in (item.get("status") or {}).get("containerStatuses") or []:
        for argv in _WAYS:
            try:
                done = trial.exec(
                    item["metadata"]["name"], argv, container=one["name"], namespace=namespace
                )
            except HarnessError as error:
                why = error.fault.message
                continue
            if done.exit_code == 0 and len(done.stdout) < MOST_OUTPUT:
                return parse_traffic(done.stdout)
            why = f"its image has nothing that reads them: {done.stderr.strip()[:120]}"
    return why


def parse_traffic(text: str) -> Traffic:
    """Sum the counters of every interface but the loopback, and of every RDMA port."""
    received, sent = 0, 0
    devices: list[str] = []
    for line in text.splitlines():
        if found := _PORT.fullmatch(line.strip()):
            device, port, counter, value = found.groups()
            size = int(value) * (_WORDS if counter.startswith("port_") else 1)
            if counter in ("port_rcv_data", "rx_bytes"):
                received += size
            else:
                sent += size
            devices.append(f"{device}/{port}")
            continue
        name, colon, rest = line.partition(":")
        numbers = rest.split()
        if colon and name.strip() != "lo" and len(numbers) >= 16:
            received += int(numbers[0])
            sent += int(numbers[8])
            devices.append(name.strip())
    return Traffic(received=received, sent=sent, devices=sorted(set(devices)))


def log_of(
    trial: Trial, namespace: str, item: Object, ids: Sequence[str], seconds: float
) -> LogCount:
    """Look for our request ids in the logs of all containers of a pod."""
    lines = 0
    numbers: set[int] = set()
    for one in _containers(item["spec"]):
        try:
            text = trial.cluster.pod_log(
                namespace, item["metadata"]["name"], one["name"], since_seconds=int(seconds) + 2
            )
        except HarnessError as error:
            return LogCount(lines=lines, ids=[], why_not=error.fault.message)
        lines += text.count("\n")
        numbers.update(number for number, name in enumerate(ids) if name in text)
    return LogCount(lines=lines, ids=sorted(numbers))
