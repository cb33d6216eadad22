"""What a batch of requests proves about a stack: arithmetic on an observation. Pure.

Three independent kinds of proof make the grade:

* **accounting**: prefill computed about as many prompt tokens as were sent, and decode received
  about as many from elsewhere instead of computing them;
* **bytes**: the interfaces of both sides carried more for each prompt token than its text could
  ever take, long prompts more than short ones, beyond what they carry without requests; and it is
  known that it went from prefill to decode: the engines count as much, or the connections between
  their pods carried it;
* **request ids**: each id is in the log of exactly one pod of each phase.

What is not exported is missing: it proves nothing, and refutes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from functools import cached_property

from kar_checks.checks.stack.carried import Carriage, Moved
from kar_checks.checks.stack.engines import (
    Quantity,
    engines_of,
    known,
    quantities,
    started,
    told_in_part,
)
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
    """What the interfaces show of the bytes that are claimed."""

    YES = "carried"
    NO = "not carried"
    UNSEEN = "not seen"
    """They cannot be read, or bytes may have moved past them."""
    UNATTRIBUTED = "not attributed"
    """Bytes were carried, and nothing shows that they were the state of our prompts."""
    UNRECORDED = "not recorded"
    """Version 0.1 read the interfaces before and after all requests only."""


@dataclass(frozen=True)
class Bytes:
    """Claimed and carried bytes of all our requests, the warm-up included."""

    claimed: float | None
    moved: float | None
    """What both sides carried, less what they carry without requests; ``None`` if unreadable."""
    verdict: Carried
    why: str = ""


_TEXT = 2
"""Bytes that a word of a prompt has at least."""


class Proof:
    """One observation, calculated."""

    def __init__(self, seen: StackObservation, profile: Profile) -> None:
        self.seen = seen
        self.tolerance = profile.number("stack.tolerance")
        self._floor = profile.number("stack.floor_bytes")
        self.prefill = [one for one in seen.pods if one.role == "prefill"]
        # A pod of both phases decodes as well; that it may also prefill is another matter.
        self.decode = [one for one in seen.pods if one.role in ("decode", "both")]
        self.answered = [one for one in seen.batch.answers if one.answered]
        self.carriage = Carriage(seen, self.prefill, self.decode, profile)
        self._beyond = profile.number("stack.more_than_claimed")

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
        """Prompt tokens of the batch by the answers; ``None`` if one does not count them."""
        told = [one.prompt_tokens for one in self.answered]
        numbers = [one for one in told if one is not None]
        return sum(numbers) if told and len(numbers) == len(told) else None

    @cached_property
    def remote_share(self) -> float | None:
        """Share of the prompts that decode got from elsewhere; ``None`` if unknown."""
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

    def counted(self, pods: Sequence[StackPod]) -> float | None:
        """Share of the requests or prompt tokens that pods counted; ``None`` if they count none."""
        handled = self.total(pods, "requests")
        tokens = [self.total(pods, one) for one in ("computed", "received")]
        told = [one for one in tokens if one is not None]
        found = [
            *([handled / len(self.answered)] if handled is not None and self.answered else []),
            *([sum(told) / self.tokens] if told and self.tokens else []),
        ]
        return max(found) if found else None

    def logged(self, pods: Sequence[StackPod]) -> float:
        """Share of the request ids in the logs of pods; they may be hidden: 0 is no proof."""
        there = sum(bool(_with_id(pods, one.number)) for one in self.answered)
        return there / len(self.answered) if self.answered else 0.0

    @cached_property
    def reached(self) -> float | None:
        """Share of the requests that the decode pods are known to have seen; ``None``: unknown."""
        counted, logged = self.counted(self.decode), self.logged(self.decode)
        return max(counted or 0, logged) if counted is not None or logged else None

    @cached_property
    def uncounted(self) -> list[StackPod]:
        """Pods whose logs have our requests although their counters do not.

        Those of a phase; prefill only where decode keeps no account of what it received.
        """
        most = 1 - self.tolerance
        groups = [self.decode]
        if self.total(self.decode, "received") is None:
            groups.append(self.prefill)
        return [
            one
            for group in groups
            if (counted := self.counted(group)) is not None and counted < most <= self.logged(group)
            for one in group
        ]

    @cached_property
    def prefilled_elsewhere(self) -> int | None:
        """Bytes that decode received of other pods than the named prefill pods; else ``None``.

        Those neither counted nor logged the requests, and sent less than any state takes.
        """
        received, sent = self.carriage.carried("received"), self.carriage.carried("sent")
        saw = max(self.counted(self.prefill) or 0, self.logged(self.prefill))
        found = [request for one in self.carriage.moved for request in one.asked]
        wanted = self._floor * sum(one.tokens for one in found)
        if received is None or sent is None or saw >= 1 - self.tolerance or not wanted:
            return None
        return received if sent < wanted <= received else None

    @property
    def seen_by_decode(self) -> bool:
        """Whether the decode pods are known to have seen about all requests."""
        return self.reached is not None and self.reached >= 1 - self.tolerance

    @cached_property
    def unseen_by_decode(self) -> bool:
        """Whether the decode pods received less than the prompts themselves, and nothing counts."""
        received = self.carriage.carried("received")
        words = sum(request.words for one in self.carriage.moved for request in one.asked)
        return not self.reached and received is not None and received < _TEXT * words

    @cached_property
    def fell_short(self) -> list[Moved]:
        """The requests whose state did not all move; none where it may take other ways."""
        return [] if self._past_the_interfaces() else self.carriage.fell_short

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
        """What was claimed, what was carried, and whether that was the state of our prompts."""
        claims = [
            claim
            for pods in (self.decode, self.prefill)
            if (claim := _sum_since_first(pods)) is not None
        ]
        claimed = max(claims) if claims else None
        if not self.seen.batch.steps:
            return self._bytes_of_old(claimed)
        found = self.carriage.moved
        if not found or self.seen.batch.steps_why_not:
            whys = [one.traffic_why_not for one in self.seen.pods if one.traffic_why_not]
            why = next(iter(whys), self.seen.batch.steps_why_not)
            return Bytes(claimed, None, Carried.UNSEEN, why)
        moved = sum(one.likely for one in found)
        verdict, why = self._carried(claimed)
        return Bytes(claimed, moved, verdict, why)

    def _carried(self, claimed: float | None) -> tuple[Carried, str]:
        """Return what the interfaces prove, and why no more."""
        found = self.carriage.moved
        most = sum(one.most for one in found)
        tokens = sum(request.tokens for one in found for request in one.asked)
        wanted = (1 - self.tolerance) * claimed if claimed else self._floor * tokens
        if most < wanted:
            why = self._past_the_interfaces()
            return (Carried.UNSEEN, why) if why else (Carried.NO, "")
        # Some of it may have moved through memory or a device, some not.
        if self.carriage.fell_short:
            return Carried.UNSEEN, self._past_the_interfaces() or "not for every request"
        if self.carriage.grows is False:
            return Carried.UNATTRIBUTED, "short and long prompts made the interfaces carry the same"
        if self.carriage.grows is None:
            why = "what they carry without requests varies more than what a longer prompt adds"
            return Carried.UNATTRIBUTED, why
        if self._as_claimed(claimed) or self._between_phases():
            return Carried.YES, ""
        if claimed:
            why = "the engines count another amount, and so do the open connections between their"
        else:
            why = "no engine counts bytes, and no open connection carried them between their"
        return Carried.UNATTRIBUTED, f"{why} pods"

    def _as_claimed(self, claimed: float | None) -> bool:
        """Return whether the engines count about what the interfaces carried."""
        if not claimed:
            return False
        # Ranks of an engine on several pods exchange more than KV state, and some engines count
        # a part only: there the interfaces may carry more.
        partly = any(
            told_in_part("bytes", one.after.families, one.after.samples) for one in self.seen.pods
        )
        most = float("inf") if partly or any(one.worker for one in self.seen.pods) else claimed
        moved = sum(one.likely for one in self.carriage.moved)
        noise = self.carriage.noise
        enough = moved + noise >= (1 - self.tolerance) * claimed
        return enough and moved - noise <= (1 + self._beyond) * most and noise < claimed / 2

    def _between_phases(self) -> bool:
        """Return whether connections between prefill and decode pods carried about all of it."""
        moved = sum(one.likely for one in self.carriage.moved)
        between = self.carriage.with_peers
        return between is not None and between >= (1 - self.tolerance) * moved > 0

    def _bytes_of_old(self, claimed: float | None) -> Bytes:
        """Judge totals: they can refute a claim, and prove none."""
        sides = [_carried(self.decode, "received"), _carried(self.prefill, "sent")]
        readable = [one for one in sides if one is not None]
        if not readable:
            why = next((one.traffic_why_not for one in self.seen.pods if one.traffic_why_not), "")
            return Bytes(claimed, None, Carried.UNSEEN, why)
        tokens = (self.tokens or 0) + self.seen.batch.warm_up_tokens
        wanted = (1 - self.tolerance) * claimed if claimed else self._floor * tokens
        if min(readable) >= wanted:
            return Bytes(claimed, min(readable), Carried.UNRECORDED)
        why = self._past_the_interfaces()
        return Bytes(claimed, min(readable), Carried.UNSEEN if why else Carried.NO, why)

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
    def signs(self) -> list[str]:
        """What makes the servers look like a simulator. No bytes that moved make up for it."""
        return sorted({sign for pod in self.seen.pods for sign in signs_of(pod)})

    @cached_property
    def simulator(self) -> str:
        """Why the transfer is taken for an invention; empty if it is not.

        A claim without readable interfaces is none.
        """
        if self.signs:
            return "; ".join(self.signs)
        if self.bytes.claimed and self.bytes.verdict is Carried.NO:
            return "the engines claim bytes that no interface carried"
        return ""

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
    """Return the level: the user's own stack is real, unless it invents what it reports."""
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
        flags = sorted(set(pod.flags) & set(one.flags))
        out += [f"{', '.join(flags)} are options of {one.name}"] * bool(flags)
    # What only borrows an engine's metrics does not serve its version path. A framework around the
    # engine may not serve it either; then it adds metrics, or changes their names.
    engines = engines_of(pod.after.families)
    own = len(engines) == 1 and engines[0].prefixes[0] in pod.after.families
    if own and engines[0].version and pod.version == "404":
        one_engine = engines[0]
        out.append(
            f"a server exports metrics of {one_engine.title} and serves no {one_engine.version}"
        )
    return out


def restarted(pod: StackPod) -> str:
    """Return how a pod is not the same as before; empty if it is."""
    if pod.restarts_after is None:
        return f"pod {pod.name} is gone"
    if pod.restarts_after != pod.restarts:
        return f"a container of pod {pod.name} was restarted"
    if pod.before.endpoint and not pod.after.endpoint:
        return f"pod {pod.name} exports no metrics any more"
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
    """Return what was somebody else's traffic; empty if nothing was."""
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
