"""What a batch of requests proves about a stack: arithmetic on an observation. Pure.

Three independent kinds of proof make the grade:

* **accounting**: prefill computed about as many prompt tokens as were sent, and decode received
  about as many from elsewhere instead of computing them;
* **bytes**: the interfaces carried what the engines claim to have moved, or, where no engine
  counts bytes, more for each prompt token than its text could ever take;
* **request ids**: each id is in the log of exactly one pod of each phase.

What is not exported is missing: it proves nothing, and refutes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from functools import cached_property

from kar_checks.checks.stack.engines import Quantity, engines_of, known, quantities, started
from kar_checks.checks.stack.observation import Counters, StackObservation, StackPod
from kar_checks.model import Evidence
from kar_checks.profile import Profile


class Grade(IntEnum):
    """How well it is proved that state moved; a smaller number is better."""

    ALL = 1
    ACCOUNTS_AND_BYTES = 2
    IDS_AND_BYTES = 3
    IDS = 4
    NONE = 5

    @property
    def words(self) -> str:
        """The grade as people read it."""
        return _GRADES[self]


_GRADES = {
    Grade.ALL: "accounting, bytes and request ids (grade 1 of 4, the highest)",
    Grade.ACCOUNTS_AND_BYTES: "accounting and bytes (grade 2 of 4)",
    Grade.IDS_AND_BYTES: "request ids and bytes (grade 3 of 4)",
    Grade.IDS: "request ids only (grade 4 of 4, the lowest)",
    Grade.NONE: "no proof",
}


class Carried(StrEnum):
    """What the interfaces say about the bytes that are claimed."""

    YES = "carried"
    NO = "not carried"
    UNSEEN = "not seen"
    """They cannot be read, or bytes may have moved past them."""


@dataclass(frozen=True)
class Bytes:
    """Claimed and carried bytes, from before the first request to after the last."""

    claimed: float | None
    received: int | None
    """By the interfaces of decode pods; ``None`` if one of them cannot be read."""
    sent: int | None
    """By the interfaces of prefill pods."""
    verdict: Carried
    why: str = ""

    @property
    def moved(self) -> int | None:
        """The smaller of what one side sent and the other received; ``None`` if unreadable."""
        found = [one for one in (self.received, self.sent) if one is not None]
        return min(found) if found else None


class Proof:
    """One observation, calculated."""

    def __init__(self, seen: StackObservation, profile: Profile) -> None:
        self.seen = seen
        self.tolerance = profile.number("stack.tolerance")
        self._floor = profile.number("stack.floor_bytes")
        self.prefill = [one for one in seen.pods if one.role == "prefill"]
        # A pod of both phases decodes, too; that it may also prefill is another matter.
        self.decode = [one for one in seen.pods if one.role in ("decode", "both")]
        self.answered = [one for one in seen.batch.answers if one.status == 200 and one.text]

    # -- counters -----------------------------------------------------------------------------

    @staticmethod
    def delta(pod: StackPod, quantity: Quantity) -> float | None:
        """Return what a pod counted for the batch, ``None`` if it does not count that."""
        return _between(pod.before, pod.after, quantity)

    def total(self, pods: Iterable[StackPod], quantity: Quantity) -> float | None:
        """Return the sum over pods, ``None`` unless every one of them counts it."""
        values = [self.delta(one, quantity) for one in counting(pods)]
        numbers = [one for one in values if one is not None]
        return sum(numbers) if values and len(numbers) == len(values) else None

    @cached_property
    def tokens(self) -> float | None:
        """Prompt tokens of the batch, as the answers tell; ``None`` if one does not."""
        told = [one.prompt_tokens for one in self.answered]
        numbers = [one for one in told if one is not None]
        return sum(numbers) if told and len(numbers) == len(told) else None

    @cached_property
    def remote_share(self) -> float | None:
        """Share of the prompts that decode got from elsewhere; ``None`` if nothing tells."""
        received, computed = (
            self.total(self.decode, "received"),
            self.total(self.decode, "computed"),
        )
        # An engine that never received anything may export the metric without that series.
        if received is not None and self.tokens and (received or computed):
            return received / self.tokens
        handled = self.total(self.prefill, "requests")
        if handled is not None and self.answered:
            return handled / len(self.answered)
        return None

    @cached_property
    def accounts(self) -> bool | None:
        """Whether the engines' token accounts agree; ``None`` if they keep none."""
        computed = self.total(self.prefill, "computed")
        received = self.total(self.decode, "received")
        if computed is None or received is None or not self.tokens:
            return None
        again = self.total(self.decode, "computed")
        return (
            abs(computed - self.tokens) <= self.tolerance * self.tokens
            and abs(received - self.tokens) <= self.tolerance * self.tokens
            and (again is None or again <= self.tolerance * self.tokens)
        )

    # -- bytes --------------------------------------------------------------------------------

    @cached_property
    def bytes(self) -> Bytes:
        """What was claimed, what was carried, and whether they agree."""
        claims = [
            claim
            for pods in (self.decode, self.prefill)
            if (claim := _sum_since_first(pods)) is not None
        ]
        claimed = max(claims) if claims else None
        received = _carried(self.decode, "received")
        sent = _carried(self.prefill, "sent")
        readable = [one for one in (received, sent) if one is not None]
        if not readable:
            why = next((one.traffic_why_not for one in self.seen.pods if one.traffic_why_not), "")
            return Bytes(claimed, received, sent, Carried.UNSEEN, why)
        moved = min(readable)
        if claimed:
            if moved >= (1 - self.tolerance) * claimed:
                return Bytes(claimed, received, sent, Carried.YES)
            if why := self._past_the_interfaces():
                return Bytes(claimed, received, sent, Carried.UNSEEN, why)
            return Bytes(claimed, received, sent, Carried.NO)
        tokens = (self.tokens or 0) + self.seen.batch.warm_up_tokens
        if tokens and moved >= self._floor * tokens:
            return Bytes(claimed, received, sent, Carried.YES)
        why = self._past_the_interfaces()
        return Bytes(claimed, received, sent, Carried.UNSEEN if why else Carried.NO, why)

    def _past_the_interfaces(self) -> str:
        devices = sorted({device for one in self.seen.pods for device in one.devices})
        if devices:
            return f"bytes may have moved through {', '.join(devices)}"
        if {one.node for one in self.prefill} & {one.node for one in self.decode}:
            return "pods of both phases share a node, where memory may be shared"
        return ""

    # -- request ids --------------------------------------------------------------------------

    @cached_property
    def ids(self) -> int:
        """How many ids are in the log of exactly one prefill and exactly one decode pod."""
        return sum(
            len(_with_id(self.prefill, one.number)) == 1
            and len(_with_id(self.decode, one.number)) == 1
            for one in self.answered
        )

    @cached_property
    def ids_agree(self) -> bool:
        """Whether the ids prove that each request was in one pod of each phase."""
        return bool(self.answered) and self.ids >= (1 - self.tolerance) * len(self.answered)

    # -- together -----------------------------------------------------------------------------

    @cached_property
    def grade(self) -> Grade:
        """The best grade that is reached."""
        if self.bytes.verdict is Carried.YES:
            if self.accounts:
                return Grade.ALL if self.ids_agree else Grade.ACCOUNTS_AND_BYTES
            if self.ids_agree:
                return Grade.IDS_AND_BYTES
        return Grade.IDS if self.ids_agree else Grade.NONE

    @cached_property
    def simulator(self) -> str:
        """Why the servers are taken for a simulator; empty if they are not.

        A name alone condemns nobody: if the bytes really moved, whatever moved them is no mock of
        a transfer. Nor is a claim without readable interfaces an invention.
        """
        if self.bytes.verdict is Carried.YES:
            return ""
        if self.bytes.claimed and self.bytes.verdict is Carried.NO:
            return "the engines claim bytes that no interface carried"
        signs = sorted({sign for pod in self.seen.pods for sign in signs_of(pod)})
        return "; ".join(signs)

    @property
    def engines(self) -> str:
        """The engines whose names the metrics have; what else they are is not known by that."""
        found = dict.fromkeys(
            engine.title for pod in self.seen.pods for engine in engines_of(pod.after.families)
        )
        return ", ".join(found) or "none recognised"


def size(value: float) -> str:
    """Return a number of bytes for people."""
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:,.0f} {unit}" if unit == "B" else f"{value:,.1f} {unit}"
        value /= 1024
    return f"{value:,.2f} GiB"


def counting(pods: Iterable[StackPod]) -> list[StackPod]:
    """Return the pods that have to count: for a worker that exports nothing its leader does."""
    return [one for one in pods if not one.worker or one.after.endpoint]


def evidence(seen: StackObservation, profile: Profile) -> Evidence:
    """Return the level: the user's own stack is real, unless it invents what it says."""
    return Evidence.SIMULATED if Proof(seen, profile).simulator else Evidence.REAL


def signs_of(pod: StackPod) -> list[str]:
    """Return what makes a pod look like a simulator."""
    out: list[str] = []
    for one in known().simulators:
        out += [
            f"the image {image} is {one.name}"
            for image in pod.images
            if any(part in image for part in one.images)
        ]
        told = [pod.version, *pod.commands]
        if any(part in word for word in told for part in one.words):
            out.append(f"a server calls itself {one.name}")
    # What only borrows an engine's metrics does not serve its version path; a framework around
    # the engine may not serve it either.
    engines = engines_of(pod.after.families)
    if len(engines) == 1 and engines[0].version and pod.version == "404":
        one_engine = engines[0]
        out.append(
            f"a server exports metrics of {one_engine.title} and serves no {one_engine.version}"
        )
    return out


def restarted(pod: StackPod) -> str:
    """Say how a pod is not the same as before; empty if it is."""
    if pod.restarts_after is None:
        return f"pod {pod.name} is gone"
    if pod.restarts_after != pod.restarts:
        return f"a container of pod {pod.name} was restarted"
    if pod.before.endpoint and not pod.after.endpoint:
        return f"pod {pod.name} tells no metrics any more"
    starts = [
        started(one.samples)
        for one in (pod.first, pod.quiet, pod.before, pod.after)
        if one.endpoint
    ]
    if len(set(starts)) > 1:
        return f"the server in pod {pod.name} was started again"
    for quantity in ("requests", "computed", "received", "bytes"):
        values = [
            value
            for one in (pod.first, pod.quiet, pod.before, pod.after)
            if (value := quantities(one.families, one.samples).get(quantity)) is not None
        ]
        if values != sorted(values):
            return f"a counter of pod {pod.name} went backwards ({quantity})"
    return ""


def foreign(seen: StackObservation, proof: Proof) -> str:
    """Say what was somebody else's traffic; empty if nothing was."""
    for pod in seen.pods:
        if more := _between(pod.first, pod.quiet, "requests"):
            return (
                f"pod {pod.name} finished {more:.0f} requests in {seen.batch.quiet_seconds:g} s in "
                "which none of ours was sent"
            )
    sent = len(seen.batch.answers)
    for word, group in (("prefill", proof.prefill), ("decode", proof.decode)):
        handled = proof.total(group, "requests")
        if handled is not None and handled > sent:
            return f"{word} pods finished {handled:.0f} requests, and {sent} were ours"
    return ""


def _between(one: Counters, other: Counters, quantity: Quantity) -> float | None:
    first = quantities(one.families, one.samples).get(quantity)
    last = quantities(other.families, other.samples).get(quantity)
    if last is None or not one.endpoint:
        return None
    # A counter that appears with its first event was not there before it.
    return last - (first or 0)


def _sum_since_first(pods: Iterable[StackPod]) -> float | None:
    values = [_between(one.first, one.after, "bytes") for one in pods]
    numbers = [one for one in values if one is not None]
    return sum(numbers) if numbers else None


def _carried(pods: list[StackPod], direction: str) -> int | None:
    out = 0
    for one in pods:
        if one.traffic_before is None or one.traffic_after is None:
            return None
        out += getattr(one.traffic_after, direction) - getattr(one.traffic_before, direction)
    return out if pods else None


def _with_id(pods: Iterable[StackPod], number: int) -> list[str]:
    return [one.name for one in pods if one.log is not None and number in one.log.ids]
