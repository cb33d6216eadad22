"""Asks a serving stack many things at once, and prints what came back, one JSON object a line.

``python3 disagg_client.py JOB`` with a JSON object: ``url`` (of an OpenAI-style completion),
``run`` (a word that makes the prompts of this run unlike any other's), ``first`` and ``count``
(numbers of the requests), ``tokens`` (words of a prompt), ``words`` (of an answer), ``at_once``,
``stream`` (yes or no), ``headers`` and ``extra`` (more fields of the body), ``seconds`` (limit of
one request). With ``until`` (a file) it goes on until that file exists. With ``get``, a list of
URLs, it only reads those, and prints each status and text.

Every request has the id ``RUN-NUMBER`` and a prompt that starts with it, so that no cache of a
prefix can help.
"""

from __future__ import annotations

import hashlib
import http.client
import itertools
import json
import signal
import sys
import threading
import time
import urllib.parse
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

Json = dict[str, Any]

_lock = threading.Lock()


def say(line: Json) -> None:
    """Print one line."""
    with _lock:
        print(json.dumps(line), flush=True)


def prompt(request_id: str, tokens: int) -> str:
    """Return a prompt of that many words, all of which follow from the request's id."""
    words = [request_id]
    for number in itertools.count():
        if len(words) >= tokens:
            return " ".join(words[:tokens])
        digest = hashlib.sha256(f"{request_id}/{number}".encode()).hexdigest()
        words += [digest[start : start + 4] for start in range(0, 64, 4)]
    raise AssertionError("unreachable")


def opened(url: str, seconds: float) -> tuple[http.client.HTTPConnection, str]:
    """Return a connection for a URL, and the path to ask for."""
    parts = urllib.parse.urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(parts.hostname or "", parts.port, timeout=seconds), parts.path or "/"


def ask(job: Json, number: int) -> Json:
    """Send one request and return everything about its answer; times are seconds from its start."""
    request_id = f"{job['run']}-{number}"
    text = prompt(request_id, int(job["tokens"]))
    url = str(job["url"])
    body: Json = {
        "model": "kar-probe",
        "max_tokens": int(job["words"]),
        "temperature": 0,
        **cast("Json", job.get("extra") or {}),
    }
    if url.endswith("/chat/completions"):
        body["messages"] = [{"role": "user", "content": text}]
    else:
        body["prompt"] = text
    if job.get("stream"):
        body["stream"] = True
    headers = {
        "Content-Type": "application/json",
        "X-Request-Id": request_id,
        # A gateway at the edge may put an id of its own into the other (Envoy's usual way).
        "X-Kar-Request-Id": request_id,
        **cast("Json", job.get("headers") or {}),
    }
    seen: Json = {"request_id": request_id, "at": round(time.time(), 4), "status": 0, "text": ""}
    began = time.monotonic()
    connection, path = opened(url, float(job.get("seconds") or 60))
    try:
        connection.request("POST", path, json.dumps(body), headers)
        response = connection.getresponse()
        seen["status"] = response.status
        seen["headers_seconds"] = round(time.monotonic() - began, 4)
        for name in ("x-inference-pod", "x-kar-kv-source"):
            seen[name.removeprefix("x-").replace("-", "_")] = response.getheader(name, "")
        if (response.getheader("Content-Type") or "").startswith("text/event-stream"):
            seen |= _stream(response, began)
        else:
            seen |= _whole(response)
    except (OSError, http.client.HTTPException, ValueError) as error:
        seen["error"] = f"{type(error).__name__}: {error}"[:300]
    finally:
        connection.close()
    return {**seen, "seconds": round(time.monotonic() - began, 4)}


def _whole(response: http.client.HTTPResponse) -> Json:
    content: Json = json.loads(response.read())
    if response.status != 200:
        told = cast("Json", content.get("error") or {})
        return {"code": str(told.get("code", "")), "error": str(told.get("message", content))[:300]}
    return {
        "text": _text(content),
        "prompt_tokens": (content.get("usage") or {}).get("prompt_tokens"),
    }


def _stream(response: http.client.HTTPResponse, began: float) -> Json:
    """Read server-sent events: the text, and when each of its parts came."""
    parts: list[str] = []
    times: list[float] = []
    done = False
    while line := response.readline():
        data = line.decode().strip().removeprefix("data:").strip()
        if not data:
            continue
        if data == "[DONE]":
            done = True
            break
        parts.append(_text(json.loads(data)))
        times.append(round(time.monotonic() - began, 4))
    found: Json = {"text": "".join(parts), "parts": times, "done": done}
    return found if done else {**found, "error": "the stream ended before [DONE]"}


def _text(content: Json) -> str:
    choice = content["choices"][0]
    return str(
        choice.get("text")
        or (choice.get("message") or choice.get("delta") or {}).get("content")
        or ""
    )


def read(url: str, seconds: float) -> Json:
    """Read a URL."""
    connection, path = opened(url, seconds)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return {"url": url, "status": response.status, "text": response.read().decode()}
    except (OSError, http.client.HTTPException) as error:
        return {"url": url, "status": 0, "error": f"{type(error).__name__}: {error}"[:300]}
    finally:
        connection.close()


def main(argv: Sequence[str]) -> int:
    """Do one job."""
    if len(argv) != 2:
        # As a pod's only process: stay, and be there for jobs.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        say({"event": "started"})
        threading.Event().wait()
    job: Json = json.loads(argv[1])
    if "get" in job:
        for url in cast("list[str]", job["get"]):
            say(read(url, float(job.get("seconds") or 5)))
        return 0
    first, stop = int(job["first"]), job.get("until")
    numbers = itertools.count(first) if stop else range(first, first + int(job["count"]))
    source = iter(numbers)

    def work() -> None:
        while not (stop and Path(str(stop)).exists()):
            with _lock:
                number = next(source, None)
            if number is None:
                return
            say(ask(job, number))

    with ThreadPoolExecutor(int(job.get("at_once") or 1)) as pool:
        for one in [pool.submit(work) for _ in range(int(job.get("at_once") or 1))]:
            one.result()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
