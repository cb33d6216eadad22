"""The client in the cluster: its objects, and how what it printed becomes records."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from kar_checks.checks.stack.engines import Sample, known
from kar_checks.checks.stack.observation import Answer, Batch, Counters
from kar_checks.checks.trial import manifest
from kar_checks.cluster import kinds
from kar_checks.cluster.client import Object
from kar_checks.cluster.kinds import Kind
from kar_checks.cluster.target import Target
from kar_checks.profile import Profile

NAME = "kar-stack-client"
PROBE = "stack_client"


@dataclass(frozen=True)
class Address:
    """Where a pod of the stack may tell its metrics."""

    name: str
    address: str
    ports: tuple[int, ...]


def pod(*, image: str, probe: str, secret: str) -> Object:
    """Return the client's pod; ``secret`` is empty without a credential."""
    return manifest(
        "stack/pod.yaml.j2", name=NAME, image=image, probe=probe, config=NAME, secret=secret
    )


def config(profile: Profile, *, run: str, pods: Sequence[Address]) -> Object:
    """Return the ConfigMap with all that the client has to know; no secret is in it."""
    text, number = profile.text, profile.number
    content: dict[str, Any] = {
        "url": text("stack.url"),
        "host": text("stack.host"),
        "model": text("stack.model"),
        "path": text("stack.path"),
        "run": run,
        "requests": int(number("stack.requests")),
        "warm_up": int(number("stack.warm_up")),
        "at_once": int(number("stack.at_once")),
        "words": int(number("stack.prompt_words")),
        "answer_tokens": int(number("stack.answer_tokens")),
        "request_seconds": number("stack.request_seconds"),
        "quiet_seconds": number("stack.quiet_seconds"),
        "settle_seconds": number("stack.settle_seconds"),
        "pods": [
            {"name": one.name, "address": one.address, "ports": list(one.ports)} for one in pods
        ],
        "paths": known().paths,
        "metrics": known().metrics(),
        "version": next(one.version for one in known().engines if one.version),
    }
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": NAME},
        "data": {"config.json": json.dumps(content)},
    }


def secret(token: str) -> Object:
    """Return the Secret that hands the credential to the client alone."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": NAME},
        "stringData": {"token": token},
    }


def manifests(target: Target) -> list[tuple[Kind, Object]]:
    """Return one of each kind, for dry runs."""
    image, probe = target.image("python"), f"kar-probe-{PROBE.replace('_', '-')}"
    return [(kinds.POD, pod(image=image, probe=probe, secret=""))]


@dataclass(frozen=True)
class Told:
    """What the client printed."""

    batch: Batch
    counters: dict[tuple[str, str], Counters]
    """By moment and pod."""
    versions: dict[str, str]
    problem: str


def read(lines: Iterable[dict[str, Any]], quiet_seconds: float) -> Told:
    """Sort the client's lines into records."""
    counters: dict[tuple[str, str], Counters] = {}
    versions: dict[str, str] = {}
    answers: list[Answer] = []
    warm: list[dict[str, Any]] = []
    path, model, problem = "", "", ""
    for line in lines:
        event = line.get("event")
        if event == "counters":
            counters[line["moment"], line["pod"]] = Counters(
                at=line["at"],
                endpoint=line["endpoint"],
                families=line["families"],
                samples=[
                    Sample(name=name, labels=labels, value=value)
                    for name, labels, value in line["samples"]
                ],
            )
        elif event == "version":
            versions[line["pod"]] = line["text"]
        elif event == "serves":
            path, model = line["path"], line["model"]
        elif event == "warm_up":
            warm.append(line)
        elif event == "answer":
            answers.append(
                Answer.model_validate(
                    {key: line[key] for key in Answer.model_fields if key in line}
                )
            )
        elif event == "problem":
            problem = line["text"]
    batch = Batch(
        path=path,
        model=model,
        warm_up=len(warm),
        warm_up_tokens=sum(one.get("prompt_tokens") or 0 for one in warm),
        quiet_seconds=quiet_seconds,
        answers=answers,
    )
    return Told(batch=batch, counters=counters, versions=versions, problem=problem)
