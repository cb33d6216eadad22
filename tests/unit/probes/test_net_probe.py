from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from probes import net_probe

PROBE = Path(net_probe.__file__)


# -- who meets whom -------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 3, 4, 5, 9, 10, 51])
def test_in_a_tournament_all_meet_once_and_nobody_twice_at_a_time(count: int) -> None:
    rounds = net_probe.tournament(count)
    assert len(rounds) == (count - 1 if count % 2 == 0 else count)
    for pairs in rounds:
        busy = [one for pair in pairs for one in pair]
        assert len(busy) == len(set(busy)) == 2 * (count // 2)
    met = [tuple(sorted(pair)) for pairs in rounds for pair in pairs]
    assert sorted(met) == list(combinations(range(count), 2))
    clients = [pair[0] for pairs in rounds for pair in pairs]
    if count > 2:
        assert set(clients) == set(range(count))


# -- which address is measured ----------------------------------------------------------------

KNOWN = [
    {"name": "eth0", "mtu": 1500, "addresses": ["10.0.0.1", "fd00::1"]},
    {"name": "ib0", "mtu": 1500, "addresses": []},
    {"name": "net1", "mtu": 9000, "addresses": ["198.18.0.1", "198.18.0.2"]},
]


@pytest.mark.parametrize(
    ("wanted", "interface", "address"),
    [
        ("own", "eth0", "10.0.0.1"),
        ("other", "net1", "198.18.0.1"),
        ("198.18.0.2", "net1", "198.18.0.2"),
        ("198.18.0.9", "", ""),
    ],
)
def test_the_wanted_address_is_measured(wanted: str, interface: str, address: str) -> None:
    found = net_probe.measured(wanted, "10.0.0.1", KNOWN)
    assert found == {"interface": interface, "address": address}


def test_a_pod_without_another_interface_has_nothing_to_measure() -> None:
    assert net_probe.measured("other", "10.0.0.1", KNOWN[:2])["address"] == ""
    assert net_probe.measured("own", "10.0.0.9", KNOWN)["address"] == "10.0.0.9"


# -- what an agent does -----------------------------------------------------------------------


def in_background(serve: Callable[[socket.socket], None], server: socket.socket) -> None:
    def until_closed() -> None:
        with contextlib.suppress(OSError):  # the end of the test closes its socket
            serve(server)

    threading.Thread(target=until_closed, daemon=True).start()


@pytest.fixture
def echo(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    with net_probe.listen(0, socket.SOCK_STREAM) as server:
        port = int(server.getsockname()[1])
        monkeypatch.setattr(net_probe, "ECHO", port)
        in_background(net_probe.serve_echo, server)
        yield port


@pytest.mark.usefixtures("echo")
def test_every_answer_is_a_sample_but_those_of_the_warm_up() -> None:
    order = {"host": "127.0.0.1", "size": 64, "count": 200, "warm_up": 10, "seconds": 10}
    found = net_probe.request_response(order)
    assert "error" not in found
    assert len(found["samples_us"]) == 200
    assert min(found["samples_us"]) > 0


def test_a_server_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one:
        monkeypatch.setattr(net_probe, "ECHO", one.getsockname()[1])
    order = {"host": "127.0.0.1", "size": 64, "count": 1, "warm_up": 0, "seconds": 2}
    found = net_probe.request_response(order)
    assert found["samples_us"] == []
    assert "ConnectionRefusedError" in found["error"]


def test_datagrams_are_answered_with_their_length(monkeypatch: pytest.MonkeyPatch) -> None:
    with net_probe.listen(0, socket.SOCK_DGRAM) as server:
        monkeypatch.setattr(net_probe, "DATAGRAM", server.getsockname()[1])
        in_background(net_probe.serve_datagrams, server)
        order = {"host": "127.0.0.1", "bind": "127.0.0.1", "sizes": [500, "mtu"], "seconds": 5}
        sizes = net_probe.datagrams(order)["sizes"]
    assert [one["bytes"] for one in sizes] == [500, 1500]
    assert all(one["answered"] for one in sizes)


def test_a_datagram_that_is_too_long_is_told_and_not_fragmented(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(net_probe, "DATAGRAM_SECONDS", 0.01)
    order = {"host": "127.0.0.1", "sizes": [65600], "seconds": 5}
    (found,) = net_probe.datagrams(order)["sizes"]
    assert (found["answered"], found["sent"]) == (False, net_probe.DATAGRAM_TRIES)
    assert found["error"]


def test_counters_are_read_and_missing_ones_are_missing(tmp_path: Path) -> None:
    statistics = tmp_path / "eth0" / "statistics"
    statistics.mkdir(parents=True)
    (statistics / "rx_bytes").write_text("5\n")
    (statistics / "tx_bytes").write_text("7\n")
    stat = tmp_path / "cpu.stat"
    none = str(tmp_path / "none")
    found = net_probe.counters(str(tmp_path), (str(stat),), none)
    assert found == {"bytes": {"eth0": [5, 7]}}
    stat.write_text("nr_periods 9\nnr_throttled 3\nthrottled_time 12\n")
    assert net_probe.counters(str(tmp_path), ("/none", str(stat)), none)["nr_throttled"] == 3


def test_datagrams_that_found_a_full_buffer_are_counted_for_both_families(tmp_path: Path) -> None:
    def overrun() -> int | None:
        return net_probe.counters(str(tmp_path), (), str(tmp_path)).get("udp_overrun")

    (tmp_path / "snmp").write_text("Ip: Forwarding\nIp: 1\nUdp: NoPorts\nUdp: 4\n")
    assert overrun() is None
    (tmp_path / "snmp").write_text("Udp: InErrors RcvbufErrors\nUdp: 9 4\nUdpLite: a\n")
    assert overrun() == 4
    (tmp_path / "snmp6").write_text("Udp6InErrors 9\nUdp6RcvbufErrors \t 3\n")
    assert overrun() == 7


IPERF3 = """#!/bin/sh
echo "$@" >> "{folder}/calls"
[ $(wc -l < "{folder}/calls") -ge {busy} ] && {{ cat "{folder}/good"; exit 0; }}
echo '{{"error": "error - the server is busy running a test. try again later"}}'
"""


def program(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    path = folder / "iperf3"
    path.write_text(text)
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(net_probe, "BUSY_PAUSE", 0.01)


def test_a_busy_server_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, monkeypatch, IPERF3.format(folder=tmp_path, busy=3))
    (tmp_path / "good").write_text('{"end": {}}')
    order = {"host": "h", "bind": "b", "args": ["-t", "1"], "seconds": 5}
    found = net_probe.iperf3(order)
    assert (found["json"], found["tries"]) == ({"end": {}}, 3)
    assert found["argv"] == ["iperf3", "-J", "-c", "h", "-p", "7011", "-t", "1", "-B", "b"]
    assert "error" not in found


def test_a_server_that_stays_busy_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path, monkeypatch, IPERF3.format(folder=tmp_path, busy=99))
    found = net_probe.iperf3({"host": "h", "args": [], "seconds": 5})
    assert "busy" in found["error"]
    assert found["tries"] == net_probe.BUSY_RETRIES


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("#!/bin/sh\necho nonsense\n", "printed no JSON: nonsense"),
        ("#!/bin/sh\n", "printed no JSON: nothing at all"),
        ("#!/bin/sh\necho '{\"end\": nan}'\n", "printed no JSON: "),
        ("#!/bin/sh\necho '[]'\n", "printed no JSON: []"),
        ("#!/bin/sh\necho '{}'; echo '{}'\n", "printed more than one result"),
        ("#!/bin/sh\nexec sleep 30\n", "did not end within 0.3 s"),
    ],
)
def test_what_is_no_result_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, words: str
) -> None:
    program(tmp_path, monkeypatch, text)
    seconds = 0.3 if "sleep" in text else 20
    assert words in net_probe.iperf3({"host": "h", "args": [], "seconds": seconds})["error"]


def test_warnings_beside_a_result_are_passed_over() -> None:
    text = 'warning: UDP block size {1472}\n{"end": {}}\nwarning: ignored\n'
    assert net_probe.result(text) == {"end": {}}


def test_what_goes_wrong_is_the_answer() -> None:
    assert "KeyError" in net_probe.obey({"do": "latency"})["error"]
    assert "KeyError" in net_probe.obey({"do": "nothing known"})["error"]


# -- a conductor and its agents -------------------------------------------------------------------


class Agent(threading.Thread):
    """An agent that answers everything at once, and notes who measured at the same time."""

    def __init__(self, name: str, port: int, log: list[tuple[str, str, str]], **more: Any) -> None:
        super().__init__(daemon=True)
        self.hello = {"name": name, "node": name, "address": name, "interfaces": [], **more}
        self.port, self.log = port, log

    def run(self) -> None:
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            stream = connection.makefile("rwb")
            stream.write(json.dumps(self.hello).encode() + b"\n")
            stream.flush()
            for line in stream:
                order = json.loads(line)
                if order["do"] == "end":
                    return
                if order["do"] == "die":
                    return
                answer: dict[str, Any] = {"bytes": {}}
                if order["do"] == "iperf3":
                    self.log.append(("begin", order["bind"], order["host"]))
                    time.sleep(0.02)
                    self.log.append(("end", order["bind"], order["host"]))
                    strange = {"silent": 0, "absurd": float("nan")}
                    speed = strange.get(str(self.hello["name"]), 5e9)
                    answer = {"json": {"end": {"sum_received": {"bits_per_second": speed}}}}
                stream.write(json.dumps(answer).encode() + b"\n")
                stream.flush()


def conducted(
    plan: dict[str, Any],
    names: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> tuple[list[dict[str, Any]], list[tuple[str, str, str]]]:
    """Let agents of these names work off a plan; returns what was printed and what they did."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    monkeypatch.setattr(net_probe, "CONTROL", port)
    log: list[tuple[str, str, str]] = []

    async def play() -> None:
        work = asyncio.create_task(net_probe.Conductor(plan).run())
        await asyncio.sleep(0.1)
        for name in names:
            Agent(name, port, log).start()
        await asyncio.wait_for(work, 20)

    asyncio.run(play())
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()], log


ORDER = {"do": "iperf3", "args": [], "seconds": 1}
PLAN: dict[str, Any] = {"expect": ["a", "b"], "wait_seconds": 5, "steps": [], "mesh": None}


def step(client: str, server: str, **order: Any) -> dict[str, Any]:
    return {"id": "s", "client": client, "server": server, "order": {**ORDER, **order}}


def test_steps_are_worked_off_with_counters_around_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = {**PLAN, "steps": [step("a", "b"), step("b", "a")]}
    lines, log = conducted(plan, ["a", "b"], monkeypatch, capsys)
    assert [one["event"] for one in lines] == ["agent", "agent", "begin", "step", "step", "end"]
    assert all({"before", "after", "json"} <= set(one) for one in lines[3:5])
    assert log == [("begin", "a", "b"), ("end", "a", "b"), ("begin", "b", "a"), ("end", "b", "a")]


def test_who_is_missing_is_told_and_their_steps_are_errors(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mesh = {"nodes": ["a", "b"], "rounds": [0], "order": ORDER}
    plan = {**PLAN, "wait_seconds": 0.5, "steps": [step("a", "b")], "mesh": mesh}
    lines, _ = conducted(plan, ["a", "a"], monkeypatch, capsys)
    assert lines[2] == {"event": "begin", "missing": ["b"]}
    assert "no agent b" in lines[3]["error"]
    assert lines[4]["pairs"] == []
    assert lines[4]["errors"][0][3] == "there is no agent"


def test_an_agent_that_goes_or_has_no_address_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = {**PLAN, "steps": [step("a", ""), step("a", "b", do="die"), step("a", "b")]}
    plan["expect"] = ["a", "b", ""]
    # The agent without a name has no address either.
    lines, _ = conducted(plan, ["a", "b", ""], monkeypatch, capsys)
    lines = lines[1:]
    assert "has no address on the network" in lines[3]["error"]
    assert "an agent was lost" in lines[4]["error"]
    assert "an agent was lost" in lines[5]["error"]


@pytest.mark.parametrize(
    ("name", "words"), [("silent", "nothing was received"), ("absurd", "iperf3 reports nan bit/s")]
)
def test_a_pair_that_received_nothing_is_an_error_and_never_zero(
    name: str, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["a", name]
    mesh = {"nodes": names, "rounds": [0], "order": ORDER}
    lines, _ = conducted({**PLAN, "expect": names, "mesh": mesh}, names, monkeypatch, capsys)
    (found,) = (one for one in lines if one["event"] == "round")
    assert found["pairs"] == []
    assert found["errors"] == [[1, 0, None, words]]


def test_pairs_of_a_round_measure_at_once_and_no_node_twice(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"n{number}" for number in range(8)]
    mesh = {"nodes": names, "rounds": list(range(7)), "order": ORDER}
    plan = {**PLAN, "expect": names, "mesh": mesh}
    lines, log = conducted(plan, names, monkeypatch, capsys)
    rounds = [one for one in lines if one["event"] == "round"]
    assert sum(len(one["pairs"]) for one in rounds) == 28
    assert all(speed == 5000 for one in rounds for _, _, speed in one["pairs"])
    busy: set[str] = set()
    most = 0
    for what, client, server in log:
        if what == "begin":
            assert not busy & {client, server}
            busy |= {client, server}
            most = max(most, len(busy))
        else:
            busy -= {client, server}
    assert most > 2


def test_a_real_conductor_measures_with_its_own_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = "#!/bin/sh\ncase $1 in --version) echo iperf 3.99;; -s) exec sleep 60;; "
    program(tmp_path, monkeypatch, fake + "*) echo '{\"end\": {}}';; esac\n")
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps({**PLAN, "expect": ["beside"], "steps": [step("beside", "beside")]}))
    own = {"KAR_NODE": "here", "KAR_POD": "p", "KAR_ADDRESS": "127.0.0.1", "KAR_MEASURE": "own"}
    environment = {**os.environ, **own}
    process = subprocess.Popen(
        [sys.executable, "-u", str(PROBE), "conduct", str(plan)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout
        lines: list[dict[str, Any]] = []
        while not lines or lines[-1]["event"] != "end":
            lines.append(json.loads(process.stdout.readline()))
        assert [one["event"] for one in lines] == ["agent", "begin", "step", "end"]
        assert lines[0]["iperf3"] == "iperf 3.99"
        assert lines[2]["json"] == {"end": {}}
        assert set(lines[2]["after"]) == {"client", "server"}
    finally:
        process.terminate()
    assert process.wait(10) == 143
