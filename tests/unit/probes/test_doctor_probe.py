"""The doctor's pods, as processes of this machine."""

from __future__ import annotations

import importlib.util
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.apiserver import free_port

PROBE = Path(__file__).parents[3] / "probes" / "doctor_probe.py"


def said(*words: str) -> dict[str, Any]:
    argv = [sys.executable, "-I", "-S", str(PROBE), *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=20)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture
def port() -> Iterator[int]:
    argv = [sys.executable, "-I", "-S", str(PROBE), "serve", "0"]
    server = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    yield int(json.loads(server.stdout.readline())["listening"])
    server.send_signal(signal.SIGTERM)
    assert server.wait(timeout=5) == 0


def test_a_server_says_its_name_to_whoever_asks(port: int) -> None:
    for _ in range(2):
        found = said("ask", "127.0.0.1", str(port))
        assert found["said"]
        assert found["seconds"] < 5


def test_what_cannot_be_reached_is_an_error() -> None:
    assert "refused" in said("ask", "127.0.0.1", str(free_port()))["error"]


def test_names_are_resolved_as_programs_do_it() -> None:
    assert "127.0.0.1" in said("resolve", "localhost")["addresses"]
    assert said("resolve", "nobody.invalid")["error"]


def test_a_resolver_that_gets_no_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("doctor_probe", PROBE)
    assert spec is not None
    assert spec.loader is not None
    probe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(probe)
    answered = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answered.wait(60) and [])
    assert probe.resolve("x", 0.2) == {"error": "no answer within 0 s"}
    answered.set()
