"""The gang member: all meet at one instant or nobody does."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PROBE = Path(__file__).parents[3] / "probes" / "gang_member.py"
Member = subprocess.Popen[str]


@pytest.fixture
def port() -> int:
    with socket.create_server(("", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def members() -> Iterator[list[Member]]:
    running: list[Member] = []
    yield running
    for one in running:
        one.kill()
        one.communicate()


def start(members: list[Member], **settings: str) -> Member:
    member = subprocess.Popen(
        [sys.executable, str(PROBE)],
        env={"PATH": os.environ["PATH"], **settings},
        stdout=subprocess.PIPE,
        text=True,
    )
    members.append(member)
    return member


def gang_of(members: list[Member], port: int, ranks: list[int], size: int) -> list[Member]:
    return [
        start(
            members,
            KAR_RANK=str(rank),
            KAR_SIZE=str(size),
            KAR_MEET="127.0.0.1",
            KAR_PORT=str(port),
        )
        for rank in ranks
    ]


def lines(member: Member) -> list[dict[str, Any]]:
    out, _ = member.communicate(timeout=10)
    return [json.loads(line) for line in out.splitlines()]


def test_all_members_meet_and_end_well(members: list[Member], port: int) -> None:
    gang = gang_of(members, port, [2, 1, 0], 3)
    for one in gang:
        seen = lines(one)
        assert one.returncode == 0
        assert [line["event"] for line in seen] == ["started", "met", "completed"]
        assert seen[1]["members"] == [0, 1, 2]


def test_an_incomplete_gang_never_meets(members: list[Member], port: int) -> None:
    gang = gang_of(members, port, [0, 1], 3)
    time.sleep(0.7)
    assert [one.poll() for one in gang] == [None, None]


def test_a_member_that_left_is_not_counted(members: list[Member], port: int) -> None:
    zero, one = gang_of(members, port, [0, 1], 3)
    time.sleep(0.7)
    one.kill()
    one.wait()
    (two,) = gang_of(members, port, [2], 3)
    time.sleep(0.7)
    assert zero.poll() is None and two.poll() is None
    (again,) = gang_of(members, port, [1], 3)
    assert lines(zero)[1]["members"] == [0, 1, 2]
    assert lines(again)[1]["members"] == [0, 1, 2]


def test_strangers_at_the_meeting_place_count_for_nothing(members: list[Member], port: int) -> None:
    (zero,) = gang_of(members, port, [0], 2)
    time.sleep(0.5)
    with socket.create_connection(("127.0.0.1", port)) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        time.sleep(0.3)
        assert zero.poll() is None
        (one,) = gang_of(members, port, [1], 2)
        assert lines(one)[1]["members"] == [0, 1]


@pytest.mark.parametrize("meet", ["", "127.0.0.1"])
def test_it_goes_at_once_when_told(members: list[Member], port: int, meet: str) -> None:
    member = start(members, KAR_MEET=meet, KAR_SIZE="2", KAR_PORT=str(port))
    assert member.stdout is not None
    assert json.loads(member.stdout.readline())["event"] == "started"
    began = time.monotonic()
    member.send_signal(signal.SIGTERM)
    assert member.wait(timeout=5) == 143
    assert time.monotonic() - began < 1
