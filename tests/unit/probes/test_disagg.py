"""The serving workload without a model, as processes of this machine, and what it must answer."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from kar_checks.checks.disaggregation.kv import Shape, expected, prompt

PROBES = Path(__file__).parents[3] / "probes"
KEY = "only prefill has it"
SHAPE = Shape(layers=2, kv_heads=4, head_dim=64, dtype_bytes=2, block_tokens=16)
TOKENS = 72
"""Four blocks of 32 KiB and one of half that size."""
BYTES = TOKENS * SHAPE.token_bytes
PREFILL_LEG = {"do_remote_decode": True, "do_remote_prefill": False}


def opened(what: str | urllib.request.Request, timeout: float) -> Any:
    """Open a URL of a process of ours."""
    return urllib.request.urlopen(what, timeout=timeout)  # noqa: S310 - our own


def free_port() -> int:
    with socket.create_server(("", 0)) as server:
        return int(server.getsockname()[1])


@dataclass
class Server:
    """One process of the workload."""

    role: str
    env: dict[str, str]
    port: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(PROBES / "disagg_server.py"), self.role],
            env={"PATH": os.environ["PATH"], "KAR_PORT": str(self.port), **self.env},
            stdout=subprocess.PIPE,
            text=True,
        )
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError):
                opened(f"{self.url}/health", timeout=2).close()
                return
            assert time.monotonic() < deadline and self.process.poll() is None
            time.sleep(0.05)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def metric(self, name: str, source: str = "") -> float:
        with opened(f"{self.url}/metrics", timeout=5) as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith(name + "{") and (not source or f'"{source}"' in line):
                    return float(line.rpartition(" ")[2])
        raise AssertionError(f"no metric {name}")

    def end(self) -> list[dict[str, Any]]:
        self.process.send_signal(signal.SIGTERM)
        output, _ = self.process.communicate(timeout=10)
        return [json.loads(line) for line in output.splitlines()]


@dataclass
class Stack:
    """Router, prefill and decode."""

    prefill: Server
    decode: Server
    router: Server

    def logs(self) -> list[dict[str, Any]]:
        return [line for one in (self.router, self.prefill, self.decode) for line in one.end()]


def engine(tmp_path: Path, pod: str, key: str = "", **more: str) -> Server:
    sizes = {f"KAR_{name.upper()}": str(value) for name, value in SHAPE.model_dump().items()}
    secret = tmp_path / pod
    if key:
        secret.write_text(key)
    return Server(
        "engine",
        {
            **sizes,
            "KAR_POD": pod,
            "KAR_KV_PORT": str(free_port()),
            "KAR_SECRET": str(secret),
            "KAR_TOKEN_SECONDS": "0.01",
            **more,
        },
    )


@contextlib.contextmanager
def started(tmp_path: Path) -> Iterator[Stack]:
    prefill = engine(tmp_path, "pod-p", KEY)
    decode = engine(tmp_path, "pod-d")
    env = {"KAR_PREFILL": prefill.address, "KAR_DECODE": decode.address, "KAR_POD": "pod-r"}
    router = Server("router", env)
    try:
        yield Stack(prefill, decode, router)
    finally:
        for one in (prefill, decode, router):
            one.process.kill()
            one.process.communicate()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One for all tests that leave it as it was."""
    with started(tmp_path_factory.mktemp("stack")) as found:
        yield found


@pytest.fixture
def own_stack(tmp_path: Path) -> Iterator[Stack]:
    """One that a test may end."""
    with started(tmp_path) as found:
        yield found


def client(job: dict[str, Any]) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(PROBES / "disagg_client.py"), json.dumps(job)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def job(url: str, count: int = 1, path: str = "/v1/completions", **more: Any) -> dict[str, Any]:
    given = {"url": url + path, "run": "t", "first": 0, "count": count}
    return {**given, "tokens": TOKENS, "words": 16, "seconds": 20, **more}


def counters(stack: Stack) -> list[float]:
    """Bytes sent and received; tokens that decode got, that it computed, that prefill computed."""
    source = "vllm:prompt_tokens_by_source_total"
    return [
        stack.prefill.metric("kar:kv_bytes_sent_total"),
        stack.decode.metric("vllm:nixl_bytes_transferred_sum"),
        stack.decode.metric(source, "external_kv_transfer"),
        stack.decode.metric(source, "local_compute"),
        stack.prefill.metric(source, "local_compute"),
    ]


def right(request_id: str) -> str:
    return expected(KEY, request_id, TOKENS, SHAPE, 16)


def test_the_answer_follows_from_the_bytes_that_moved(stack: Stack) -> None:
    before = counters(stack)
    (seen,) = client(job(stack.router.url))
    assert (seen["status"], seen["text"]) == (200, right("t-0"))
    assert seen["inference_pod"] == "pod-d"
    assert seen["kar_kv_source"] == "external_kv_transfer"
    assert seen["prompt_tokens"] == TOKENS
    moved = [later - earlier for later, earlier in zip(counters(stack), before, strict=True)]
    assert moved == [BYTES, BYTES, TOKENS, 0, TOKENS]


def test_each_phase_logs_the_id_of_its_request(own_stack: Stack) -> None:
    client(job(own_stack.router.url, count=3, at_once=3))
    told = [line for line in own_stack.logs() if line["event"] == "request"]
    for number in range(3):
        mine = {line["phase"]: line["pod"] for line in told if line["request_id"] == f"t-{number}"}
        assert mine == {
            "route": "pod-r",
            "prefill": "pod-p",
            "handover": "pod-p",
            "decode": "pod-d",
        }
    assert {line["bytes"] for line in told if line["phase"] in ("handover", "decode")} == {BYTES}
    assert KEY not in json.dumps(told)


def test_straight_to_decode_the_answer_is_another_one_and_says_so(stack: Stack) -> None:
    before = counters(stack)
    (seen,) = client(job(stack.decode.url))
    assert seen["status"] == 200
    assert seen["text"] != right("t-0")
    assert seen["kar_kv_source"] == "local_compute"
    moved = [later - earlier for later, earlier in zip(counters(stack), before, strict=True)]
    assert moved == [0, 0, 0, TOKENS, 0]


def test_many_at_once_get_each_their_own_answer(stack: Stack) -> None:
    seen = client(job(stack.router.url, count=20, at_once=8))
    assert {one["request_id"]: one["text"] for one in seen} == {
        f"t-{number}": right(f"t-{number}") for number in range(20)
    }


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
def test_a_streamed_answer_comes_in_parts(stack: Stack, path: str) -> None:
    (seen,) = client(job(stack.router.url, path=path, stream=True))
    assert seen["done"] and seen["text"] == right("t-0")
    assert len(seen["parts"]) == 16
    assert seen["parts"][-1] - seen["parts"][0] > 0.1


def test_a_chat_completion_as_a_whole(stack: Stack) -> None:
    (seen,) = client(job(stack.router.url, path="/v1/chat/completions"))
    assert seen["text"] == right("t-0")


def test_a_flipped_bit_is_found(stack: Stack) -> None:
    failed = "vllm:nixl_num_failed_transfers_total"
    before = stack.decode.metric(failed)
    (seen,) = client(job(stack.router.url, extra={"kar_fault": {"corrupt_block": 4}}))
    assert (seen["status"], seen["code"]) == (502, "kv_corrupted")
    assert "block 4" in seen["error"]
    assert stack.decode.metric(failed) == before + 1


def test_a_prefill_that_dies_in_the_middle_is_told(own_stack: Stack) -> None:
    body = job(own_stack.router.url, extra={"kar_fault": {"pause_seconds": 2}})
    waiting = subprocess.Popen(
        [sys.executable, str(PROBES / "disagg_client.py"), json.dumps(body)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert own_stack.decode.process.stdout is not None
    for line in own_stack.decode.process.stdout:
        if json.loads(line)["event"] == "transfer_began":
            break
    own_stack.prefill.process.kill()
    output, _ = waiting.communicate(timeout=20)
    seen = json.loads(output)
    assert seen["status"] == 502
    assert seen["code"] in ("kv_truncated", "kv_transfer_failed", "prefill_unreachable")
    assert seen["error"]


def test_without_prefill_there_is_an_error(own_stack: Stack) -> None:
    own_stack.prefill.end()
    (seen,) = client(job(own_stack.router.url))
    assert (seen["status"], seen["code"]) == (502, "prefill_unreachable")


def test_without_decode_there_is_an_error(own_stack: Stack) -> None:
    own_stack.decode.end()
    (seen,) = client(job(own_stack.router.url))
    assert (seen["status"], seen["code"]) == (502, "decode_unreachable")


def test_the_prefill_leg_speaks_as_llm_d_does(stack: Stack) -> None:
    body = {"prompt": "a b c", "max_tokens": 1, "kv_transfer_params": PREFILL_LEG}
    request = urllib.request.Request(  # noqa: S310 - our own
        f"{stack.prefill.url}/v1/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json", "X-Request-Id": "leg"},
    )
    with opened(request, timeout=5) as answer:
        given = json.loads(answer.read())["kv_transfer_params"]
    assert given["do_remote_prefill"] is True and given["do_remote_decode"] is False
    assert given["remote_block_ids"] == [0]
    assert {"remote_engine_id", "remote_host", "remote_port", "tp_size"} <= set(given)
    # Blocks are handed over once.
    kv = f"http://{given['remote_host']}:{given['remote_port']}/kv/{given['remote_request_id']}"
    with opened(kv, timeout=5) as blocks:
        assert len(blocks.read()) == 3 * SHAPE.token_bytes
    with pytest.raises(urllib.error.HTTPError) as again:
        opened(kv, timeout=5)
    again.value.close()
    assert again.value.code == 404


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", b"no json"),
        ("/v1/completions", b"[1]"),
        ("/v1/completions", b"{}"),
        ("/v1/completions", b'{"prompt": ""}'),
        ("/v1/chat/completions", b'{"prompt": "a"}'),
        ("/v1/embeddings", b'{"prompt": "a"}'),
    ],
)
def test_what_is_no_completion_is_refused(stack: Stack, path: str, body: bytes) -> None:
    request = urllib.request.Request(  # noqa: S310 - our own
        stack.router.url + path, body
    )
    with pytest.raises(urllib.error.HTTPError) as found:
        opened(request, timeout=5)
    with found.value as answer:
        assert answer.code == 400
        assert json.loads(answer.read())["error"]["code"] == "bad_request"


def test_models_are_listed_through_the_router(stack: Stack) -> None:
    with opened(f"{stack.router.url}/v1/models", timeout=5) as answer:
        assert json.loads(answer.read())["data"][0]["id"] == "kar-probe"


def test_no_more_states_are_held_than_there_is_room_for(tmp_path: Path) -> None:
    prefill = engine(tmp_path, "pod-p", KEY, KAR_HELD="1")
    decode = engine(tmp_path, "pod-d")
    env = {"KAR_PREFILL": prefill.address, "KAR_DECODE": decode.address}
    router = Server("router", env)
    try:
        seen = client(job(router.url, count=6, at_once=6))
        assert all(one["text"] == right(one["request_id"]) for one in seen)
    finally:
        for one in (router, decode, prefill):
            one.end()


def test_the_client_goes_on_until_it_is_told(stack: Stack, tmp_path: Path) -> None:
    stop = tmp_path / "stop"
    body = job(stack.router.url, until=str(stop), at_once=2, first=7)
    waiting = subprocess.Popen(
        [sys.executable, str(PROBES / "disagg_client.py"), json.dumps(body)],
        stdout=subprocess.PIPE,
        text=True,
    )
    time.sleep(1.5)
    stop.touch()
    output, _ = waiting.communicate(timeout=10)
    seen = [json.loads(line) for line in output.splitlines()]
    assert len(seen) >= 2
    assert sorted(one["request_id"] for one in seen)[0].startswith("t-")
    assert all(one["text"] == right(one["request_id"]) for one in seen)


def test_the_client_reads_urls_and_tells_which_do_not_answer(stack: Stack) -> None:
    nobody = f"http://127.0.0.1:{free_port()}/health"
    up, down = client({"get": [f"{stack.router.url}/health", nobody], "seconds": 2})
    assert (up["status"], up["text"]) == (200, "ok\n")
    assert down["status"] == 0 and "refused" in down["error"]


@pytest.mark.parametrize("program", ["disagg_server.py", "disagg_client.py"])
def test_it_goes_at_once_when_told(program: str, tmp_path: Path) -> None:
    words = ["router"] if program == "disagg_server.py" else []
    process = subprocess.Popen(
        [sys.executable, str(PROBES / program), *words],
        env={"KAR_PORT": str(free_port()), "KAR_PREFILL": "x:1", "KAR_DECODE": "x:1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["event"] == "started"
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=5)
    assert process.returncode == 143
    assert time.monotonic() - began < 2


def test_answers_differ_by_prompt_secret_and_every_byte() -> None:
    found = {
        expected(KEY, "a", TOKENS, SHAPE, 16),
        expected(KEY, "b", TOKENS, SHAPE, 16),
        expected("", "a", TOKENS, SHAPE, 16),
        expected(KEY, "a", TOKENS - 1, SHAPE, 16),
        expected(KEY, "a", TOKENS, SHAPE.model_copy(update={"layers": 3}), 16),
    }
    assert len(found) == 5


def test_prompts_are_unique_from_their_first_word_and_as_long_as_asked() -> None:
    assert [len(prompt("id", tokens)) for tokens in (1, 2, 16, 17, 18, 512)] == [
        1,
        2,
        16,
        17,
        18,
        512,
    ]
    assert prompt("one", 64)[0] == "one"
    assert not set(prompt("one", 64)) & set(prompt("other", 64)[:1])
