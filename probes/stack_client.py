"""Sends a batch of requests to somebody's serving stack, and reads its pods' metrics around it.

Configuration is JSON at ``KAR_CONFIG``: ``url``, ``host`` (Host header, may be empty), ``model``
(empty: the first that is served), ``path`` (empty: found out), ``run`` (begins every request's
id), ``requests``, ``warm_up``, ``at_once``, ``words`` (length of a prompt), ``answer_tokens``,
``request_seconds``, ``quiet_seconds``, ``settle_seconds``, ``pods`` (name, address, ports),
``paths`` and ``metrics`` to look for, ``version`` (a path), ``short_words`` (length of every other
prompt; absent: all are equally long), ``steps`` (a folder, absent or empty: nobody reads along). A
bearer token is read from the file ``KAR_TOKEN`` if there is one; it is never printed.

Most requests are sent one by one, the last ones ``at_once`` together. Between them the client
stops until the file ``go-N`` appears in ``steps``, so that somebody can read the interfaces of the
pods while nothing of ours is under way. ``stack_client.py step N FOLDER SECONDS`` lets it go on
from stop N - 1 and waits until it has come to stop N; it prints ``at``, ``over`` or ``not yet``.

Prints one JSON object a line: ``counters`` of every pod at four moments (``first``, ``quiet``,
``before``, ``after``), ``version``, ``serves``, ``warm_up``, ``step`` with what was done since the
one before, ``answer`` for each counted request, ``problem``, and ``done``. ``at`` is in seconds
after the program's start.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import re
import signal
import socket
import sys
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
STEP_SECONDS = 60.0
"""How long the client waits for whoever reads along, before it goes on alone."""
END_SECONDS = 5.0
POLL_SECONDS = 0.02
QUIET_PARTS = 4
"""Pieces of the time without requests, so that traffic of others shows how steady it is."""
ALONE_SHARE = 0.6
"""Share of the requests that are sent one by one, and not together with others."""
_TEXTS = ("content", "reasoning_content", "reasoning", "refusal")
"""Where a chat answer has its text; a model that is still thinking has none in the first."""
_SAMPLE = re.compile(
    r"([A-Za-z_:][A-Za-z0-9_:]*)(?:\{(.*)\})?\s+([-+0-9.eE]+|[-+]?(?:Inf|NaN))(?:\s+[0-9.]+)?"
)
_BEGINNING = re.compile(r"(?:ray_)?[^:_]*[:_]?")
"""Ray puts its own word before the names of the engines that it runs."""
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
    """Return (beginnings of all names and the wanted names, samples as [name, labels, value])."""
    families: set[str] = set()
    found: list[list[Any]] = []
    names = set(wanted)
    for line in text.splitlines():
        match = None if line.startswith("#") else _SAMPLE.fullmatch(line.strip())
        if match is None:
            continue
        name = match[1]
        families.add(_BEGINNING.match(name)[0])  # type: ignore[index]
        value = float(match[3])
        if name in names and ":" not in name and not name.startswith("process_"):
            # Some engines' names have no beginning of their own.
            families.add(name)
        if name in names and value == value and abs(value) != float("inf"):
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

        Engine and framework may tell theirs at different ports, and so may the ranks of an engine;
        a sidecar may pass those of another port through. ``by_endpoint`` holds all that was read:
        only several readings show which endpoints tell the same.
        """
        families: set[str] = set()
        found: list[list[Any]] = []
        told: dict[str, list[list[Any]]] = {}
        for url in self._endpoints if self._endpoints is not None else self._candidates:
            status, text = fetch(url, seconds=SCRAPE_SECONDS)
            names, values = samples(text, self._config["metrics"]) if status == 200 else ([], [])
            if not names:
                continue
            families.update(names)
            found += [one for one in values if one not in found]
            told[url] = values
        if self._endpoints is None or told:
            self._endpoints = list(told)
        return {
            "endpoint": ", ".join(map(_place, told)),
            "families": sorted(families),
            "samples": found,
            "by_endpoint": {_place(url): values for url, values in told.items()},
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


def _place(url: str) -> str:
    return url.partition("://")[2]


class Steps:
    """Stops between requests, for whoever reads the interfaces of the pods meanwhile."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder) if folder else None
        self._number = 0

    def stop(self, did: str, asked: list[Object] | None = None) -> None:
        """Tell what was done since the last stop, and wait to be let go on.

        ``did`` is ``nothing``, ``asked`` or ``other`` (what is of no use to anybody).
        """
        number = self._number
        self._number += 1
        if self._folder is not None:
            (self._folder / f"at-{number}").touch()
            if not _appears(self._folder / f"go-{number}", STEP_SECONDS):
                self._folder = None
        requests = [
            {key: one[key] for key in ("status", "words", "prompt_tokens", "short")}
            for one in asked or []
        ]
        waited = self._folder is not None
        say("step", number=number, at=since(), did=did, requests=requests, waited=waited)

    def end(self) -> None:
        """Tell whoever waits for another stop that there is none, before the pod ends with us."""
        if self._folder is not None:
            (self._folder / "over").touch()
            _appears(self._folder / "seen", END_SECONDS)


def _appears(path: Path, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not path.exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def step(number: int, folder: Path, seconds: float) -> str:
    """Let the client go on to stop ``number`` and wait for it: ``at``, ``over`` or ``not yet``."""
    if number:
        (folder / f"go-{number - 1}").touch()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if (folder / f"at-{number}").exists():
            return "at"
        if (folder / "over").exists():
            (folder / "seen").touch()
            return "over"
        time.sleep(POLL_SECONDS)
    return "not yet"


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

    def ask(self, name: str, *, short: bool = False) -> Object:
        """Send one request under this id; returns the fields of its line."""
        words = int(self.config["words"])
        if short:
            words = int(self.config.get("short_words") or words)
        text = prompt(name, words)
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
            "words": words,
            "short": short,
            "prompt_tokens": None,
            "generated_tokens": None,
            "problem": "",
        }
        try:
            content = json.loads(answer)
            line["text"] = _text(content["choices"][0])[:MOST_TEXT]
            usage = content.get("usage") or {}
            line["prompt_tokens"] = usage.get("prompt_tokens")
            line["generated_tokens"] = usage.get("completion_tokens")
        except (ValueError, LookupError, TypeError, AttributeError):
            line["problem"] = answer[:MOST_TEXT]
        return line

    def warm_up(self, run: str, count: int, steps: Steps | None = None) -> list[Object]:
        """Send the first requests, and find out which of the two interfaces is served."""
        paths = [self.path] if self.path else ["/v1/completions", "/v1/chat/completions"]
        found: list[Object] = []
        for path in paths:
            self.path = path
            found = []
            for number in range(count):
                found.append(self.ask(f"{run}-warm{number}"))
                if steps is not None:
                    steps.stop("asked", found[-1:])
            if not all(one["status"] in (400, 404, 405, 501) for one in found):
                break
        return found


def _text(choice: Object) -> str:
    """Return the text of an answer, also of a model that spent its tokens on thinking."""
    message = choice.get("message") or {}
    found = [choice.get("text"), *(message.get(name) for name in _TEXTS)]
    return str(next((one for one in found if one), ""))


def plan(requests: int, at_once: int) -> list[list[tuple[int, bool]]]:
    """Return which requests (number, short or not) are sent together, one list after the other.

    Short and long ones take turns and change places, so that nothing that only grows with time
    grows with the length of the prompts.
    """
    turns = [(number, number % 4 in (0, 3)) for number in range(requests)]
    alone = requests if at_once < 2 else int(requests * ALONE_SHARE)
    together = turns[alone:]
    groups = [together[start : start + at_once] for start in range(0, len(together), at_once)]
    return [*([one] for one in turns[:alone]), *groups]


def main() -> None:
    """Read, ask, read again."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
    if sys.argv[1:2] == ["step"]:
        print(step(int(sys.argv[2]), Path(sys.argv[3]), float(sys.argv[4])))
        return
    config: Object = json.loads(Path(os.environ["KAR_CONFIG"]).read_text("utf-8"))
    steps = Steps(str(config.get("steps") or ""))
    work(config, steps)
    say("done")
    steps.end()


def work(config: Object, steps: Steps) -> None:
    """Do everything that is told."""
    pods = [Pod(one, config) for one in config["pods"]]
    client = Client(config)

    snapshot(pods, "first")
    for one in pods:
        say("version", pod=one.name, text=one.version())
    steps.stop("other")
    for _ in range(QUIET_PARTS):
        time.sleep(float(config["quiet_seconds"]) / QUIET_PARTS)
        steps.stop("nothing")
    snapshot(pods, "quiet")

    if problem := client.find_model():
        say("problem", text=problem)
        return
    steps.stop("other")
    warm = client.warm_up(str(config["run"]), int(config["warm_up"]), steps)
    say("serves", path=client.path, model=client.model)
    for line in warm:
        say("warm_up", **line)
    settled(pods, float(config["settle_seconds"]))
    steps.stop("nothing")
    snapshot(pods, "before")
    steps.stop("other")

    at_once = int(config["at_once"])
    with ThreadPoolExecutor(max_workers=at_once) as pool:
        for turn in plan(int(config["requests"]), at_once):
            sent = [
                pool.submit(client.ask, f"{config['run']}-{number:03}", short=short)
                for number, short in turn
            ]
            answers = [one.result() for one in sent]
            for (number, _), line in zip(turn, answers, strict=True):
                say("answer", number=number, **line)
            steps.stop("asked", answers)
    settled(pods, float(config["settle_seconds"]))
    steps.stop("nothing")
    snapshot(pods, "after")


if __name__ == "__main__":
    main()
