"""The verdicts on pods that have an RDMA device and no IP interface. Pure."""

from __future__ import annotations

from kar_checks.checks.networking import counters
from kar_checks.checks.networking.counters import elsewhere, listed, risen
from kar_checks.checks.networking.observation import (
    Control,
    Exchange,
    Measured,
    PodOnNetwork,
    RdmaEnd,
)
from kar_checks.checks.networking.rdma import port_of, reported, ways
from kar_checks.checks.networking.rulings import broken, undecided
from kar_checks.kit.verdict import Ruling
from kar_checks.model import Fact, Outcome
from kar_checks.profile import Profile

_MEMORY = ("allocate mr", "create mr", "create cq", "create qp", "cannot allocate memory")
"""What ib_write_bw and its library say where memory cannot be pinned, in small letters."""
_UNSENT = "completion with error"
"""What it says where the device gives up a message."""
_MIB = 1 << 20


def devices(pod: PodOnNetwork, control: Control) -> list[str]:
    """Return the RDMA devices that a pod was given and a pod without the network was not."""
    usual = {one.device for one in control.look.verbs.ports}
    return sorted({one.device for one in pod.look.verbs.ports} - usual)


def exchanged(seen: Measured, profile: Profile) -> Ruling:
    """Judge whether two pods exchanged data over their RDMA devices."""
    if seen.exchange is None:
        return _lacking(seen.pods)
    facts = _facts(seen.pods, seen.exchange)
    return (
        _not_run(seen.pods, seen.exchange, facts)
        or _not_counted(seen.pods, seen.exchange, profile, facts)
        or Ruling(
            Outcome.PASS,
            "carried",
            f"{seen.exchange.bytes / _MIB:g} MiB went each way between {seen.pods[0].node} and "
            f"{seen.pods[1].node} by RDMA, and were counted by the devices' ports in both pods and "
            "by no interface",
            would_change="bytes that do not arrive, or that another interface counts",
            facts=facts,
        )
    )


def _lacking(pods: list[PodOnNetwork]) -> Ruling:
    """Say what an exchange needs and is not there."""
    without = [one.name for one in pods if not one.look.verbs.program]
    if without:
        names = ", ".join(sorted({port.name for one in pods for port in one.look.verbs.ports}))
        return undecided(
            "rdma_without_ip",
            f"pods got RDMA devices ({names}) and no interface with an address, and the image of "
            f"{', '.join(without)} has no ib_write_bw",
            "give the probe pods an image with python3 and perftest by --image python=…",
        )
    for one in pods:
        if port_of(one) is None:
            ports = "; ".join(
                f"{port.name}: state {port.state or 'unknown'}, "
                + ("can be opened" if port.openable else "may not be opened by the pod's user")
                for port in one.look.verbs.ports
            )
            return undecided(
                "no_usable_port",
                f"no port of the RDMA devices of {one.name} can be used ({ports})",
                "the link has to be ACTIVE, and /dev/infiniband/uverbs* open to all users",
            )
    first, second = (port_of(one) for one in pods)
    if first and second and not ways(first, second):
        return undecided(
            "no_common_gid",
            f"{first.name} in {pods[0].name} and {second.name} in {pods[1].name} have no GID of "
            "one kind, which RDMA over Ethernet needs",
            "look at gids and gid_attrs/types of the ports in sysfs",
        )
    return undecided("not_observed", "no exchange over RDMA was tried")


def _not_run(pods: list[PodOnNetwork], exchange: Exchange, facts: list[Fact]) -> Ruling | None:
    """Return why the program did not exchange data, if so."""
    ends = list(zip(pods, exchange.ends, strict=True))
    for pod, end in ends:
        limit = pod.look.verbs.locked_memory
        said = end.stderr.lower()
        if end.exit_code != 0 and limit >= 0 and any(one in said for one in _MEMORY):
            return undecided(
                "locked_memory",
                f"ib_write_bw in {pod.name} could not pin its memory: a process may lock "
                f"{limit:,} bytes there, and it said: {_last(end)}",
                "raise the limit that the container runtime gives to pods: LimitMEMLOCK=infinity "
                "of containerd's service, default_ulimits of CRI-O",
                facts=facts,
            )
    failed = [
        f"in {pod.name} {_ended(end)}: {_last(end)}"
        for pod, end in ends
        if end.exit_code != 0 or reported(end, exchange.size, exchange.count) is None
    ]
    if not failed:
        return None
    told = "; ".join(failed)
    if any(_UNSENT in one.stderr.lower() for one in exchange.ends):
        return broken(
            "no_exchange",
            f"{pods[0].name} on {pods[0].node} and {pods[1].name} on {pods[1].node} could not "
            f"exchange data by RDMA: ib_write_bw {told}",
            facts=facts,
        )
    return undecided(
        "verbs_failed",
        f"ib_write_bw gave no result: {told}",
        "look at what it printed in the run's evidence; it wants devices that know reliable "
        "connections (RC), and the libraries of their driver in the image",
        facts=facts,
    )


def _not_counted(
    pods: list[PodOnNetwork], exchange: Exchange, profile: Profile, facts: list[Fact]
) -> Ruling | None:
    """Return why the counters do not show that the data went over the devices, if so."""
    wanted = exchange.bytes
    least = profile.number("networking.stray_share") * wanted
    stray: list[str] = []
    for pod, end in zip(pods, exchange.ends, strict=True):
        deltas = risen(end.before, end.after)
        if end.on not in deltas:
            return undecided(
                "no_counters",
                f"{end.on} in {pod.name} has neither port_xmit_data and port_rcv_data nor "
                "tx_bytes and rx_bytes in sysfs",
                facts=facts,
            )
        if pod.look.default not in deltas:
            return undecided("no_counters", f"{pod.name} has no byte counters of its interfaces")
        if any(way < 0 for delta in deltas.values() for way in delta):
            return undecided("counters_reset", f"counters in {pod.name} went backwards")
        quiet = max(risen(end.before, end.quiet).get(end.on, (0, 0)))
        if quiet > least:
            stray.append(f"{end.on} in {pod.name} {quiet / _MIB:.1f} MiB before we sent anything")
        others = elsewhere(deltas, end.on, least)
        told = listed(others)
        received, sent = deltas[end.on]
        ways_told = f"received {received / _MIB:.1f} MiB and sent {sent / _MIB:.1f} MiB"
        if min(received, sent) < wanted:
            what = (
                f"ib_write_bw says that {wanted / _MIB:g} MiB went each way, and {end.on} in "
                f"{pod.name} {ways_told}; counted elsewhere: {told or 'nothing'}"
            )
            if any(most >= wanted for most in others.values()):
                return broken("another_interface", what, facts=facts)
            if max(received, sent) >= wanted:
                return broken("one_direction", what, facts=facts)
            return undecided(
                "not_counted",
                what,
                "the port's counters stand still; ask its vendor which ones count RDMA",
                facts=facts,
            )
        if told:
            stray.append(f"{pod.name}: {told}")
    if stray:
        return undecided(
            "stray_bytes",
            f"other bytes were counted, too ({'; '.join(stray)})",
            "run again at a quieter time",
            facts=facts,
        )
    return None


def _ended(end: RdmaEnd) -> str:
    if end.exit_code is None:
        return "did not end in time"
    return f"ended {end.exit_code}" if end.exit_code else "reported nothing"


def _last(end: RdmaEnd) -> str:
    lines = [one.strip(" -*") for one in (end.stderr.strip() or end.stdout).splitlines()]
    return " / ".join([one for one in lines if one][-2:])[-300:] or "it printed nothing"


def _facts(pods: list[PodOnNetwork], exchange: Exchange) -> list[Fact]:
    out: list[Fact] = []
    for pod, end in zip(pods, exchange.ends, strict=True):
        out += counters.facts(
            pod,
            risen(end.before, end.after),
            (end.on, pod.look.default),
            f"sysfs around {exchange.bytes:,} bytes each way"
            + (f", GIDs: {exchange.gids}" if exchange.gids else ""),
        )
        average = reported(end, exchange.size, exchange.count)
        out.append(
            Fact(
                name=f"ib_write_bw in {pod.name}",
                value=_last(end) if average is None else f"{average:g} Gbit/s, both ways together",
                source=" ".join(end.argv),
            )
        )
    return out
