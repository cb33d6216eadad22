"""The client of a serving stack: unique prompts under our ids, counters around them, no secrets."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from kar_checks.checks.stack import client
from kar_checks.checks.stack.endpoints import together
from kar_checks.checks.stack.engines import Sample, known, quantities
from probes import stack_client

PROBE = Path(__file__).parents[3] / "probes" / "stack_client.py"
TOKEN = "a-token-that-nobody-may-see"  # noqa: S105 - of this test


class Stack(ThreadingHTTPServer):
    """A stack of one server; ``chat`` serves chat completions only, with that message."""

    def __init__(self) -> None:
        self.chat: dict[str, Any] | None = None
        self.usage: dict[str, Any] = {"prompt_tokens": 11, "completion_tokens": 4}
        self.metrics = ""
        self.status = 200
        self.dots = 0
        self.asked: list[tuple[str, dict[str, str], Any]] = []
        self.served = 0
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: Stack

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""

    def do_GET(self) -> None:
        if self.path == "/metrics" and self.server.metrics:
            self.tell(200, self.server.metrics)
        elif self.path == "/metrics":
            text = (
                "# TYPE vllm:request_success_total counter\n"
                f'vllm:request_success_total{{reason="a,\\"b}}"}} {self.server.served} 1700000000\n'
                "vllm:nothing_of_interest 1\nprocess_start_time_seconds 1.7e9\nvllm:x NaN\n"
            )
            self.tell(200, text)
        elif self.path == "/v1/models":
            self.tell(200, json.dumps({"data": [{"id": "first"}, {"id": "second"}]}))
        else:
            self.tell(404, "")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, dict(self.headers), body))
        if self.server.chat is not None and self.path != "/v1/chat/completions":
            self.tell(404, "no such path")
        elif 300 <= self.server.status < 400:
            self.send_response(self.server.status)
            self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif self.server.status != 200:
            sent = self.headers["Authorization"]
            self.tell(self.server.status, f"you sent {sent} {'.' * self.server.dots}{sent}")
        else:
            self.server.served += 1
            chat = self.server.chat
            choice = {"text": "hello"} if chat is None else {"message": chat}
            self.tell(200, json.dumps({"choices": [choice], "usage": self.server.usage}))

    def tell(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())


@pytest.fixture
def stack() -> Iterator[Stack]:
    with Stack() as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


def started(stack: Stack, folder: Path, **more: Any) -> subprocess.Popen[str]:
    port = stack.server_port
    config = {
        "url": f"http://127.0.0.1:{port}/",
        "host": "",
        "model": "",
        "path": "",
        "run": "kar-x",
        "requests": 5,
        "warm_up": 1,
        "at_once": 3,
        "words": 20,
        "answer_tokens": 4,
        "request_seconds": 5,
        "quiet_seconds": 0,
        "settle_seconds": 0.1,
        "pods": [{"name": "p", "address": "127.0.0.1", "ports": [1, port]}],
        "paths": ["/metrics"],
        "metrics": ["vllm:request_success_total", "process_start_time_seconds", "vllm:x"],
        "version": "/version",
        **more,
    }
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    (folder / "token").write_text(f"{TOKEN}\n", "utf-8")
    env = {
        "PATH": os.environ["PATH"],
        "KAR_CONFIG": str(folder / "config.json"),
        "KAR_TOKEN": str(folder / "token"),
        "http_proxy": "http://127.0.0.1:1",
    }
    return subprocess.Popen(
        [sys.executable, str(PROBE)], env=env, stdout=subprocess.PIPE, text=True
    )


def lines(stack: Stack, folder: Path, **more: Any) -> list[dict[str, Any]]:
    out, _ = started(stack, folder, **more).communicate(timeout=30)
    assert TOKEN not in out
    return [json.loads(line) for line in out.splitlines()]


def of(found: list[dict[str, Any]], event: str) -> list[dict[str, Any]]:
    return [one for one in found if one["event"] == event]


def test_every_request_has_its_own_id_and_its_own_beginning(stack: Stack, tmp_path: Path) -> None:
    found = lines(stack, tmp_path)
    assert [one["id"] for one in of(found, "answer")] == [f"kar-x-{n:03}" for n in range(5)]
    assert {one["status"] for one in of(found, "answer")} == {200}
    assert {(one["text"], one["prompt_tokens"]) for one in of(found, "answer")} == {("hello", 11)}
    sent = {headers["X-Request-Id"]: body for _, headers, body in stack.asked}
    assert len(sent) == 6
    assert len({body["prompt"].split()[0] for body in sent.values()}) == 6
    assert all(len(body["prompt"].split()) > 20 for body in sent.values())
    assert {body["model"] for body in sent.values()} == {"first"}
    assert {headers["Authorization"] for _, headers, _ in stack.asked} == {f"Bearer {TOKEN}"}
    assert found[-1] == {"event": "done"}


def test_counters_are_read_before_and_after(stack: Stack, tmp_path: Path) -> None:
    found = of(lines(stack, tmp_path), "counters")
    assert [one["moment"] for one in found] == ["first", "quiet", "before", "after"]
    assert found[0]["endpoint"] == f"127.0.0.1:{stack.server_port}/metrics"
    assert found[0]["families"] == ["process_", "vllm:"]
    values = [
        {name: value for name, _, value in one["samples"]}["vllm:request_success_total"]
        for one in found
    ]
    assert values == [0, 0, 1, 6]
    assert found[0]["samples"][0][1] == {"reason": 'a,\\"b}'}


def test_chat_is_tried_where_completions_are_not_served(stack: Stack, tmp_path: Path) -> None:
    stack.chat = {"content": "hello"}
    found = lines(stack, tmp_path)
    assert of(found, "serves")[0]["path"] == "/v1/chat/completions"
    assert {one["text"] for one in of(found, "answer")} == {"hello"}


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ({"content": None, "reasoning": "First I look at"}, "First I look at"),
        ({"content": "", "reasoning_content": "Let me see"}, "Let me see"),
        ({"content": None, "refusal": "I will not"}, "I will not"),
        ({"content": "yes", "reasoning": "no"}, "yes"),
        ({"content": None}, ""),
        ({}, ""),
    ],
)
def test_a_model_that_spends_its_tokens_on_thinking_answers(
    stack: Stack, tmp_path: Path, message: dict[str, Any], told: str
) -> None:
    stack.chat = message
    found = client.read(lines(stack, tmp_path), 0).batch.answers
    assert {one.text for one in found} == {told}
    assert all(one.answered for one in found)
    stack.usage = {}
    found = client.read(lines(stack, tmp_path), 0).batch.answers
    assert {one.answered for one in found} == {bool(told)}


def test_it_stops_between_requests_until_somebody_has_read(stack: Stack, tmp_path: Path) -> None:
    folder = tmp_path / "steps"
    folder.mkdir()
    process = started(stack, tmp_path, steps=str(folder), short_words=10)

    def go_on(number: int) -> str:
        words = [sys.executable, str(PROBE), "step", str(number), str(folder), "10"]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()

    served: list[int] = []
    while go_on(len(served)) == "at":
        served.append(stack.served)
        time.sleep(0.05)
        assert stack.served == served[-1]
    out, _ = process.communicate(timeout=10)
    told = client.read([json.loads(line) for line in out.splitlines()], 0).batch
    assert not told.steps_why_not
    assert [one.did for one in told.steps] == [
        "other",
        *["nothing"] * stack_client.QUIET_PARTS,
        "other",
        "asked",  # to warm up
        "nothing",
        "other",
        *["asked"] * 4,  # three one by one, and two at once
        "nothing",
    ]
    asked = [len(one.requests) for one in told.steps]
    assert [after - before for before, after in itertools.pairwise(served)] == asked[1:]
    short = {request.words for one in told.steps for request in one.requests if request.short}
    assert short == {10}
    sent = {len(body["prompt"].split()) - 5 for _, _, body in stack.asked}
    assert sent == {10, 20}


def test_without_anybody_who_reads_it_goes_on_alone(
    stack: Stack,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(stack_client, "STEP_SECONDS", 0.1)
    steps = stack_client.Steps(str(tmp_path))
    for _ in range(2):
        steps.stop("nothing")
    steps.end()
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["waited"] for one in told] == [False, False]
    assert client.read(told, 0).batch.steps_why_not


def test_short_and_long_prompts_take_turns_and_change_places() -> None:
    found = stack_client.plan(20, 4)
    assert [len(one) for one in found] == [1] * 12 + [4, 4]
    turns = [short for one in found for _, short in one]
    assert [number for one in found for number, _ in one] == list(range(20))
    assert turns.count(True) == 10
    assert [short for one in found[:12] for _, short in one].count(True) == 6
    assert turns[:4] == [True, False, False, True]
    assert stack_client.plan(3, 1) == [[(0, True)], [(1, False)], [(2, False)]]


def ranks(first: tuple[int, float], second: tuple[int, float], engines: str) -> dict[str, float]:
    """Counted by two servers of one pod, each with (tokens, start of its process)."""
    found: list[dict[str, list[Sample]]] = []
    with Stack() as one, Stack() as other:
        servers = (one, other)
        for server in servers:
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        ports = [server.server_port for server in servers]
        config = {"paths": ["/metrics"], "metrics": known().metrics(), "version": "/version"}
        pod = stack_client.Pod({"name": "d", "address": "127.0.0.1", "ports": ports}, config)
        for share in (0, 0, 1):
            for server, (tokens, start), engine in zip(
                servers, (first, second), engines, strict=True
            ):
                labels = f'engine="{engine}",source="local_compute"'
                server.metrics = (
                    f"vllm:prompt_tokens_by_source_total{{{labels}}} {tokens * share}\n"
                    f"process_start_time_seconds {start}\n"
                )
            told = pod.counters()
            found.append(
                {
                    place: [Sample(name=n, labels=labels, value=v) for n, labels, v in values]
                    for place, values in told["by_endpoint"].items()
                }
            )
        for server in servers:
            server.shutdown()
    last = together(found)[-1]
    return {str(name): value for name, value in quantities(told["families"], last).items()}


@pytest.mark.parametrize(
    ("first", "second", "engines", "expected"),
    [
        # Ranks of an engine: each counts its own.
        ((100, 1.5), (300, 1.6), "01", 400),
        ((100, 1.5), (300, 1.6), "00", 400),
        ((100, 1.5), (100, 1.6), "00", 200),
        ((100, 1.5), (100, 1.5), "01", 200),
        ((0, 1.5), (300, 1.6), "00", 300),
        # A sidecar passes on what the engine tells.
        ((100, 1.5), (100, 1.5), "00", 100),
    ],
)
def test_the_ranks_of_an_engine_are_summed_and_what_is_passed_on_counts_once(
    first: tuple[int, float], second: tuple[int, float], engines: str, expected: float
) -> None:
    assert ranks(first, second, engines)["computed"] == expected


def test_a_refusal_is_told_without_the_token(stack: Stack, tmp_path: Path) -> None:
    stack.status = 401
    answer = of(lines(stack, tmp_path), "answer")[0]
    assert answer["status"] == 401
    assert answer["problem"] == "you sent Bearer [redacted] Bearer [redacted]"


def test_no_piece_of_the_token_is_left_where_a_long_answer_is_cut(
    stack: Stack, tmp_path: Path
) -> None:
    stack.status, stack.dots = 500, stack_client.MOST_TEXT - 40
    problem = of(lines(stack, tmp_path), "answer")[0]["problem"]
    assert len(problem) == stack_client.MOST_TEXT
    assert TOKEN[:6] not in problem


def test_a_redirect_is_told_and_not_followed(stack: Stack, tmp_path: Path) -> None:
    stack.status = 307
    found = lines(stack, tmp_path, path="/v1/completions")
    assert {one["status"] for one in of(found, "answer")} == {307}
    assert {path for path, _, _ in stack.asked} == {"/v1/completions"}
    stack.asked.clear()
    stack.status = 302
    assert {one["status"] for one in of(lines(stack, tmp_path), "answer")} == {302}
    assert all(path.startswith("/v1/") for path, _, _ in stack.asked)


def test_a_server_that_is_not_there_is_told(stack: Stack, tmp_path: Path) -> None:
    found = lines(stack, tmp_path, url="http://127.0.0.1:1")
    assert "no model was named" in of(found, "problem")[0]["text"]
    assert not of(found, "answer")
    named = lines(stack, tmp_path, url="http://127.0.0.1:1", model="m")
    assert {one["status"] for one in of(named, "answer")} == {0}


def test_pods_that_tell_no_metrics_tell_none(stack: Stack, tmp_path: Path) -> None:
    pods = [{"name": "p", "address": "127.0.0.1", "ports": [1]}]
    found = of(lines(stack, tmp_path, pods=pods), "counters")
    assert {(one["endpoint"], len(one["samples"])) for one in found} == {("", 0)}


def test_it_ends_at_once_when_it_is_told_to(stack: Stack, tmp_path: Path) -> None:
    process = started(stack, tmp_path, quiet_seconds=30)
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["moment"] == "first"
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=5) == 143
    assert time.monotonic() - began < 5
    process.stdout.close()


def test_prompts_differ_from_the_first_word_on() -> None:
    assert stack_client.prompt("a", 50) == stack_client.prompt("a", 50)
    assert stack_client.prompt("a", 50).split()[:2] != stack_client.prompt("b", 50).split()[:2]


def test_a_name_that_is_not_known_yet_is_asked_for_again(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []
    real = socket.getaddrinfo

    def resolve(host: str, *more: Any, **options: Any) -> Any:
        tried.append(1)
        if len(tried) == 1:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return real("127.0.0.1", *more, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    url = f"http://front:{stack.server_address[1]}/v1/models"
    status, _ = stack_client.fetch(url, seconds=2)
    assert (status, len(tried)) == (200, 2)
    monkeypatch.setattr(stack_client, "RESOLVE_SECONDS", 0.0)
    tried.clear()
    assert stack_client.fetch(url, seconds=2)[0] == 0
