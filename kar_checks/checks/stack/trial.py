"""The trial of the user's own stack: look, count, ask, count again. Theirs is never changed."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

from kar_checks.checks.stack import client, figures, pods
from kar_checks.checks.stack.engines import Role
from kar_checks.checks.stack.observation import Counters, StackObservation, StackPod
from kar_checks.checks.stack.proof import evidence
from kar_checks.cluster import kinds
from kar_checks.cluster.client import Object
from kar_checks.cluster.errors import HarnessError
from kar_checks.cluster.pods import phase, ready
from kar_checks.kit.trial import Trial
from kar_checks.model import Evidence, Reason
from kar_checks.store import now

_TRIES = 3
"""How often a command that a busy node loses is tried."""

T = TypeVar("T")
Found = dict[str, tuple[Object, Role, str]]


@dataclass(frozen=True)
class _Asked:
    told: client.Told
    seconds: float


def run(trial: Trial) -> StackObservation:
    """Send a batch through the stack's front door and read its pods before and after.

    Raises:
        HarnessError: nothing can be measured (no rights, no credential, no image for the client).
    """
    started = now()
    namespace = trial.workspace.target.stack_namespace
    found = pods.find(trial, namespace)
    trial.report(f"your stack: {len(found)} pods of prefill and decode in {namespace}")
    names = {address: name for name, one in found.items() for address in pods.addresses(one[0])}
    meters = {name: pods.Meter(trial, namespace, one[0], names) for name, one in found.items()}
    asked = _ask(trial, found, list(meters.values()))
    ids = [one.id for one in asked.told.batch.answers]
    logs = _each(found, lambda one: pods.log_of(trial, namespace, one, ids, asked.seconds))
    still = pods.find(trial, namespace)
    members = [
        _member(found[name], asked.told, still[name][0] if name in still else None).model_copy(
            update={
                "log": logs[name],
                "readings": meters[name].readings,
                "traffic_before": next(iter(meters[name].readings), None),
                "traffic_after": next(reversed(meters[name].readings), None),
                "traffic_why_not": meters[name].why_not,
            }
        )
        for name in found
    ]
    seen = StackObservation(
        trial="stack",
        evidence=Evidence.REAL,
        started=started,
        finished=now(),
        namespace=namespace,
        pods=members,
        new_pods=sorted(set(still) - set(found)),
        batch=asked.told.batch,
        problem=asked.told.problem,
    )
    return seen.model_copy(
        update={
            "evidence": evidence(seen, trial.profile),
            "figures": figures.draw(seen, trial.profile),
        }
    )


def _each(found: Found, work: Callable[[Object], T]) -> dict[str, T]:
    with ThreadPoolExecutor(max_workers=8) as pool:
        return dict(zip(found, pool.map(work, [one[0] for one in found.values()]), strict=True))


def _ask(trial: Trial, found: Found, meters: Sequence[pods.Meter]) -> _Asked:
    """Run the client to its end, and read the interfaces of all pods whenever it stops."""
    workspace, profile = trial.workspace, trial.profile
    secret = ""
    if variable := trial.text("stack.credential"):
        workspace.create(kinds.SECRET, client.secret(_token(variable)))
        secret = client.NAME
    addresses = [pods.address(item) for item, _, _ in found.values()]
    workspace.create(
        kinds.CONFIG_MAP,
        client.config(profile, run=f"kar-{workspace.run_id}", pods=addresses),
    )
    probe = trial.mount_probe(client.PROBE)
    body = client.pod(image=workspace.target.image("python"), probe=probe, secret=secret)
    began = time.monotonic()
    pod = trial.start_pod(body, until=lambda one: phase(one) in ("Running", "Succeeded"))
    trial.report("your stack: asking")
    limit = trial.number("stack.batch_seconds")
    why_not = _read_along(trial, meters, began + limit)
    trial.wait_pod(
        pod,
        lambda one: phase(one) == "Succeeded",
        seconds=max(client.WAIT_SECONDS, began + limit - time.monotonic()),
    )
    lines = trial.log_lines(client.NAME)
    trial.evidence("client.jsonl", "".join(f"{json.dumps(one)}\n" for one in lines))
    if not any(one.get("event") == "done" for one in lines):
        raise HarnessError(Reason.POD_FAILED, "the client in the cluster did not finish")
    told = client.read(lines, trial.number("stack.quiet_seconds"))
    if told.batch.steps_why_not and why_not:
        batch = told.batch.model_copy(update={"steps_why_not": why_not})
        told = replace(told, batch=batch)
    return _Asked(told, time.monotonic() - began)


def _read_along(trial: Trial, meters: Sequence[pods.Meter], deadline: float) -> str:
    """Read all interfaces at each stop of the client; returns why no further stop was seen."""
    number = failed = 0
    why_not = "the client did not finish in time"
    with ThreadPoolExecutor(max_workers=8) as pool:
        while time.monotonic() < deadline and not trial.cluster.stopping.is_set():
            told = ""
            try:
                done = trial.cluster.exec(
                    trial.namespace,
                    client.NAME,
                    client.next_step(number),
                    seconds=client.WAIT_SECONDS + 5,
                )
                told, why_not = done.stdout.strip(), done.stderr.strip()[:200]
            except HarnessError as error:
                why_not = error.fault.message
                if error.fault.reason is Reason.FORBIDDEN:
                    break
            if told == "over":
                return ""
            if told == "at":
                list(pool.map(pods.Meter.read, meters))
                number += 1
            # To ask again does no harm: the client is where it was.
            failed = failed + 1 if told not in ("at", "not yet") else 0
            if failed == _TRIES:
                break
    return why_not


def _token(variable: str) -> str:
    try:
        return os.environ[variable].strip()
    except KeyError as error:
        raise HarnessError(
            Reason.FORBIDDEN,
            "the environment variable that stack.credential names is not set",
            "set it, or leave --target-credential out",
        ) from error


def _member(found: tuple[Object, Role, str], told: client.Told, now_: Object | None) -> StackPod:
    known = pods.record(*found)
    same = now_ if now_ is not None and now_["metadata"]["uid"] == known.uid else None
    moments = {
        moment: told.counters.get((moment, known.name), Counters()) for moment in client.MOMENTS
    }
    return known.model_copy(
        update={
            **moments,
            "restarts_after": None if same is None else pods.restarts(same),
            "ready_after": same is not None and ready(same),
            "version": told.versions.get(known.name, ""),
        }
    )
