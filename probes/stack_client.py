"""Sends a batch of requests to somebody's serving stack, and reads its pods' metrics around it.

Configuration is JSON at ``KAR_CONFIG``: ``url``, ``host`` (Host header, may be empty), ``model``
(empty: the first that is served), ``path`` (empty: found out), ``run`` (begins every request's
id), ``requests``, ``warm_up``, ``at_once``, ``words`` (length of a prompt), ``answer_tokens``,
``request_seconds``, ``quiet_seconds``, ``settle_seconds``, ``pods`` (name, address, ports),
``paths`` and ``metrics`` to look for, ``version`` (a path). A bearer token is read from the file
``KAR_TOKEN`` if there is one; it is never printed.

Prints one JSON object a line: ``counters`` of every pod at four moments (``first``, ``quiet``,
``before``, ``after``), ``version``, ``serves``, ``warm_up``, ``answer`` for each counted request,
``problem``, and ``done``. ``at`` is in seconds after the program's start.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import re
import signal
import socket
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

SCRAPE_SECONDS = 5.0
SETTLE_PAUSE = 1.0
RESOLVE_SECONDS = 10.0
"""A cluster's name service that has just met a new Service asks to try again for a moment."""
MOST_TEXT = 300
_SAMPLE = re.compile(
    r"([A-Za-z_:][A-Za-z0-9_:]*)(?:\{(.*)\})?\s+([-+0-9.eE]+|[-+]?(?:Inf|NaN))(?:\s+[0-9.]+)?"
)
_LABEL = re.compile(r'([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\]|\\.)*)"')
_WORDS = (
    *("amber", "basin", "cedar", "delta", "ember", "fjord", "grove", "haven", "islet", "jetty"),
    *("knoll", "larch", "north", "ocean", "ridge", "tundra", "valley", "willow", "zephyr"),
)

STARTED = time.monotonic()


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: it would turn a request into another, and hand the token to others."""

    def redirect_request(self, *_: Any) -> None:
        """Leave the answer as it is."""


# Addresses inside a cluster are never behind the proxy that the environment may name.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}), _Stay)

Object = dict[str, Any]


def token() -> str:
    """Return the bearer token, empty if there is none."""
    file = Path(os.environ.get("KAR_TOKEN", ""))
    return file.read_text("utf-8").strip() if file.is_file() else ""


def say(event: str, **more: Any) -> None:
    """Print one line about what happened."""
    print(json.dumps({"event": event, **more}), flush=True)


def since() -> float:
    """Return the seconds since the start."""
    return round(time.monotonic() - STARTED, 3)


def _read(answer: Any) -> str:
    """Return what a server sent, without our token, before anything cuts it in two."""
    text: str = answer.read().decode("utf-8", "replace")
    secret = token()
    return text.replace(secret, "[redacted]") if secret else text


def fetch(
    url: str, *, body: Any = None, headers: dict[str, str] | None = None, seconds: float
) -> tuple[int, str]:
    """Send one request; returns (status, text), or (0, what went wrong) without an answer."""
    data = None if body is None else json.dumps(body).encode()
    sent = {"Content-Type": "application/json"} if data else {}
    request = urllib.request.Request(url, data=data, headers={**sent, **(headers or {})})  # noqa: S310
    began = time.monotonic()
    while True:
        try:
            with _OPENER.open(request, timeout=seconds) as answer:
                return answer.status, _read(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _read(error)
        except (OSError, ValueError, http.client.HTTPException) as error:
            why = getattr(error, "reason", error)
            if not _unresolved(why) or time.monotonic() - began > RESOLVE_SECONDS:
                return 0, str(why) or type(error).__name__
        time.sleep(0.5)


def _unresolved(why: Any) -> bool:
    """Tell whether the name service asked to try again: nothing was sent, so nothing is doubled."""
    return isinstance(why, socket.gaierror) and why.errno == socket.EAI_AGAIN


def samples(text: str, wanted: list[str]) -> tuple[list[str], list[list[Any]]]:
    """Return (families by their beginnings, wanted samples as [name, labels, value])."""
    families: set[str] = set()
    found: list[list[Any]] = []
    for line in text.splitlines():
        match = None if line.startswith("#") else _SAMPLE.fullmatch(line.strip())
        if match is None:
            continue
        name = match[1]
        families.add(re.split(r"(?<=[:_])", name, maxsplit=1)[0])
        value = float(match[3])
        if name in wanted and value == value and abs(value) != float("inf"):
            found.append([name, dict(_LABEL.findall(match[2] or "")), value])
    return sorted(families), found


class Pod:
    """One pod of the stack, and where it tells its metrics."""

    def __init__(self, given: Object, config: Object) -> None:
        self.name = str(given["name"])
        address = str(given["address"])
        self._host = f"[{address}]" if ":" in address else address
        self._config = config
        self._candidates = [
            f"http://{self._host}:{port}{path}"
            for port in given["ports"]
            for path in config["paths"]
        ]
        self._endpoints: list[str] | None = None

    def counters(self) -> Object:
        """Read every endpoint that has metrics; the first time all candidates are tried.

        Engine and framework may tell theirs at different ports.
        """
        families: set[str] = set()
        found: list[list[Any]] = []
        seen: set[str] = set()
        there: list[str] = []
        for url in self._endpoints if self._endpoints is not None else self._candidates:
            status, text = fetch(url, seconds=SCRAPE_SECONDS)
            told, values = samples(text, self._config["metrics"]) if status == 200 else ([], [])
            if not told:
                continue
            there.append(url)
            families.update(told)
            # The same metrics at a second port (a sidecar passes them through) count once.
            new = [one for one in values if one[0] not in seen]
            found += new
            seen.update(one[0] for one in new)
        if self._endpoints is None or there:
            self._endpoints = there
        return {
            "endpoint": ", ".join(one.partition("://")[2] for one in there),
            "families": sorted(families),
            "samples": found,
        }

    def version(self) -> str:
        """Return what it answers at the version path, or the last status."""
        told = ""
        for one in self._endpoints or []:
            base = one.partition("://")[2].partition("/")[0]
            status, text = fetch(f"http://{base}{self._config['version']}", seconds=SCRAPE_SECONDS)
            if status == 200:
                return text[:MOST_TEXT]
            told = str(status)
        return told


def snapshot(pods: list[Pod], moment: str) -> dict[str, Object]:
    """Read and print the counters of all pods."""
    with ThreadPoolExecutor(max_workers=8) as pool:
        found = dict(zip((one.name for one in pods), pool.map(Pod.counters, pods), strict=True))
    for name, counters in found.items():
        say("counters", moment=moment, at=since(), pod=name, **counters)
    return found


def settled(pods: list[Pod], seconds: float) -> None:
    """Wait until no counter changes any more, since engines count some time after they answer."""
    deadline = time.monotonic() + seconds
    last: Any = None
    calm = 0
    while time.monotonic() < deadline and calm < 2:
        with ThreadPoolExecutor(max_workers=8) as pool:
            now = [one["samples"] for one in pool.map(Pod.counters, pods)]
        calm = calm + 1 if now == last else 0
        last = now
        time.sleep(SETTLE_PAUSE)


def prompt(seed: str, words: int) -> str:
    """Return a prompt that no other begins like: nothing of it can be in a prefix cache."""
    chosen = random.Random(seed)
    middle = " ".join(f"{chosen.choice(_WORDS)}{chosen.randrange(1000)}" for _ in range(words))
    return f"{middle} Continue this list of words."


class Client:
    """The stack's front door."""

    def __init__(self, config: Object) -> None:
        self.config = config
        self.base = str(config["url"]).rstrip("/")
        self.headers = {"User-Agent": "kar-checks"}
        if secret := token():
            self.headers["Authorization"] = f"Bearer {secret}"
        if config["host"]:
            self.headers["Host"] = str(config["host"])
        self.model = str(config["model"])
        self.path = str(config["path"])

    def find_model(self) -> str:
        """Take the first model that is served if none was named; returns what went wrong."""
        if self.model:
            return ""
        status, text = fetch(
            f"{self.base}/v1/models",
            headers=self.headers,
            seconds=float(self.config["request_seconds"]),
        )
        try:
            self.model = str(json.loads(text)["data"][0]["id"])
        except (ValueError, LookupError, TypeError):
            return f"no model was named, and /v1/models gave {status}: {text[:MOST_TEXT]}"
        return ""

    def ask(self, name: str) -> Object:
        """Send one request under this id; returns the fields of its line."""
        text = prompt(name, int(self.config["words"]))
        body: Object = {
            "model": self.model,
            "max_tokens": int(self.config["answer_tokens"]),
            "temperature": 0,
            "stream": False,
        }
        if self.path.endswith("/chat/completions"):
            body["messages"] = [{"role": "user", "content": text}]
        else:
            body["prompt"] = text
        began = since()
        status, answer = fetch(
            f"{self.base}{self.path}",
            body=body,
            headers={**self.headers, "X-Request-Id": name},
            seconds=float(self.config["request_seconds"]),
        )
        line: Object = {
            "id": name,
            "at": began,
            "status": status,
            "seconds": round(since() - began, 3),
            "text": "",
            "prompt_tokens": None,
            "problem": "",
        }
        try:
            content = json.loads(answer)
            choice = content["choices"][0]
            told = choice.get("text") or (choice.get("message") or {}).get("content") or ""
            line["text"] = str(told)[:MOST_TEXT]
            line["prompt_tokens"] = (content.get("usage") or {}).get("prompt_tokens")
        except (ValueError, LookupError, TypeError, AttributeError):
            line["problem"] = answer[:MOST_TEXT]
        return line

    def warm_up(self, run: str, count: int) -> list[Object]:
        """Send the first requests, and find out which of the two interfaces is served."""
        paths = [self.path] if self.path else ["/v1/completions", "/v1/chat/completions"]
        found: list[Object] = []
        for path in paths:
            self.path = path
            found = [self.ask(f"{run}-warm{number}") for number in range(count)]
            if not all(one["status"] in (400, 404, 405, 501) for one in found):
                break
        return found


def main() -> None:
    """Read, ask, read again."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
    config: Object = json.loads(Path(os.environ["KAR_CONFIG"]).read_text("utf-8"))
    pods = [Pod(one, config) for one in config["pods"]]
    client = Client(config)

    snapshot(pods, "first")
    for one in pods:
        say("version", pod=one.name, text=one.version())
    time.sleep(float(config["quiet_seconds"]))
    snapshot(pods, "quiet")

    if problem := client.find_model():
        say("problem", text=problem)
        say("done")
        return
    warm = client.warm_up(str(config["run"]), int(config["warm_up"]))
    say("serves", path=client.path, model=client.model)
    for line in warm:
        say("warm_up", **line)
    settled(pods, float(config["settle_seconds"]))
    snapshot(pods, "before")

    names = [f"{config['run']}-{number:03}" for number in range(int(config["requests"]))]
    with ThreadPoolExecutor(max_workers=int(config["at_once"])) as pool:
        for number, line in enumerate(pool.map(client.ask, names)):
            say("answer", number=number, **line)
    settled(pods, float(config["settle_seconds"]))
    snapshot(pods, "after")
    say("done")


if __name__ == "__main__":
    main()
