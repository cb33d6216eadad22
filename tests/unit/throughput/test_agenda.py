from __future__ import annotations

import pytest

from kar_checks import profile
from kar_checks.checks.throughput.agenda import Agenda, all_rounds, cells, cost
from kar_checks.checks.throughput.checks import TOPIC
from kar_checks.checks.throughput.observation import Cell
from kar_checks.cluster.errors import HarnessError

ALL = frozenset(one.id for one in TOPIC.checks)
NODES = [f"n{number:03}" for number in range(200)]


def agenda(*settings: str, seed: int = 5, wanted: frozenset[str] = ALL, nodes: int = 3) -> Agenda:
    return Agenda(profile.load(None, settings), seed, wanted, nodes=nodes)


def test_cells_are_read() -> None:
    assert cells("4 forward, 8 both,1 same-node") == [
        Cell(streams=4, direction="forward"),
        Cell(streams=8, direction="both"),
        Cell(streams=1, direction="forward", path="same node"),
    ]
    assert cells("") == []


@pytest.mark.parametrize("text", ["four forward", "4 sideways", "0 forward", "129 forward", "4"])
def test_cells_that_cannot_be_read_are_named(text: str) -> None:
    with pytest.raises(HarnessError, match="throughput cells are like"):
        cells(text)


def test_nothing_to_repeat_is_no_measurement() -> None:
    with pytest.raises(HarnessError, match="leave nothing to measure"):
        agenda("throughput.cells=")
    with pytest.raises(HarnessError, match="leave nothing to measure"):
        agenda("throughput.repeats=0")


def test_repeats_come_in_an_order_that_the_seed_gives() -> None:
    first, again, other = agenda(), agenda(), agenda(seed=6)
    assert first.tcp == again.tcp
    assert first.tcp != other.tcp
    key = [(one.cell.name, one.repeat) for one in first.tcp]
    assert sorted(key) == sorted((one.cell.name, one.repeat) for one in other.tcp)
    assert sum(one.judged for one in first.tcp) == 6
    assert len(first.tcp) == 10


def test_a_step_names_who_does_what() -> None:
    found = {str(one["id"]): one for one in agenda().steps(["a", "b"])}
    assert found["whole/reverse"]["client"] == "b"
    for planned in agenda().tcp:
        step = found[planned.step]
        same = planned.cell.path == "same node"
        assert (step["client"], step["server"]) == ("a", "beside" if same else "b")
        args = step["order"]["args"]
        assert args[:2] == ["-P", str(planned.cell.streams)]
        assert ("-R" in args) == (planned.cell.direction == "reverse")
        assert ("--bidir" in args) == (planned.cell.direction == "both")
        assert args[args.index("-O") + 1] == "1"
    assert "-R" in found["udp/reverse/0"]["order"]["args"]


def test_only_what_was_selected_is_measured() -> None:
    found = agenda(wanted=frozenset(["throughput.udp"])).steps(["a", "b"])
    assert {str(one["id"]).split("/")[0] for one in found} == {"udp"}
    alone = agenda(wanted=frozenset(["throughput.tcp"]))
    assert alone.mesh_nodes(NODES, ["n001", "n002"]) == ["n001", "n002"]


def test_no_more_bytes_are_sent_than_allowed() -> None:
    free, capped = agenda(), agenda("throughput.max_bytes=1000000000")
    assert free.cap is None
    assert capped.cap is not None
    seconds = sum(2 * (2 if one.cell.direction == "both" else 1) for one in capped.tcp)
    mesh, udp = 3, 4
    assert capped.cap * (seconds + mesh + udp) / 8 <= 1e9
    for step in capped.steps(["a", "b"]):
        if str(step["id"]).startswith("tcp"):
            args = step["order"]["args"]
            streams = int(args[args.index("-P") + 1])
            assert int(args[args.index("-b") + 1]) * streams <= capped.cap + streams
    assert "-b" in capped.mesh(["a", "b", "c"])["order"]["args"]
    assert 0.5e9 < capped.estimate.bytes <= 1e9


def test_bytes_are_limited_however_many_nodes_there_are() -> None:
    few, many = (agenda("throughput.max_bytes=1000000000", nodes=one) for one in (3, 50))
    assert few.cap is not None
    assert many.cap is not None
    assert many.cap < few.cap / 5
    assert many.estimate.bytes <= 1e9
    slow = agenda("throughput.max_bytes=30000000")
    assert slow.udp_rate == slow.cap
    step = next(one for one in slow.steps(["a", "b"]) if one["id"] == "udp/forward/0")
    assert f"{slow.cap:.0f}" in step["order"]["args"]


def test_a_limit_that_leaves_nothing_is_named() -> None:
    with pytest.raises(HarnessError, match=r"leaves 0\.\d+ Mbit/s for a run"):
        agenda("throughput.max_bytes=3000000")


def test_only_the_pod_network_has_two_pods_on_a_node() -> None:
    pods, other = (
        Agenda(profile.default(), 5, ALL, nodes=3, same_node=one) for one in (True, False)
    )
    assert {one.cell.path for one in pods.tcp} == {"between nodes", "same node"}
    assert {one.cell.path for one in other.tcp} == {"between nodes"}


def test_where_nothing_tells_who_has_a_network_some_nodes_are_tried() -> None:
    tried = agenda(nodes=200).candidates(NODES)
    assert len(set(tried)) == 50
    alone = agenda(wanted=frozenset(["throughput.tcp"]), nodes=200)
    assert len(alone.candidates(NODES)) == 4
    assert sorted(alone.candidates(["b", "a"])) == ["a", "b"]


def test_the_pair_is_drawn_by_the_seed_or_named() -> None:
    zones = dict.fromkeys(NODES, "")
    assert agenda().choose_pair(zones) == agenda().choose_pair(zones)
    named = agenda("throughput.nodes=n007, n001")
    assert named.choose_pair(zones) == ["n007", "n001"]


@pytest.mark.parametrize("text", ["n001", "n001,n001", "n001,x", "n001,n002,n003"])
def test_a_pair_that_does_not_exist_is_named(text: str) -> None:
    with pytest.raises(HarnessError, match="needs two of n000"):
        agenda(f"throughput.nodes={text}").choose_pair(dict.fromkeys(NODES, ""))


@pytest.mark.parametrize(
    ("nodes", "rounds"), [(2, 1), (3, 3), (4, 3), (9, 9), (10, 9), (1000, 999)]
)
def test_so_many_rounds_let_everybody_meet(nodes: int, rounds: int) -> None:
    assert all_rounds(nodes) == rounds


def test_of_a_large_cluster_a_sample_is_drawn_that_holds_the_pair() -> None:
    found = agenda(nodes=200)
    nodes = found.mesh_nodes(NODES, ["n003", "n150"])
    assert len(nodes) == 50
    assert {"n003", "n150"} <= set(nodes)
    mesh = found.mesh(nodes)
    assert len(mesh["rounds"]) == len(set(mesh["rounds"])) == 9
    assert max(mesh["rounds"]) < 49
    assert agenda(nodes=200).mesh_nodes(NODES, ["n003", "n150"]) == nodes


def test_each_step_has_an_id_of_its_own_that_names_what_it_measures() -> None:
    found = agenda("throughput.cells=4 forward, 4 forward, 4 same-node")
    ids = [str(one["id"]) for one in found.steps(["a", "b"])]
    assert len(ids) == len(set(ids))
    assert {"tcp/4-streams-forward/1", "tcp/4-streams-forward/3", "tcp/8-streams-forward"} <= {*ids}


def test_the_plan_says_what_it_costs() -> None:
    both = cost(profile.default(), 3, ALL)
    assert "about" in both.told
    assert "if links carry 25 Gbit/s" in both.told
    assert "3 rounds of the mesh" in both.told
    limited = cost(profile.load(None, ["throughput.max_bytes=5000000000"]), 3, ALL)
    assert "4.3 GB a network at most" in limited.told
    assert "mesh" not in cost(profile.default(), 3, frozenset(["throughput.udp"])).told


def test_a_run_of_more_networks_may_last_longer() -> None:
    pod, pods_and_three = (
        cost(profile.load(None, [f"throughput.networks={words}"]), 3, ALL).seconds
        for words in ("pod", "pod, secondary")
    )
    assert pods_and_three == 4 * pod
