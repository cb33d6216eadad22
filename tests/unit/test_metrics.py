"""The endpoint for scrapers, asked over a real socket."""

from __future__ import annotations

import http.client
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from queue import Queue

import pytest

from kar_checks.commands.metrics import serve
from kar_checks.report import openmetrics
from kar_checks.report.openmetrics import Family


@contextmanager
def endpoint(file: Path, listen: str = "127.0.0.1:0") -> Iterator[str]:
    """The address of a server that is at work."""
    started: Queue[ThreadingHTTPServer] = Queue()
    thread = threading.Thread(target=serve, args=(file, listen, started.put), daemon=True)
    thread.start()
    server = started.get(timeout=10)
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join(10)


def got(address: str, path: str) -> tuple[int, str, str]:
    """Status, content type and text of an answer."""
    connection = http.client.HTTPConnection(address, timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, answer.headers["Content-Type"], text


def written(file: Path, value: float) -> None:
    file.write_text(openmetrics.text([Family("kar_runs", "Runs.", [({"cluster": 'a"b'}, value)])]))


def test_each_scrape_gets_what_was_written_last(tmp_path: Path) -> None:
    file = tmp_path / "kar.prom"
    with endpoint(file) as address:
        status, _, text = got(address, "/metrics")
        assert (status, text) == (503, f"{file}: No such file or directory\n")
        for value in (1.0, 2.0):
            written(file, value)
            status, kind, text = got(address, "/metrics")
            assert status == 200
            assert kind.startswith("application/openmetrics-text; version=1.0.0")
            assert text == file.read_text()
            assert text.splitlines()[-2:] == [rf'kar_runs{{cluster="a\"b"}} {value!r}', "# EOF"]
        assert got(address, "/runs")[0] == 404


@pytest.mark.parametrize("listen", ["9464", "127.0.0.1:x", "127.0.0.1:99999", "192.0.2.1:9464"])
def test_where_nobody_can_listen_is_a_sentence(listen: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ADDRESS:PORT|cannot listen on"):
        serve(tmp_path / "kar.prom", listen, lambda _: None)


def test_the_command_says_where_and_ends_when_told(tmp_path: Path) -> None:
    file = tmp_path / "kar.prom"
    written(file, 3)
    process = subprocess.Popen(
        [sys.executable, "-m", "kar_checks.cli", "metrics", str(file), "--listen", "127.0.0.1:0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    port = process.stdout.readline().split("port ")[1].partition(",")[0]
    assert "kar_runs" in got(f"127.0.0.1:{port}", "/metrics")[2]
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 2
    process.stdout.close()
    if process.stderr:
        process.stderr.close()
