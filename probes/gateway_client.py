"""A client that asks through a gateway and counts who answered. Its one argument is a task in JSON.

Every task has ``do``, ``address``, ``port``, ``host`` (the Host header), ``method``, ``path``,
``headers`` and ``body`` (text; ``{n}`` in it, in the path or in a header is the request's number,
``{k}`` its group, the number modulo ``groups``, ``{r}`` 400 characters that no other request has,
``{p}`` 6000 that follow from ``prefix`` and the group). Each request bears its number in the
header ``x-kar-request``. Prints one JSON object.

An answer is ``[status, pod, revision, seconds, fresh, error, at, altered, again]``: status 0 is no
answer; ``error`` says why, or where a redirection leads; ``at`` is when it was sent, in seconds
after the task's beginning ``began`` (Unix time); ``altered`` says whether the server got another
body than was sent (``null``: it did not tell); ``again`` that it was sent a second time, since the
kept connection had been closed before. The second one has an id of its own.

- ``ask``: ``count`` requests by ``workers`` threads, every second one on a new connection if
  ``fresh`` is true. With ``rate`` they start that many a second, whether earlier ones are answered
  or not. Prints ``answers``.
- ``settle``: asks until ``steady`` answers in a row have status 200, a pod, and ``revision`` if
  one is wanted; gives up after ``seconds``. Prints ``settled``, ``seconds``, the last ``answers``,
  how many ``failed``, and the ``failures``, at most 200.
- ``steady``: ``rate`` requests a second for at least ``seconds``, and until there is a file
  ``until`` on this machine, but no longer than ``most`` seconds. Prints a JSON object a line: some
  with ``answers`` as they come, and at last one with ``began`` and ``seconds``.
- ``stop``: makes that file.
- ``stream``: asks once and prints ``events``: ``[produced, arrived]``, both in seconds, after the
  server's first event and after sending; ``seconds`` is the end of the answer.
- ``send``: one request with a JSON body of ``bytes`` (or with ``body``), and with ``answer`` one
  whose answer holds that many more. Prints ``status``, ``pod``, ``seconds``, ``got`` (bytes that
  the server counted), ``whole`` (their digest is that of what was sent) and ``answered_whole``.
- ``each``: one request to each of ``targets``, ``[address, port, method, path, body]``, all at
  once. Prints ``answers``: ``[status, text]`` each.
- ``batch``: does each of ``tasks``, one after the other, or ``together``. Prints ``done``.

No proxy is used, whatever the environment says.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import random
import signal
import statistics
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

Task = dict[str, Any]
Answer = tuple[int, str, str, float, bool, str, float, "bool | None", bool]

LETTERS = "abcdefghijklmnopqrstuvwxyz "
MOST_FAILURES = 200
TELL_SECONDS = 5.0
"""How often a long task prints: whatever stands between closes connections that are silent."""
IN_FLIGHT = 64


def connect(task: Task) -> http.client.HTTPConnection:
    """Return a connection that is not open yet."""
    return http.client.HTTPConnection(
        str(task["address"]), int(task["port"]), timeout=float(task.get("timeout", 10))
    )


def filled(text: str, number: int, task: Task) -> str:
    """Put the request's number, its group, something unique and a long prefix into a text."""
    group = number % int(task.get("groups", 1))
    if "{p}" in text:
        fixed = random.Random(f"{task.get('prefix', '')} {group}")
        text = text.replace("{p}", "".join(fixed.choices(LETTERS, k=6000)))
    if "{r}" in text:
        text = text.replace("{r}", "".join(random.choices(LETTERS, k=400)))
    return text.replace("{n}", str(number)).replace("{k}", str(group))


def headers_of(task: Task, number: int) -> dict[str, str]:
    """Return the headers of one request."""
    out = {
        name: filled(str(value), number, task) for name, value in task.get("headers", {}).items()
    }
    out["x-kar-request"] = str(number)
    if task.get("host"):
        out["Host"] = str(task["host"])
    return out


def once(
    connection: http.client.HTTPConnection, task: Task, number: int, fresh: bool, origin: float
) -> Answer:
    """Send one request and read its answer to the end.

    A server may close a connection that was kept, and one that is just being used for the next
    request is no fault of its: then the request is sent again.
    """
    began = time.monotonic()
    body = filled(str(task.get("body", "")), number, task).encode() or None
    path, headers = filled(task["path"], number, task), headers_of(task, number)
    kept, again = connection.sock is not None, False
    while True:
        try:
            connection.request(task.get("method", "GET"), path, body, headers)
            response = connection.getresponse()
            text = response.read()
            break
        except (OSError, http.client.HTTPException, ValueError) as error:
            connection.close()
            closed = isinstance(error, (http.client.RemoteDisconnected, ConnectionError))
            if kept and closed and not again:
                again = True
                headers["x-kar-request"] += "r"
                continue
            at, taken = round(began - origin, 3), round(time.monotonic() - began, 4)
            return 0, "", "", taken, fresh, type(error).__name__, at, None, again
    found = response.headers
    # What follows "?" may be a secret of somebody's login.
    leads = f"to {found['location'].partition('?')[0][:100]}" if found.get("location") else ""
    return (
        response.status,
        found.get("x-kar-pod", ""),
        found.get("x-kar-revision", ""),
        round(time.monotonic() - began, 4),
        fresh,
        leads,
        round(began - origin, 3),
        altered(text, body or b""),
        again,
    )


def received(text: bytes) -> dict[str, Any]:
    """Return what a server says of the body that it got; nothing if it says nothing."""
    try:
        found = json.loads(text)["received"]
    except (ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def altered(text: bytes, body: bytes) -> bool | None:
    """Say whether the server got another body than was sent, if it told."""
    digest = received(text).get("sha256")
    return None if digest is None else digest != hashlib.sha256(body).hexdigest()


def ask(task: Task) -> dict[str, Any]:
    """Send a fixed number of requests."""
    count = int(task["count"])
    fresh = bool(task.get("fresh"))
    rate = float(task.get("rate", 0))
    answers: list[Answer | None] = [None] * count
    numbers = iter(range(count))
    lock = threading.Lock()
    began, moment = time.monotonic(), time.time()

    def work() -> None:
        kept = connect(task)
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                break
            if rate:
                time.sleep(max(0.0, began + number / rate - time.monotonic()))
            new = fresh and number % 2 == 0
            connection = connect(task) if new else kept
            answers[number] = once(connection, task, number, new, began)
            if new:
                connection.close()
        kept.close()

    # At a fixed rate nobody waits for anybody: a worker for each request.
    workers = count if rate else int(task.get("workers", 4))
    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        for _ in range(workers):
            pool.submit(work)
    return {"began": moment, "answers": answers, "seconds": round(time.monotonic() - began, 3)}


def settle(task: Task) -> dict[str, Any]:
    """Ask until the answers are steady."""
    wanted, steady = task.get("revision"), int(task["steady"])
    began, moment = time.monotonic(), time.time()
    last: list[Answer] = []
    failures: list[Answer] = []
    row = number = failed = 0
    while row < steady and time.monotonic() - began < float(task["seconds"]):
        connection = connect(task)
        answer = once(connection, task, number, True, began)
        connection.close()
        number += 1
        good = answer[0] == 200 and answer[1] != "" and wanted in (None, answer[2])
        row = row + 1 if good else 0
        failed += not good
        if not good and len(failures) < MOST_FAILURES:
            failures.append(answer)
        last = [*last, answer][-20:]
        time.sleep(0.02 if good else 0.1)
    return {
        "settled": row >= steady,
        "began": moment,
        "seconds": round(time.monotonic() - began, 3),
        "asked": number,
        "answers": last,
        "failed": failed,
        "failures": failures,
        "usual": statistics.median(one[3] for one in last) if row >= steady else None,
    }


def stop(task: Task) -> dict[str, Any]:
    """Tell a task that runs on this machine that it may end."""
    Path(task["until"]).touch()
    return {}


def steady(task: Task, tell: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Ask at a fixed rate until told to stop; every second request is on a kept connection."""
    interval, until = 1 / float(task["rate"]), Path(task["until"])
    began, moment = time.monotonic(), time.time()
    idle: list[http.client.HTTPConnection] = []
    answers: list[Future[Answer]] = []
    told, watched, due, next_told = 0, 0.0, began, began + TELL_SECONDS

    def one(number: int) -> Answer:
        new = number % 2 == 0
        try:
            connection = connect(task) if new else idle.pop()
        except IndexError:
            connection = connect(task)
        answer = once(connection, task, number, new, began)
        if new or answer[0] == 0:
            connection.close()
        else:
            idle.append(connection)
        return answer

    with ThreadPoolExecutor(max_workers=IN_FLIGHT) as pool:
        while True:
            present = time.monotonic()
            if present - began >= float(task["most"]):
                break
            if watched >= float(task["seconds"]) and until.exists():
                break
            answers.append(pool.submit(one, len(answers)))
            # Who wakes late saw nothing meanwhile: what was missed is not made up for in a burst.
            watched += interval
            due = max(due + interval, present)
            if present > next_told:
                next_told = present + TELL_SECONDS
                # Those that still wait come with the next ones.
                ready = next((k for k in range(told, len(answers)) if not answers[k].done()), None)
                ready = len(answers) if ready is None else ready
                tell({"answers": [future.result() for future in answers[told:ready]]})
                told = ready
            time.sleep(max(0.0, due - time.monotonic()))
    for connection in idle:
        connection.close()
    with contextlib.suppress(OSError):
        until.unlink()
    tell({"answers": [future.result() for future in answers[told:]]})
    return {"began": moment, "seconds": round(time.monotonic() - began, 3)}


def stream(task: Task) -> dict[str, Any]:
    """Read server-sent events as they come."""
    connection = connect(task)
    began = time.monotonic()
    events: list[tuple[float, float]] = []
    try:
        connection.request("POST", task["path"], task["body"].encode(), headers_of(task, 0))
        response = connection.getresponse()
        while line := response.readline():
            if line.startswith(b"data: {"):
                produced = float(json.loads(line[6:]).get("at", 0))
                events.append((produced, round(time.monotonic() - began, 4)))
    except (OSError, http.client.HTTPException, ValueError) as error:
        problem = f"{type(error).__name__}: {error}"
        return {"status": 0, "events": events, "error": problem}
    finally:
        connection.close()
    return {
        "status": response.status,
        "pod": response.headers.get("x-kar-pod", ""),
        "events": events,
        "seconds": round(time.monotonic() - began, 4),
    }


def prompt(size: int) -> bytes:
    """Return a JSON body of a completion: exactly ``size`` bytes, or as few as there can be."""
    head, tail = b'{"model": "kar-model", "prompt": "', b'"}'
    room = max(0, size - len(head) - len(tail))
    return head + os.urandom(room // 2 + 1).hex().encode()[:room] + tail


def send(task: Task) -> dict[str, Any]:
    """Send one request with a body of a given size."""
    connection = connect(task)
    body = task["body"].encode() if "body" in task else prompt(int(task.get("bytes", 0)))
    headers, wanted = headers_of(task, 0), int(task.get("answer", 0))
    if wanted:
        headers["x-kar-answer-bytes"] = str(wanted)
    began = time.monotonic()
    try:
        # Who refuses a large body may say so before it was sent, and close.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.request(task.get("method", "POST"), task["path"], body, headers)
        response = connection.getresponse()
        text = response.read()
    except (OSError, http.client.HTTPException, ValueError) as error:
        taken = round(time.monotonic() - began, 3)
        return {"status": 0, "seconds": taken, "error": f"{type(error).__name__}: {error}"}
    finally:
        connection.close()
    taken, changed = round(time.monotonic() - began, 3), altered(text, body)
    return {
        "status": response.status,
        "pod": response.headers.get("x-kar-pod", ""),
        "seconds": taken,
        "got": received(text).get("bytes"),
        "whole": None if changed is None else not changed,
        "answered_whole": filling(text) == wanted if wanted and response.status == 200 else None,
    }


def filling(text: bytes) -> int | None:
    """Return how long the server's filling is, if it is one from beginning to end."""
    try:
        found = str(json.loads(text)["filling"])
    except (ValueError, KeyError, TypeError):
        return None
    unit = "0123456789abcdef"
    return len(found) if found == (unit * (len(found) // 16 + 1))[: len(found)] else None


def each(task: Task) -> dict[str, Any]:
    """Send one request to each of several addresses."""

    def one(target: list[Any]) -> tuple[int, str]:
        address, port, method, path, body = target
        connection = connect({"address": address, "port": port, "timeout": task.get("timeout", 5)})
        try:
            connection.request(method, path, body.encode() or None)
            response = connection.getresponse()
            return response.status, response.read().decode("utf-8", "replace")
        except (OSError, http.client.HTTPException) as error:
            return 0, f"{type(error).__name__}: {error}"
        finally:
            connection.close()

    targets = task["targets"]
    with ThreadPoolExecutor(max_workers=max(1, len(targets))) as pool:
        return {"answers": list(pool.map(one, targets))}


def batch(task: Task) -> dict[str, Any]:
    """Do several tasks."""
    tasks = task["tasks"]
    with ThreadPoolExecutor(max_workers=len(tasks) if task.get("together") else 1) as pool:
        return {"done": list(pool.map(lambda one: TASKS[one["do"]](one), tasks))}


TASKS: dict[str, Callable[[Task], dict[str, Any]]] = {
    "ask": ask,
    "settle": settle,
    "steady": lambda task: steady(task, tell),
    "stop": stop,
    "stream": stream,
    "send": send,
    "each": each,
    "batch": batch,
}


def tell(found: dict[str, Any]) -> None:
    """Print one line."""
    print(json.dumps(found), flush=True)


def main() -> int:
    """Do one task, or wait to be asked by exec."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
    if len(sys.argv) < 2:
        threading.Event().wait()
    task: Task = json.loads(sys.argv[1])
    tell(TASKS[task["do"]](task))
    return 0


if __name__ == "__main__":
    sys.exit(main())
