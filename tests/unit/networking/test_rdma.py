"""RDMA devices without an IP interface: the real probe runs, over a made-up sysfs.

No RDMA hardware is at hand: the program that uses it is a stand-in, which also lies and fails.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from kar_checks import profile
from kar_checks.checks.networking import rdma_exchange, trial
from kar_checks.checks.networking.judge import judge
from kar_checks.checks.networking.observation import NetworkingObservation
from kar_checks.checks.networking.rdma import kind, reported, ways
from kar_checks.cluster.client import Cluster, ExecResult
from kar_checks.cluster.facts import Facts
from kar_checks.cluster.ownership import Workspace
from kar_checks.cluster.target import Target
from kar_checks.kit.networks.attach import PodNetwork
from kar_checks.kit.networks.records import (
    Exchange,
    Gid,
    Measured,
    Nic,
    PodOnNetwork,
    RdmaEnd,
    RdmaPort,
)
from kar_checks.kit.networks.stage import Stage
from kar_checks.kit.trial import Trial
from kar_checks.model import Finding

HERE = Path(__file__).parent
RECORDED = (HERE / "recorded" / "observation.json").read_text()
LINK_LOCAL = "fe80:0000:0000:0000:0e42:a1ff:fe00:0001"
IPV4 = "0000:0000:0000:0000:0000:ffff:0a00:0001"
MIB = 1 << 20
LITTLE = profile.load(None, ["networking.mebibytes=1"])
SHORT = profile.load(None, ["networking.mebibytes=1", "networking.transfer_seconds=2"])

NIC = Nic(
    mac="",
    addresses=[],
    mtu="1500",
    speed="",
    operstate="up",
    hardware="1",
    kind="",
    pci="",
    numa_node="",
    rdma=[],
)

IN_POD = """
import sys
from pathlib import Path
from probes import nic_probe as probe
root = Path(sys.argv[1])
probe.NET, probe.RDMA = root / "net", root / "infiniband"
probe.VERBS, probe.NODES = root / "infiniband_verbs", root / "dev"
probe.QUIET_SECONDS, probe._COUNTED_SECONDS = 0.05, 0.1
sys.exit(probe.main(sys.argv[2:]))
"""


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def sysfs(root: Path, layer: str = "Ethernet", counters: str = "counters") -> Path:
    """Make what a pod sees that was given the RDMA device mlx5_1 of a host with two."""
    port = "infiniband/mlx5_1/ports/1"
    names = {
        "counters": ("port_rcv_data", "port_xmit_data"),
        "hw_counters": ("rx_bytes", "tx_bytes"),
        "none": (),
    }
    return tree(
        root,
        {
            "dev/uverbs1": "",
            "dev/rdma_cm": "",
            "infiniband_verbs/uverbs0/ibdev": "mlx5_0\n",
            "infiniband_verbs/uverbs1/ibdev": "mlx5_1\n",
            "infiniband/mlx5_0/ports/1/state": "4: ACTIVE\n",
            f"{port}/state": "4: ACTIVE\n",
            f"{port}/link_layer": f"{layer}\n",
            f"{port}/gids/0": f"{LINK_LOCAL}\n",
            f"{port}/gids/1": f"{LINK_LOCAL}\n",
            f"{port}/gids/2": "0000:0000:0000:0000:0000:0000:0000:0000\n",
            f"{port}/gids/3": f"{IPV4}\n",
            f"{port}/gid_attrs/types/0": "IB/RoCE v1\n",
            f"{port}/gid_attrs/types/1": "RoCE v2\n",
            f"{port}/gid_attrs/types/3": "RoCE v2\n",
            **{f"{port}/{counters}/{one}": "1000\n" for one in names[counters]},
            "net/eth0/statistics/rx_bytes": "5000\n",
            "net/eth0/statistics/tx_bytes": "5000\n",
        },
    )


class Pods:
    """Runs the probe of each pod as a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mode = "honest"
        programs = folder / "bin"
        programs.mkdir()
        program = programs / "ib_write_bw"
        program.write_text(f"#!{sys.executable}\n{(HERE / 'ib_write_bw.py').read_text()}")
        program.chmod(0o755)
        self.path = f"{programs}:{os.environ['PATH']}"

    def exec(
        self, namespace: str, pod: str, argv: Sequence[str], *, container: str, seconds: float
    ) -> ExecResult:
        assert argv[:2] == ["python3", "/probe/nic_probe.py"]
        root = self.folder / pod
        done = subprocess.run(
            [sys.executable, "-c", IN_POD, str(root), *argv[2:]],
            env={"PATH": self.path, "FAKE_SYS": str(root), "FAKE_MODE": self.mode},
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            cwd=HERE.parents[2],
        )
        return ExecResult(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def pods(tmp_path: Path) -> Pods:
    return Pods(tmp_path)


@pytest.fixture
def kept() -> dict[str, str]:
    return {}


@pytest.fixture
def stage(
    cluster: Cluster, pods: Pods, kept: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Stage:
    monkeypatch.setattr(cluster, "exec", pods.exec)
    with socket.create_server(("127.0.0.1", 0)) as one:
        monkeypatch.setattr(rdma_exchange, "PORT", one.getsockname()[1] - 1)
    facts = Facts(version="v1.37.0", user="", cluster_uid="", nodes=None, served=frozenset())
    space = Workspace(cluster, Target(namespace="ns"), run_id="r1", until=9e9)

    def keep(name: str, text: str) -> str:
        kept[name] = text
        return name

    surroundings = Trial(cluster, space, facts, LITTLE, frozenset(), evidence=keep)
    return Stage(surroundings, PodNetwork(), "net0")


def network(stage: Stage, pods: Pods) -> Measured:
    """Return what the trial sees of a pair of pods, up to the exchange; each as it looks round."""
    seen = NetworkingObservation.model_validate_json(RECORDED).networks["dra.net"]
    assert isinstance(seen, Measured)
    found: list[PodOnNetwork] = []
    for name, one in zip(("client", "server"), seen.pods, strict=True):
        look = stage.look({"metadata": {"name": name}}).model_copy(update={"default": "eth0"})
        memory = look.verbs.model_copy(update={"locked_memory": 65536})
        look = look.model_copy(update={"verbs": memory})
        found.append(one.model_copy(update={"name": name, "told": None, "look": look}))
    return seen.model_copy(update={"pods": found, "transfer": None})


def exchanged(stage: Stage, pods: Pods, mode: str) -> Measured:
    seen = network(stage, pods)
    pods.mode = mode
    done = rdma_exchange.exchange(stage, seen.pods, "127.0.0.1")
    return seen.model_copy(update={"exchange": done})


def verdict(seen: Measured, check: str = "data_path") -> Finding:
    whole = NetworkingObservation.model_validate_json(RECORDED)
    whole = whole.model_copy(update={"networks": {"rdma/hca": seen}})
    # What a stored run says is judged, as `kar judge` does.
    stored = NetworkingObservation.model_validate_json(whole.model_dump_json())
    (finding,) = judge(f"networking.{check}", stored, profile.default())
    return finding


def both(pods: Pods, **how: str) -> None:
    for name in ("client", "server"):
        sysfs(pods.folder / name, **how)


@pytest.mark.parametrize(
    ("mode", "how", "outcome", "reason", "told"),
    [
        ("honest", {}, "pass", "carried", "1 MiB went each way"),
        ("honest", {"layer": "InfiniBand"}, "pass", "carried", "by RDMA"),
        ("hardware", {"counters": "hw_counters"}, "pass", "carried", "by RDMA"),
        ("link_local", {}, "pass", "carried", "by RDMA"),
        ("lies", {"counters": "none"}, "inconclusive", "no_counters", "port_xmit_data"),
        ("lies", {}, "inconclusive", "not_counted", "sent 0.0 MiB"),
        ("one_way", {}, "fail", "one_direction", "received 0.0 MiB and sent 1.0 MiB"),
        ("eth0", {}, "fail", "another_interface", "eth0 1.0 MiB"),
        ("unreachable", {}, "fail", "no_exchange", "transport retry counter exceeded"),
        ("silent", {}, "inconclusive", "verbs_failed", "reported nothing"),
        ("memory", {}, "inconclusive", "locked_memory", "65,536 bytes"),
        ("hangs", {}, "inconclusive", "verbs_failed", "did not end in time"),
    ],
)
def test_what_the_program_and_the_counters_say_decides(
    stage: Stage, pods: Pods, mode: str, how: dict[str, str], outcome: str, reason: str, told: str
) -> None:
    both(pods, **how)
    if mode == "hangs":
        stage.trial.profile = SHORT
    found = verdict(exchanged(stage, pods, mode))
    assert (found.outcome.value, found.reason) == (outcome, reason), found.summary
    assert told in found.summary
    assert "0 Gbit/s" not in found.model_dump_json()


def test_both_ends_run_the_program_on_the_device_that_the_pod_was_given(
    stage: Stage, pods: Pods, kept: dict[str, str]
) -> None:
    both(pods)
    done = exchanged(stage, pods, "honest").exchange
    assert done is not None
    client, server = done.ends
    assert " ".join(server.argv).startswith("ib_write_bw -b -F --report_gbits -d mlx5_1 -i 1 -p ")
    assert server.argv[-6:] == ["-s", "65536", "-n", "16", "-x", "1"]
    assert client.argv == [*server.argv, "127.0.0.1"]
    assert done.gids == "RoCE v2, link-local"
    for end in done.ends:
        assert end.before["mlx5_1/1"] == (4000, 4000)
        assert end.after["mlx5_1/1"] == (4000 + MIB, 4000 + MIB)
    raw = json.loads(kept["net0-rdma0-server.json"])
    assert "96.95" in raw["stdout"]
    assert raw["after"]["eth0"] == [5000, 5000]


def test_the_trial_exchanges_by_rdma_where_there_is_no_address(
    stage: Stage, pods: Pods, monkeypatch: pytest.MonkeyPatch
) -> None:
    both(pods)
    seen = network(stage, pods)
    for one in seen.pods:
        one.look.interfaces["eth0"] = NIC.model_copy(update={"addresses": ["127.0.0.1"]})
    stage.trial.selected = frozenset({"networking.data_path"})
    plain = seen.plain
    monkeypatch.setattr(stage, "transfer", lambda *_: (plain, {}))
    done = trial._carry(stage, seen.model_copy(update={"plain": None}), [])
    assert done.transfer is None
    assert verdict(done).reason == "carried"


def test_a_kind_of_gid_that_leads_nowhere_is_followed_by_the_next(
    stage: Stage, pods: Pods, kept: dict[str, str]
) -> None:
    both(pods)
    done = exchanged(stage, pods, "link_local").exchange
    assert done is not None
    assert done.gids == "RoCE v2, IPv4"
    assert {name for name in kept if "rdma0" in name} == {
        "net0-rdma0-client.json",
        "net0-rdma0-server.json",
    }


def test_a_device_that_is_not_there_is_no_verdict(stage: Stage, pods: Pods) -> None:
    both(pods)
    seen = network(stage, pods)
    port = seen.pods[0].look.verbs.ports[0].model_copy(update={"device": "mlx5_9"})
    seen.pods[0].look.verbs.ports[:] = [port]
    stage.trial.profile = SHORT
    done = rdma_exchange.exchange(stage, seen.pods, "127.0.0.1")
    found = verdict(seen.model_copy(update={"exchange": done}))
    assert (found.outcome.value, found.reason) == ("inconclusive", "verbs_failed")
    assert "Unable to find the Infiniband/RoCE device" in found.summary


def test_the_probe_sees_only_devices_that_it_has_a_node_of(stage: Stage, pods: Pods) -> None:
    both(pods)
    for one in network(stage, pods).pods:
        assert one.look.verbs.program.endswith("/bin/ib_write_bw")
        (port,) = one.look.verbs.ports
        assert (port.name, port.openable, port.state) == ("mlx5_1/1", True, "4: ACTIVE")
        assert [gid.index for gid in port.gids] == [0, 1, 3]


CHANGES: dict[str, tuple[str, Any]] = {
    "rdma_without_ip": ("program", ""),
    "no_usable_port": ("state", "1: DOWN"),
    "no_common_gid": ("gids", []),
}


@pytest.mark.parametrize("reason", CHANGES)
def test_without_what_it_needs_there_is_no_exchange(stage: Stage, pods: Pods, reason: str) -> None:
    both(pods)
    seen = network(stage, pods)
    field, value = CHANGES[reason]
    client = seen.pods[0].model_dump()
    verbs = client["look"]["verbs"]
    (verbs if field == "program" else verbs["ports"][0])[field] = value
    seen = seen.model_copy(update={"pods": [PodOnNetwork.model_validate(client), seen.pods[1]]})
    assert rdma_exchange.exchange(stage, seen.pods, "127.0.0.1") is None
    found = verdict(seen)
    assert (found.outcome.value, found.reason) == ("inconclusive", reason)


def test_a_device_is_present_and_its_characteristics_are_compared(stage: Stage, pods: Pods) -> None:
    both(pods, layer="InfiniBand")
    seen = network(stage, pods)
    assert seen.control is not None
    present = verdict(seen, "interface")
    assert (present.outcome.value, present.reason) == ("pass", "interface_present")
    assert "RDMA device mlx5_1 in client" in present.summary
    told = {"dra.net/rdmaDevice": "mlx5_1", "dra.net/linkType": "infiniband"}
    for one in seen.pods:
        assert one.device is not None
        one.device.attributes.clear()
        one.device.attributes.update(told)
    compared = verdict(seen, "characteristics")
    assert (compared.outcome.value, compared.reason) == ("pass", "published_and_true")
    seen.control.look.verbs.ports.extend(seen.pods[0].look.verbs.ports)
    usual = verdict(seen, "interface")
    assert (usual.outcome.value, usual.reason) == ("inconclusive", "rdma_without_ip")


# -- by the stored numbers ------------------------------------------------------------------


def port(layer: str, *gids: tuple[int, str, str]) -> RdmaPort:
    return RdmaPort(
        device="mlx5_0",
        port="1",
        openable=True,
        link_layer=layer,
        state="4: ACTIVE",
        pci="",
        numa_node="",
        gids=[Gid(index=index, gid=gid, type=kind) for index, gid, kind in gids],
    )


def recorded() -> Measured:
    """Return what a run stored of two pods, with an RDMA device in place of their interface."""
    raw = json.loads(RECORDED)["networks"]["dra.net"]
    for one in raw["pods"]:
        ports = [port("InfiniBand").model_dump()]
        one["told"], one["look"]["verbs"] = None, {"program": "ib_write_bw", "ports": ports}
    return Measured.model_validate(raw)


def end(pod: str, **counters: tuple[int, int]) -> dict[str, Any]:
    """Return an end that says and counts what it should, with counters laid over."""
    table = f" #bytes #iterations BW peak BW average MsgRate\n 65536 16 97.1 96.95 0.18\n{'-' * 9}"
    after = {"mlx5_0/1": (2 * MIB, 2 * MIB), "eth0": (900, 900)}
    nothing = dict.fromkeys(after, (0, 0))
    return {
        "pod": pod,
        "node": pod,
        "on": "mlx5_0/1",
        "argv": ["ib_write_bw"],
        "exit_code": 0,
        "stdout": table,
        "stderr": "",
        "before": nothing,
        "quiet": {**nothing, "mlx5_0/1": counters.pop("quiet", (0, 0))},
        "after": {**after, **{name.replace("_port", "_0/1"): n for name, n in counters.items()}},
    }


@pytest.mark.parametrize(
    ("counters", "outcome", "reason"),
    [
        ({}, "pass", "carried"),
        ({"eth0": (5 * MIB, 5 * MIB)}, "inconclusive", "stray_bytes"),
        ({"net1": (0, 0)}, "pass", "carried"),
        ({"quiet": (MIB // 2, 0)}, "inconclusive", "stray_bytes"),
        ({"mlx5_port": (-1, 2 * MIB)}, "inconclusive", "counters_reset"),
        ({"mlx5_port": (MIB - 1, MIB - 1)}, "inconclusive", "not_counted"),
        ({"mlx5_port": (MIB, MIB - 1)}, "fail", "one_direction"),
        ({"mlx5_port": (0, 0), "eth0": (MIB, 0)}, "fail", "another_interface"),
    ],
)
@pytest.mark.parametrize("whose", [0, 1])
def test_every_verdict_of_the_counters(
    whose: int, counters: dict[str, tuple[int, int]], outcome: str, reason: str
) -> None:
    ends = [end("client"), end("server")]
    ends[whose] = end("client", **counters)
    raw = {"size": 65536, "count": 16, "gids": "", "ends": ends}
    done = Exchange.model_validate(raw)
    found = verdict(recorded().model_copy(update={"exchange": done}))
    assert (found.outcome.value, found.reason) == (outcome, reason), found.summary


def test_a_failed_control_on_the_pod_network_comes_first() -> None:
    found = verdict(recorded().model_copy(update={"plain": None}))
    assert (found.outcome.value, found.reason) == ("inconclusive", "control_failed")


def test_without_an_exchange_there_is_no_verdict() -> None:
    found = verdict(recorded())
    assert (found.outcome.value, found.reason) == ("inconclusive", "not_observed")


def test_pods_whose_interfaces_are_not_counted() -> None:
    ends = [end("client"), end("server")]
    del ends[0]["after"]["eth0"]
    done = Exchange.model_validate({"size": 65536, "count": 16, "gids": "", "ends": ends})
    found = verdict(recorded().model_copy(update={"exchange": done}))
    assert (found.outcome.value, found.reason) == ("inconclusive", "no_counters")


# -- reading --------------------------------------------------------------------------------

WARNED = "Conflicting CPU frequency values detected: 1200.0 != 3000.0\n"


@pytest.mark.parametrize(
    ("text", "average"),
    [
        (f" #bytes #iterations\n{WARNED} 65536    16    97.10   96.95   0.184917\n", 96.95),
        (" #bytes #iterations\n 65536    16    0.00   0.00   0.00\n", None),
        (" #bytes #iterations\n 65536    15    97.10   96.95   0.18\n", None),
        (" #bytes #iterations\n 65536    16    n/a   n/a   n/a\n", None),
        (" 65536    16    97.10   96.95   0.184917\n", None),
        (" #bytes #iterations    BW peak\n", None),
        ("", None),
    ],
)
def test_only_a_whole_report_is_a_result(text: str, average: float | None) -> None:
    said = RdmaEnd.model_validate({**end("client"), "stdout": text})
    assert reported(said, 65536, 16) == average


def test_roce_v2_and_link_local_come_first_and_both_ends_use_one_kind() -> None:
    one = port("Ethernet", (0, LINK_LOCAL, "IB/RoCE v1"), (1, LINK_LOCAL, "RoCE v2"))
    more = port(
        "Ethernet",
        (0, LINK_LOCAL, ""),
        (4, IPV4, "RoCE v2"),
        (5, LINK_LOCAL, "RoCE v2"),
        (6, LINK_LOCAL, "RoCE v2"),
    )
    assert ways(one, more) == [("RoCE v2, link-local", 1, 5), ("RoCE v1", 0, 0)]
    assert ways(one, port("Ethernet")) == []
    assert ways(port("InfiniBand"), port("InfiniBand")) == [("", None, None)]
    assert kind(Gid(index=0, gid="2001:db8::1", type="RoCE v2")) == "RoCE v2, IPv6"
