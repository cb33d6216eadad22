"""The simulated model server and the client that asks through a gateway, with each other."""

import hashlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PROBES = Path(__file__).parents[3] / "probes"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with socket.create_server(("", 0)) as found:
        number = int(found.getsockname()[1])
    server = subprocess.Popen(
        [sys.executable, str(PROBES / "model_server.py")],
        env={"PATH": os.environ["PATH"], "KAR_NAME": "blue", "KAR_PORT": str(number)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    assert json.loads(server.stdout.readline()) == {"event": "serving", "name": "blue"}
    yield number
    server.send_signal(signal.SIGTERM)
    assert server.wait(5) == 143


def client(**task: Any) -> Any:
    done = subprocess.run(
        [sys.executable, str(PROBES / "gateway_client.py"), json.dumps(task)],
        env={"PATH": os.environ["PATH"], "http_proxy": "http://192.0.2.1:1"},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return json.loads(done.stdout)


def ask(port: int, **task: Any) -> Any:
    return client(**{"do": "ask", "address": "127.0.0.1", "port": port, "path": "/", **task})


def state(port: int, body: str = "") -> Any:
    method = "POST" if body else "GET"
    targets = [["127.0.0.1", port, method, "/kar/state", body]]
    ((status, text),) = client(do="each", targets=targets)["answers"]
    assert status == 200, text
    return json.loads(text)


def fetch(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as answer:
        return str(answer.read().decode())


def test_answers_name_the_server_and_both_count_the_same(port: int) -> None:
    headers = {"x-kar-token": "t1", "x-kar-revision": "7"}
    answers = ask(port, count=40, workers=4, fresh=True, headers=headers)["answers"]
    assert [one[:3] for one in answers] == [[200, "blue", "7"]] * 40
    assert sum(one[4] for one in answers) == 20
    assert [one[7] for one in answers] == [False] * 40
    assert state(port)["tokens"]["t1"] == 40
    targets = [["127.0.0.1", port, "GET", "/kar/state?token=t1,none", ""]]
    told = json.loads(client(do="each", targets=targets)["answers"][0][1])
    assert told["ids"] == {"t1": {str(number): 1 for number in range(40)}, "none": {}}


def test_a_fixed_rate_waits_for_nobody(port: int) -> None:
    done = ask(port, count=20, rate=100, headers={"x-kar-delay": "0.5"})
    assert [one[0] for one in done["answers"]] == [200] * 20
    assert done["seconds"] < 5


def test_nobody_there_is_no_answer_and_not_a_status() -> None:
    with socket.create_server(("", 0)) as found:
        closed = int(found.getsockname()[1])
    (answer,) = ask(closed, count=1)["answers"]
    assert (answer[0], answer[1], answer[5]) == (0, "", "ConnectionRefusedError")


def test_it_settles_only_on_the_wanted_revision(port: int) -> None:
    task = {"do": "settle", "address": "127.0.0.1", "port": port, "path": "/", "steady": 3}
    good = client(**task, seconds=5, revision="2", headers={"x-kar-revision": "2"})
    assert (good["settled"], good["asked"], good["failed"]) == (True, 3, 0)
    assert 0 < good["usual"] < 1
    bad = client(**task, seconds=0.5, revision="2", headers={"x-kar-revision": "1"})
    assert bad["settled"] is False
    assert bad["failed"] == bad["asked"] == len(bad["failures"])
    assert {one[2] for one in bad["answers"]} == {"1"}


def test_what_is_set_is_what_the_metrics_say_and_reads_are_counted(port: int) -> None:
    before = state(port, json.dumps({"waiting": 90, "kv": 0.5, "adapters": ["a"]}))
    assert before["scraped_after_seconds"] is None
    metrics = fetch(port, "/metrics")
    assert 'vllm:num_requests_waiting{model_name="kar-model"} 90' in metrics
    assert 'vllm:kv_cache_usage_perc{model_name="kar-model"} 0.5' in metrics
    assert 'running_lora_adapters="a"' in metrics
    after = state(port)
    assert after["scrapes"] == before["scrapes"] + 1
    assert after["scraped_after_seconds"] >= 0
    assert after["served"] == before["served"]


def test_an_unknown_load_is_refused(port: int) -> None:
    targets = [["127.0.0.1", port, "POST", "/kar/state", '{"wating": 1}']]
    ((status, text),) = client(do="each", targets=targets)["answers"]
    assert (status, json.loads(text)) == (400, {"error": "unknown: wating"})


def test_readiness_can_be_taken_away(port: int) -> None:
    paths = [["127.0.0.1", port, "GET", "/ready", ""]]
    state(port, '{"ready": false}')
    assert client(do="each", targets=paths)["answers"][0][0] == 503
    state(port, '{"ready": true}')
    assert client(do="each", targets=paths)["answers"][0][0] == 200


def test_events_come_one_by_one_with_their_time(port: int) -> None:
    done = client(
        do="stream",
        address="127.0.0.1",
        port=port,
        path="/v1/completions",
        body='{"prompt": "x", "stream": true}',
        headers={"x-kar-events": "4", "x-kar-interval": "0.2"},
    )
    assert (done["status"], done["pod"], len(done["events"])) == (200, "blue", 4)
    assert done["events"][-1][1] - done["events"][0][1] > 0.3
    assert done["events"][-1][0] == pytest.approx(0.6, abs=0.3)


@pytest.mark.parametrize("chat", [False, True])
def test_completions_have_the_form_of_openai(port: int, chat: bool) -> None:
    path = "/v1/chat/completions" if chat else "/v1/completions"
    body = '{"model": "m", "prompt": "{r}"}'
    text = client(do="each", targets=[["127.0.0.1", port, "POST", path, body]])["answers"][0][1]
    answer = json.loads(text)
    choice = answer["choices"][0]
    said = choice["message"]["content"] if chat else choice["text"]
    assert (answer["model"], said) == ("m", "answered by blue")


@pytest.mark.parametrize("path", ["/echo", "/v1/completions"])
def test_bodies_are_compared_by_their_digest(port: int, path: str) -> None:
    task = {"do": "send", "address": "127.0.0.1", "port": port, "path": path}
    for size in (1024, 2**20 + 1):
        done = client(**task, bytes=size, answer=size)
        assert (done["status"], done["got"], done["whole"]) == (200, size, True)
        assert done["answered_whole"] is True
    small = client(**task)
    assert (small["whole"], small["answered_whole"]) == (True, None)


def test_what_is_cut_or_missing_is_seen() -> None:
    client_of = loaded("gateway_client")
    body = b'{"prompt": "x"}'
    digest = hashlib.sha256(body).hexdigest()
    assert client_of.altered(json.dumps({"received": {"sha256": digest}}).encode(), body) is False
    assert client_of.altered(json.dumps({"received": {"sha256": "0"}}).encode(), body) is True
    for strange in (b"", b"[]", b"null", b'{"received": 1}', b'{"received": {}}'):
        assert client_of.altered(strange, body) is None
    text = loaded("model_server").filling(40)
    assert client_of.filling(json.dumps({"filling": text}).encode()) == 40
    assert client_of.filling(json.dumps({"filling": text[:20]}).encode()) == 20
    assert client_of.filling(json.dumps({"filling": text[1:]}).encode()) is None
    assert client_of.filling(text.encode()) is None


def test_a_steady_client_asks_until_it_is_told_to_stop(port: int, tmp_path: Path) -> None:
    until = str(tmp_path / "stop")
    task = {
        "do": "steady",
        "address": "127.0.0.1",
        "port": port,
        "path": "/v1/completions",
        "method": "POST",
        "body": '{"prompt": "{n}"}',
        "headers": {"x-kar-token": "steady"},
        "rate": 20,
        "seconds": 0.5,
        "most": 20,
        "until": until,
    }
    argv = [sys.executable, str(PROBES / "gateway_client.py"), json.dumps(task)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert client(do="stop", until=until) == {}
        output, _ = process.communicate(timeout=20)
    *parts, end = [json.loads(line) for line in output.splitlines()]
    answers = [one for part in parts for one in part["answers"]]
    assert len(answers) >= 10
    assert {one[0] for one in answers} == {200}
    assert end["seconds"] >= 0.4
    assert not Path(until).exists()
    assert state(port)["tokens"]["steady"] == len(answers)


def test_a_kept_connection_that_was_closed_is_no_failed_request() -> None:
    """The server closes after each answer without a word, as it may."""
    served: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    taken, _ = listener.accept()
                except OSError:
                    return
                with taken:
                    served.append(taken.recv(4096))
                    text = b'{"x": 1}'
                    taken.sendall(
                        b"HTTP/1.1 200 OK\r\nx-kar-pod: p\r\ncontent-length: 8\r\n\r\n" + text
                    )

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        number = int(listener.getsockname()[1])
        task = {"method": "POST", "body": "{}", "headers": {}}
        done = ask(number, count=4, workers=1, **task)
    assert [one[:2] for one in done["answers"]] == [[200, "p"]] * 4
    assert [one[8] for one in done["answers"]] == [False, True, True, True]
    ids = [line for text in served for line in text.decode().splitlines() if "request:" in line]
    assert ids == [f"x-kar-request: {one}" for one in ("0", "1r", "2r", "3r")]


def test_where_a_redirection_leads_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            taken, _ = listener.accept()
            with taken:
                taken.recv(4096)
                taken.sendall(
                    b"HTTP/1.1 301 Moved\r\nlocation: https://a.test/?state=secret\r\n"
                    b"content-length: 0\r\nconnection: close\r\n\r\n"
                )

        threading.Thread(target=serve, daemon=True).start()
        (answer,) = ask(int(listener.getsockname()[1]), count=1)["answers"]
    assert (answer[0], answer[5]) == (301, "to https://a.test/")


def test_several_tasks_are_done_in_turn_or_together(port: int) -> None:
    slow = {"do": "ask", "address": "127.0.0.1", "port": port, "path": "/", "count": 1}
    slow["headers"] = {"x-kar-delay": "0.5"}
    for together in (False, True):
        done = client(do="batch", tasks=[slow, slow], together=together)["done"]
        apart = done[1]["began"] - done[0]["began"]
        assert [one["answers"][0][0] for one in done] == [200, 200]
        assert (apart < 0.4) is together


def test_a_body_is_counted_and_the_first_of_a_token_may_fail(port: int) -> None:
    task = {"do": "send", "address": "127.0.0.1", "port": port, "path": "/echo"}
    assert client(**task, bytes=300_000)["got"] == 300_000
    headers = {"x-kar-token": "retry", "x-kar-fail-first": "yes"}
    assert [client(**task, headers=headers)["status"] for _ in range(2)] == [503, 200]


def loaded(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, PROBES / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_requests_of_a_group_share_a_prefix() -> None:
    module = loaded("gateway_client")
    task = {"prefix": "seed", "groups": 2}
    texts = [module.filled("{k}{p}", number, task) for number in range(3)]
    assert texts[0] == texts[2] != texts[1]
    assert {len(one) for one in texts} == {6001}
    assert module.filled("{k}{p}", 0, {**task, "prefix": "other"}) != texts[0]
    assert len({module.filled("{r}", number, task) for number in range(3)}) == 3
