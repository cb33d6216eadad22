"""The disaggregation trial: deploy the workload once, then one experiment after the other.

They share router, prefill and decode, since what is measured is the network between them; those
that take a part away come last.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from kar_checks.checks.disaggregation import figures, measures, workload
from kar_checks.checks.disaggregation.observation import (
    Batch,
    DisaggregationObservation,
    Loss,
    PhaseSeen,
    Policy,
    Scaling,
)
from kar_checks.checks.disaggregation.stage import Aside, Stage, with_phases
from kar_checks.cluster import kinds
from kar_checks.cluster.errors import HarnessError, internal
from kar_checks.kit.pulse import Watched
from kar_checks.kit.trial import Trial
from kar_checks.model import Evidence, Fault, Reason, Record
from kar_checks.store import now

PAUSE = 0.25
"""Seconds between blocks of the transfer that is interrupted: 32 blocks take 8 s."""
_POLL_SECONDS = 0.3
_STOP = "/scratch/stop"


def run(trial: Trial) -> DisaggregationObservation:
    """Measure what the selected checks want.

    Raises:
        HarnessError: the workload could not be deployed or reached.
    """
    started = now()
    stage = Stage(trial)
    try:
        stage.deploy()
        parts = _experiments(trial, stage)
    finally:
        stage.close()
    seen = DisaggregationObservation(
        trial="disaggregation",
        evidence=Evidence.SYNTHETIC,
        started=started,
        finished=now(),
        shape=stage.shape,
        route=stage.entrance.told,
        workload=stage.form.told,
        network=stage.network,
        interface=stage.parts.interface if stage.network else "",
        nodes_usable=stage.nodes_usable,
        **parts,
    )
    return seen.model_copy(
        update={"figures": figures.draw(seen), "measures": measures.of(seen.main)}
    )


def _experiments(trial: Trial, stage: Stage) -> dict[str, object]:
    """Do each experiment that a selected check wants; one that fails leaves its fault."""
    wants = {one.removeprefix("disaggregation.") for one in trial.selected}
    parts: dict[str, object] = {}

    def do(name: str, wanted: set[str], work: Callable[[], Record]) -> None:
        if not wants & wanted:
            return
        trial.report(f"disaggregated serving: {name.replace('_', ' ')}")
        try:
            part: Record = work()
        except HarnessError as error:
            part = error.fault
        except Exception as error:
            part = internal(error).fault
        if not isinstance(part, Fault):
            trial.keep(name, part)
        parts[name] = part

    claims = {"separate_pods", "state_transferred", "request_ids", "correct_output"}
    do("main", claims, lambda: main(stage))
    do("straight", {"state_transferred", "correct_output"}, lambda: straight(stage))
    do("concurrent", {"concurrency"}, lambda: concurrent(stage))
    do("streamed", {"streaming"}, lambda: streamed(stage))
    do("corrupted", {"corrupted_block"}, lambda: corrupted(stage))
    phases, parts["pods"] = stage.tell_logs()
    for name, part in parts.items():
        if isinstance(part, Batch):
            parts[name] = with_phases(part, phases)
    do("scaling", {"decode_scaling"}, lambda: scaling(stage))
    do("policy", {"correct_output"}, lambda: policy(stage))
    do("loss", {"prefill_lost"}, lambda: loss(stage))
    do("without_prefill", {"correct_output"}, lambda: without_prefill(stage))
    return parts


def main(stage: Stage) -> Batch:
    """The batch that everything is claimed of, with all counters around it."""
    trial = stage.trial
    before = stage.snapshot()
    batch = stage.ask(
        count=int(trial.number("disaggregation.requests")),
        tokens=int(trial.number("disaggregation.tokens")),
        at_once=int(trial.number("disaggregation.at_once")),
    )
    counters, interfaces = stage.between(before, stage.snapshot())
    return batch.model_copy(update={"counters": counters, "interfaces": interfaces})


def straight(stage: Stage) -> Batch:
    """Control: past the router, so that decode has no prefill to ask."""
    before = stage.snapshot(interfaces=False)
    batch = stage.ask(
        count=2, tokens=int(stage.trial.number("disaggregation.tokens")), part="decode"
    )
    counters, _ = stage.between(before, stage.snapshot(interfaces=False))
    return batch.model_copy(update={"counters": counters})


def concurrent(stage: Stage) -> Batch:
    """Many at once."""
    return stage.ask(
        count=int(stage.trial.number("disaggregation.concurrent_requests")),
        tokens=_short(stage),
        at_once=int(stage.trial.number("disaggregation.concurrent_at_once")),
    )


def streamed(stage: Stage) -> Batch:
    """A completion and a chat completion as server-sent events."""
    batches = [stage.ask(tokens=_short(stage), stream=True, chat=chat) for chat in (False, True)]
    return Batch(requests=[one for batch in batches for one in batch.requests])


def corrupted(stage: Stage) -> Batch:
    """First with a flipped bit in the last block, then without."""
    spoiled = stage.ask(tokens=_short(stage), fault={"corrupt_block": 1})
    sound = stage.ask(tokens=_short(stage))
    return Batch(requests=[*spoiled.requests, *sound.requests])


def scaling(stage: Stage) -> Scaling:
    """One decode pod more and one less, under a steady stream of requests."""
    limit = stage.trial.number("disaggregation.scale_seconds")
    before = [str(one["metadata"]["name"]) for one in stage.await_pods("decode", 1)]
    began = time.monotonic()
    stream = Aside(lambda: stage.ask(tokens=_short(stage), at_once=2, until=_STOP, lasts=3 * limit))
    facts: dict[str, object] = {}
    try:
        stage.form.scale("decode", 2)
        there = [
            str(one["metadata"]["name"]) for one in stage.await_pods("decode", 2, seconds=limit)
        ]
        (added,) = set(there) - set(before)
        facts |= {"pod_added": added, "added_seconds": round(time.monotonic() - began, 2)}
        deadline = time.monotonic() + limit / 4
        while time.monotonic() < deadline:
            if any(line.get("phase") == "decode" for line in stage.log(added)):
                facts["served_seconds"] = round(time.monotonic() - began, 2)
                break
            stage.pause(_POLL_SECONDS)
        stage.form.scale("decode", 1)
        (left,) = stage.await_pods("decode", 1, seconds=limit)
        (removed,) = set(there) - {str(left["metadata"]["name"])}
        facts |= {"pod_removed": removed, "removed_seconds": round(time.monotonic() - began, 2)}
        stage.pause(2 * _POLL_SECONDS)  # and requests go on after it
    finally:
        stage.touch(_STOP)
        batch = stream.result()
    served = sum(one.pod == facts.get("pod_added") for one in batch.requests)
    return Scaling.model_validate(
        {"batch": batch, "pods_before": before, "pod_added": "", "added_served": served, **facts}
    )


def policy(stage: Stage) -> Policy:
    """A NetworkPolicy between client and prefill shows whether any is enforced; then ask."""
    health = f"http://{stage.address('prefill')}/health"
    limit = stage.trial.number("disaggregation.policy_seconds")
    request, held = None, None
    with Watched(stage.trial, "disaggregation-policy") as watched:
        began = watched.at()
        stage.trial.workspace.create(kinds.NETWORK_POLICY, workload.policy())
        try:
            enforced, window = watched.poll(
                lambda left: stage.becomes(health, answers=False, seconds=left), began, limit
            )
            if enforced:
                (request,) = stage.ask(tokens=_short(stage)).requests
                held = stage.becomes(health, answers=False, seconds=0)
        finally:
            stage.trial.workspace.delete(kinds.NETWORK_POLICY, workload.POLICY)
    if enforced and not stage.becomes(health, answers=True, seconds=10 * limit):
        raise HarnessError(Reason.TIMEOUT, "prefill stays out of reach without the NetworkPolicy")
    return Policy(
        enforced=enforced,
        seconds=round(window.ended - window.began, 2),
        window=window,
        request=request,
        held=held,
    )


def loss(stage: Stage) -> Loss:
    """Delete the prefill pod while its state is being pulled."""
    (prefill,) = stage.await_pods("prefill", 1)
    (decode,) = stage.await_pods("decode", 1)
    pod, puller = str(prefill["metadata"]["name"]), str(decode["metadata"]["name"])
    told = len(stage.log(puller))
    began = time.monotonic()
    tokens = int(stage.trial.number("disaggregation.tokens"))
    asked = Aside(lambda: stage.ask(tokens=tokens, fault={"pause_seconds": PAUSE}))
    deadline = began + 2 * PAUSE * tokens / stage.shape.block_tokens
    pulling = False
    while not pulling and time.monotonic() < deadline:
        lines = stage.log(puller)[told:]
        pulling = any(line.get("event") == "transfer_began" for line in lines)
        if not pulling:
            stage.pause(_POLL_SECONDS)
    stage.delete_pod(pod)
    deleted = round(time.monotonic() - began, 2)
    request = asked.result().requests[0]
    lines = stage.log(puller)[told:]
    phases = [
        PhaseSeen(pod=puller, phase="error", at=float(one["at"]), code=str(one.get("code", "")))
        for one in lines
        if one.get("phase") == "error" and one.get("request_id") == request.id
    ]
    return Loss(
        request=request.model_copy(update={"phases": phases}),
        pod=pod,
        began=pulling,
        deleted_seconds=deleted,
    )


def without_prefill(stage: Stage) -> Batch:
    """Control: no prefill pod at all."""
    stage.form.scale("prefill", 0)
    stage.await_pods("prefill", 0)
    return stage.ask(count=2, tokens=_short(stage))


def _short(stage: Stage) -> int:
    return int(stage.trial.number("disaggregation.short_tokens"))
