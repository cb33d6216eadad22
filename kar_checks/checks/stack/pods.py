"""The pods of the user's stack: which phase they serve, what their interfaces carried."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence

from kar_checks.checks.stack.client import Address
from kar_checks.checks.stack.engines import Role, is_worker, known, role_of
from kar_checks.checks.stack.observation import LogCount, StackPod, Traffic
from kar_checks.cluster import kinds, pods
from kar_checks.cluster.client import Object
from kar_checks.cluster.errors import HarnessError
from kar_checks.kit.trial import Trial

_READ = """cat /proc/uptime /proc/net/dev /proc/uptime
cd /sys/class/infiniband 2>/dev/null || exit 0
for c in counters/port_rcv_data counters/port_xmit_data hw_counters/rx_bytes hw_counters/tx_bytes
do for f in */ports/*/$c; do test -r $f && echo "port $f $(cat $f)"; done; done; true"""
"""All counters at once, for an image without Python."""
_READ_ALL = r"""
import glob, socket, struct
for path in ("/proc/uptime", "/proc/net/dev", "/proc/uptime"):
    print(open(path).read())
for kind in ("counters/port_rcv_data counters/port_xmit_data hw_counters/rx_bytes "
             "hw_counters/tx_bytes").split():
    for path in glob.glob("/sys/class/infiniband/*/ports/*/" + kind):
        try:
            print("port", path[len("/sys/class/infiniband/"):], open(path).read().strip())
        except OSError:
            pass
peers = {}
for family in socket.AF_INET, socket.AF_INET6:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4) as diag:
        diag.settimeout(3)
        diag.send(struct.pack("=IHHIIBBBBI48x", 72, 20, 0x301, 1, 0, family, 6, 2, 0, 0x3be))
        more = True
        while more:
            data = diag.recv(1 << 20)
            while more and len(data) >= 16:
                size, kind = struct.unpack_from("=IH", data)
                if kind in (2, 3) or size < 16:
                    more = False
                    break
                body, data = data[16:size], data[(size + 3) & ~3:]
                raw = body[24:28] if family == socket.AF_INET else body[24:40]
                peer = socket.inet_ntop(family, raw)
                body = body[72:]
                while len(body) >= 4:
                    length, kind = struct.unpack_from("=HH", body)
                    if kind == 2 and length >= 140:
                        acked, received = struct.unpack_from("=QQ", body, 124)
                        one = peers.setdefault(peer, [0, 0])
                        one[0] += received
                        one[1] += acked
                    body = body[max(4, (length + 3) & ~3):]
print("peers")
for peer, (received, sent) in peers.items():
    print("peer", peer, received, sent)
"""
"""The same, and what each open TCP connection carried, as the kernel tells it to anybody."""
_WAYS: tuple[Sequence[str], ...] = (
    ("python3", "-I", "-S", "-c", _READ_ALL),
    ("sh", "-c", _READ),
    ("cat", "/proc/uptime", "/proc/net/dev", "/proc/uptime"),
)
_PORT = re.compile(r"port ([^/]+)/ports/(\d+)/\w+/(\w+) (\d+)")
_PEER = re.compile(r"peer (\S+) (\d+) (\d+)")
_UPTIME = re.compile(r"(\d+\.\d+) \d+\.\d+")
_MAPPED = "::ffff:"
"""How an IPv6 socket writes the IPv4 address of its peer."""
_NETWORKS = "k8s.v1.cni.cncf.io/network-status"
_WORDS = 4
"""An InfiniBand port counts data in units of four bytes."""
_PAST_THE_INTERFACE = re.compile(r"rdma|efa|infiniband|hca|roce|sriov", re.I)
READ_SECONDS = 15
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
        flags=_flags(containers),
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


def _flags(containers: Iterable[Object]) -> list[str]:
    """Return the options that only a simulator has; no other word of a command is kept."""
    words = {
        str(word).partition("=")[0]
        for one in containers
        for part in ("command", "args")
        for argument in one.get(part) or []
        # A shell's whole command line is one argument.
        for word in str(argument).split()
    }
    return sorted(words & {flag for one in known().simulators for flag in one.flags})


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


def addresses(item: Object) -> set[str]:
    """Return all addresses of a pod, those on further networks included."""
    status, meta = item.get("status") or {}, item["metadata"]
    found = {str(one.get("ip", "")) for one in status.get("podIPs") or []}
    found.add(str(status.get("podIP", "")))
    try:
        networks = json.loads((meta.get("annotations") or {}).get(_NETWORKS) or "[]")
        found.update(str(ip) for one in networks for ip in one.get("ips") or [])
    except (ValueError, TypeError, AttributeError):
        pass  # what others write there is no business of ours
    return found - {""}


class Meter:
    """Reads the byte counters of one pod's interfaces, time and again, and in one way."""

    def __init__(
        self, trial: Trial, namespace: str, item: Object, names: Mapping[str, str]
    ) -> None:
        """``names`` are those of all pods of the stack, by address."""
        self._trial = trial
        self._namespace = namespace
        self._pod = str(item["metadata"]["name"])
        self._names = names
        self._ways: list[tuple[str, Sequence[str]]] = [
            (str(one["name"]), argv)
            for one in (item.get("status") or {}).get("containerStatuses") or []
            for argv in _WAYS
        ]
        self.why_not = "" if self._ways else "it has no running container"
        if item["spec"].get("hostNetwork"):
            self._ways = []
            self.why_not = "it shares the node's network, whose counters are not its own"
        self.readings: list[Traffic] = []

    def read(self) -> None:
        """Read once more; after a way that works no other is tried."""
        if self.why_not:
            return
        why = ""
        # A way that worked before gets a second chance: a busy node loses a command at times.
        again = self._ways if self.readings else []
        for container, argv in [*self._ways, *again]:
            try:
                done = self._trial.cluster.exec(
                    self._namespace, self._pod, argv, container=container, seconds=READ_SECONDS
                )
            except HarnessError as error:
                why = error.fault.message
                continue
            if done.exit_code == 0:
                self._ways = [(container, argv)]
                self.readings.append(parse_traffic(done.stdout, self._names))
                return
            why = f"its image has nothing that reads them: {done.stderr.strip()[:120]}"
        self.why_not = why or "its counters could not be read"


def parse_traffic(text: str, names: Mapping[str, str] | None = None) -> Traffic:
    """Sum the counters of every interface but the loopback, and of every RDMA port.

    ``names`` are those of the pods whose connections count, by address.
    """
    received, sent = 0, 0
    devices: list[str] = []
    times: list[float] = []
    peers: dict[str, tuple[int, int]] | None = None
    for line in map(str.strip, text.splitlines()):
        if found := _PORT.fullmatch(line):
            device, port, counter, value = found.groups()
            size = int(value) * (_WORDS if counter.startswith("port_") else 1)
            if counter in ("port_rcv_data", "rx_bytes"):
                received += size
            else:
                sent += size
            devices.append(f"{device}/{port}")
        elif found := _UPTIME.fullmatch(line):
            times.append(float(found[1]))
        elif line == "peers":
            peers = {}
        elif peers is not None and (found := _PEER.fullmatch(line)):
            if name := (names or {}).get(found[1].removeprefix(_MAPPED)):
                had = peers.get(name, (0, 0))
                peers[name] = had[0] + int(found[2]), had[1] + int(found[3])
        else:
            name, colon, rest = line.partition(":")
            numbers = rest.split()
            if colon and name != "lo" and len(numbers) >= 16:
                received += int(numbers[0])
                sent += int(numbers[8])
                devices.append(name)
    # A busy node may take a while between two lines: the middle is least wrong.
    at = sum(times) / len(times) if times else None
    return Traffic(received=received, sent=sent, devices=sorted(set(devices)), at=at, peers=peers)


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
