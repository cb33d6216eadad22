"""The client in the cluster: its objects, and how what it printed becomes records."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from kar_checks.checks.stack.endpoints import together
from kar_checks.checks.stack.engines import Sample, known
from kar_checks.checks.stack.observation import Answer, Batch, Counters, Step
from kar_checks.cluster import kinds
from kar_checks.cluster.client import Object
from kar_checks.cluster.kinds import Kind
from kar_checks.cluster.target import Target
from kar_checks.kit.trial import manifest
from kar_checks.profile import Profile

NAME = "kar-stack-client"
PROBE = "stack_client"
STEPS = "/scratch"
"""Where the client stops for whoever reads along."""
WAIT_SECONDS = 15
"""How long one question for the next stop lasts: shorter than the patience of any proxy."""
MOMENTS = ("first", "quiet", "before", "after")


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
        "short_words": max(1, int(number("stack.prompt_words") * number("stack.short_share"))),
        "steps": STEPS,
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


def next_step(number: int) -> list[str]:
    """Return the command that lets the client go on, and waits for its stop of that number."""
    words = ["python3", "-I", "-S", f"/probe/{PROBE}.py", "step"]
    return [*words, str(number), STEPS, str(WAIT_SECONDS)]


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
    found: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        found.setdefault(str(line.get("event")), []).append(line)
    warm, steps = found.get("warm_up", []), found.get("step", [])
    serves = found.get("serves", [{"path": "", "model": ""}])[-1]
    alone = any(not one["waited"] for one in steps)
    batch = Batch(
        path=serves["path"],
        model=serves["model"],
        warm_up=len(warm),
        warm_up_tokens=sum(one.get("prompt_tokens") or 0 for one in warm),
        quiet_seconds=quiet_seconds,
        answers=[
            Answer.model_validate({key: line[key] for key in Answer.model_fields if key in line})
            for line in found.get("answer", [])
        ],
        steps=[
            Step.model_validate({"did": one["did"], "requests": one["requests"]}) for one in steps
        ],
        steps_why_not="the client did not wait until the interfaces were read" if alone else "",
    )
    return Told(
        batch=batch,
        counters=_counters(found.get("counters", [])),
        versions={one["pod"]: one["text"] for one in found.get("version", [])},
        problem=found["problem"][-1]["text"] if "problem" in found else "",
    )


def _counters(lines: list[dict[str, Any]]) -> dict[tuple[str, str], Counters]:
    """Return the counters by moment and pod; what two endpoints of a pod tell counts once."""
    by_pod: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        by_pod.setdefault(line["pod"], []).append(line)
    out: dict[tuple[str, str], Counters] = {}
    for pod, moments in by_pod.items():
        readings = [
            {
                endpoint: [
                    Sample(name=name, labels=labels, value=value) for name, labels, value in samples
                ]
                for endpoint, samples in one["by_endpoint"].items()
            }
            for one in moments
        ]
        for one, samples in zip(moments, together(readings), strict=True):
            out[one["moment"], pod] = Counters(
                at=one["at"], endpoint=one["endpoint"], families=one["families"], samples=samples
            )
    return out
