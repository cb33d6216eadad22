"""A client that asks through a gateway and counts who answered. Its one argument is a task in JSON.

Every task has ``do``, ``address``, ``port``, and for the first two ``host`` (the Host header),
``method``, ``path``, ``headers`` and ``body`` (text; ``{n}`` in it, in the path or in a header is
the request's number, ``{k}`` its group, the number modulo ``groups``, ``{r}`` 400 characters that
no other request has, ``{p}`` 6000 that follow from ``prefix`` and the group). Prints one JSON
object.

- ``ask``: ``count`` requests by ``workers`` threads, every second one on a new connection if
  ``fresh`` is true. With ``rate`` they start that many a second, whether earlier ones are answered
  or not. Prints ``answers``: ``[status, pod, revision, seconds, fresh, error]`` each; status 0 is
  no answer.
- ``settle``: asks until ``steady`` answers in a row have status 200, a pod, and ``revision`` if
  one is wanted; gives up after ``seconds``. Prints ``settled``, ``seconds`` and the last
  ``answers``.
- ``stream``: asks once and prints ``events``: ``[produced, arrived]``, both in seconds, after the
  server's first event and after sending; ``seconds`` is the end of the answer.
- ``send``: one request with ``bytes`` of body. Prints ``status``, ``pod``, ``seconds``, ``got``
  (bytes that the server counted).
- ``each``: one request to each of ``targets``, ``[address, port, method, path, body]``, all at
  once. Prints ``answers``: ``[status, text]`` each.

No proxy is used, whatever the environment says.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

Task = dict[str, Any]
Answer = tuple[int, str, str, float, bool, str]


def connect(task: Task) -> http.client.HTTPConnection:
    """Return a connection that is not open yet."""
    return http.client.HTTPConnection(
        str(task["address"]), int(task["port"]), timeout=float(task.get("timeout", 10))
    )


LETTERS = "abcdefghijklmnopqrstuvwxyz "


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
    if task.get("host"):
        out["Host"] = str(task["host"])
    return out


def once(connection: http.client.HTTPConnection, task: Task, number: int, fresh: bool) -> Answer:
    """Send one request and read its answer to the end."""
    began = time.monotonic()
    text = filled(str(task.get("body", "")), number, task)
    body = text.encode() or None
    try:
        connection.request(
            task.get("method", "GET"),
            filled(task["path"], number, task),
            body,
            headers_of(task, number),
        )
        response = connection.getresponse()
        response.read()
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        return 0, "", "", round(time.monotonic() - began, 4), fresh, type(error).__name__
    found = response.headers
    return (
        response.status,
        found.get("x-kar-pod", ""),
        found.get("x-kar-revision", ""),
        round(time.monotonic() - began, 4),
        fresh,
        "",
    )


def ask(task: Task) -> dict[str, Any]:
    """Send a fixed number of requests."""
    count = int(task["count"])
    fresh = bool(task.get("fresh"))
    rate = float(task.get("rate", 0))
    answers: list[Answer | None] = [None] * count
    numbers = iter(range(count))
    lock = threading.Lock()
    began = time.monotonic()

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
            answers[number] = once(connection, task, number, new)
            if new:
                connection.close()
        kept.close()

    # At a fixed rate nobody waits for anybody: a worker for each request.
    workers = count if rate else int(task.get("workers", 4))
    with ThreadPoolExecutor(max_workers=workers) as pool:
        for _ in range(workers):
            pool.submit(work)
    return {"answers": answers, "seconds": round(time.monotonic() - began, 3)}


def settle(task: Task) -> dict[str, Any]:
    """Ask until the answers are steady."""
    wanted, steady = task.get("revision"), int(task["steady"])
    began = time.monotonic()
    last: list[Answer] = []
    row = number = 0
    while row < steady and time.monotonic() - began < float(task["seconds"]):
        connection = connect(task)
        answer = once(connection, task, number, fresh=True)
        connection.close()
        number += 1
        good = answer[0] == 200 and answer[1] != "" and wanted in (None, answer[2])
        row = row + 1 if good else 0
        last = [*last, answer][-20:]
        time.sleep(0.02 if good else 0.1)
    return {
        "settled": row >= steady,
        "seconds": round(time.monotonic() - began, 3),
        "asked": number,
        "answers": last,
    }


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


def send(task: Task) -> dict[str, Any]:
    """Send one request with a body of a given size."""
    connection = connect(task)
    began = time.monotonic()
    size = int(task.get("bytes", 0))
    try:
        connection.request(
            task.get("method", "POST"), task["path"], b"x" * size, headers_of(task, 0)
        )
        response = connection.getresponse()
        text = response.read()
    except (OSError, http.client.HTTPException) as error:
        taken = round(time.monotonic() - began, 3)
        return {"status": 0, "seconds": taken, "error": f"{type(error).__name__}: {error}"}
    finally:
        connection.close()
    try:
        got = json.loads(text).get("bytes")
    except (ValueError, AttributeError):
        got = None
    return {
        "status": response.status,
        "pod": response.headers.get("x-kar-pod", ""),
        "seconds": round(time.monotonic() - began, 3),
        "got": got,
    }


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


TASKS = {"ask": ask, "settle": settle, "stream": stream, "send": send, "each": each}


def main() -> int:
    """Do one task, or wait to be asked by exec."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
    if len(sys.argv) < 2:
        threading.Event().wait()
    task: Task = json.loads(sys.argv[1])
    print(json.dumps(TASKS[task["do"]](task)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
