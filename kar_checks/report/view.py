"""What the renderers show, worked out once from a stored run; no markup here."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar, cast

from pydantic import ValidationError

from kar_checks import added, programme, words
from kar_checks.added import Attested, Official
from kar_checks.model import (
    CheckInfo,
    Evidence,
    Figure,
    Finding,
    Observation,
    Outcome,
    RequirementOutcome,
    RequirementResult,
    TopicInfo,
)
from kar_checks.outcome import combine, combine_variants
from kar_checks.programme import Requirement
from kar_checks.store import StoredRun, folder_name

K = TypeVar("K", bound=Hashable)

LEVELS = ("MUST", "SHOULD")
File = tuple[str, str, int]


@dataclass(frozen=True)
class Tally:
    """How the members of one group came out; the parts of its sentence add up to ``total``."""

    label: str
    noun: str
    outcomes: Sequence[str]
    simulated: int = 0

    @property
    def total(self) -> int:
        """How many there are."""
        return len(self.outcomes)

    @property
    def parts(self) -> list[tuple[str, str, int]]:
        """The parts of the sentence: outcome, word, number."""
        counted = Counter(self.outcomes)
        return [
            (outcome, word, counted[outcome])
            for outcome, word in words.TALLY.items()
            if counted[outcome] or outcome in words.ALWAYS_TOLD
        ]

    @property
    def counts(self) -> str:
        """``8 requirements — 1 passed, 0 failed, 0 inconclusive, 7 without a check here``."""
        told = ", ".join(words.tally(outcome, number) for outcome, _, number in self.parts)
        note = (
            f" ({self.simulated} of those passed on simulated evidence)" if self.simulated else ""
        )
        return f"{words.count(self.total, self.noun)} — {told}{note}"

    @property
    def sentence(self) -> str:
        """The whole sentence."""
        return f"{self.label}: {self.counts}"


@dataclass(frozen=True)
class CheckView:
    """One check on one variant, with all that explains its verdict."""

    info: CheckInfo
    finding: Finding
    anchor: str
    repeat: str
    figures: list[tuple[str, Figure]] = field(default_factory=list[tuple[str, Figure]])
    """Figures that are drawn here, each with its anchor."""
    elsewhere: list[tuple[str, Figure]] = field(default_factory=list[tuple[str, Figure]])
    """Figures of another check that illustrate this one, too."""
    files: list[File] = field(default_factory=list[File])
    trial: TrialView | None = None


@dataclass(frozen=True)
class VariantView:
    """The checks on one variant; ``name`` is empty where there is just one."""

    name: str
    outcome: Outcome
    checks: list[CheckView]


@dataclass(frozen=True)
class TrialView:
    """One measurement, on which several checks may rest."""

    name: str
    anchor: str
    seen: Observation


@dataclass(frozen=True)
class TopicView:
    """A topic with its checks, grouped by variant."""

    info: TopicInfo
    anchor: str
    outcome: Outcome
    evidence: Evidence | None
    variants: list[VariantView]
    trials: list[TrialView]

    @property
    def checks(self) -> list[CheckView]:
        """All its checks."""
        return [check for variant in self.variants for check in variant.checks]

    @property
    def tally(self) -> Tally:
        """The sentence of the topic, about its checks."""
        return Tally(
            f"{self.info.title} ({self.info.label})",
            "check",
            [check.finding.outcome for check in self.checks],
        )

    @property
    def line(self) -> str:
        """One line about the variants: which of them came to what, and what that means."""
        named = [variant for variant in self.variants if variant.name]
        if not named:
            return ""
        told = ", ".join(f"{one.name} {words.outcome(one.outcome)}" for one in named)
        rule = "Any one of these is enough" if self.info.any_of else "Each of these counts"
        return f"{rule}: {told}."


@dataclass(frozen=True)
class RequirementView:
    """A row of the checklist."""

    requirement: Requirement
    result: RequirementResult
    topics: list[TopicView]
    attested: list[Attested] = field(default_factory=list[Attested])
    """What persons added."""
    official: list[Official] = field(default_factory=list[Official])
    """What the programme's official suite said."""
    suites: list[list[Official]] = field(default_factory=list[list[Official]])
    """What upstream suites said, by the file that tells it."""

    @property
    def disagrees(self) -> bool:
        """Whether an official suite decided otherwise than this run.

        A single failed test of an upstream suite speaks against a pass, and only a pass of all of
        them against a failure.
        """
        ours = str(self.result.outcome)
        told = [one.outcome for one in self.official]
        for suite in self.suites:
            outcomes = {one.outcome for one in suite}
            told += ["fail"] if "fail" in outcomes else ["pass"] if outcomes == {"pass"} else []
        return ours in ("pass", "fail") and any(
            one in ("pass", "fail") and one != ours for one in told
        )

    @property
    def anchor(self) -> str:
        """The id of its row."""
        return anchor_of("requirement", self.requirement.id)

    @property
    def levels(self) -> str:
        """How topics of different levels of evidence make one outcome; empty if they do not."""
        if len({one.info.evidence for one in self.topics}) < 2:
            return ""
        told = "; ".join(
            f"{one.info.title}: {words.outcome(one.outcome)}"
            + (f" on {one.evidence} evidence" if one.evidence else "")
            for one in self.topics
        )
        return f"It rests on the best evidence of the run. {told}."


@dataclass(frozen=True)
class Step:
    """Something to do next, with the rows that it is about."""

    outcome: str
    text: str
    causes: tuple[str, ...] = ()
    advice: str = ""
    command: str = ""
    rows: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """(anchor, name)."""


class Scorecard:
    """A stored run, arranged for reading."""

    def __init__(self, run: StoredRun) -> None:
        self.run = run
        self.info = run.info

    @cached_property
    def topics(self) -> list[TopicView]:
        """Every topic of the run."""
        return [self._topic(one) for one in self.info.topics]

    @cached_property
    def requirements(self) -> list[RequirementView]:
        """Every row of the checklist."""
        lines = {one.id: one for one in programme.requirements(self.info.kubernetes_minor)}
        return [
            RequirementView(
                lines[result.id],
                result,
                [topic for topic in self.topics if topic.info.requirement == result.id],
                [one for one in self.attested if one.requirement == result.id],
                [one for one in self.official if one.requirement == result.id and not one.suite],
                self._suites(result.id),
            )
            for result in self.run.requirements
        ]

    def _suites(self, requirement: str) -> list[list[Official]]:
        mine = [one for one in self.official if one.requirement == requirement and one.suite]
        return [
            [one for one in mine if one.source == source]
            for source in dict.fromkeys(one.source for one in mine)
        ]

    @cached_property
    def attested(self) -> list[Attested]:
        """What persons added to the run."""
        return added.attested(self.run.folder)

    @cached_property
    def official(self) -> list[Official]:
        """Results of official suites that were added to the run."""
        return added.official(self.run.folder)

    @property
    def beyond(self) -> list[TopicView]:
        """Prerequisites and topics beyond the programme: no line of the checklist is theirs."""
        listed = {row.requirement.id for row in self.requirements}
        return [topic for topic in self.topics if topic.info.requirement not in listed]

    @property
    def absent(self) -> list[tuple[str, str]]:
        """Requirements of other versions, with the reason."""
        return programme.absent(self.info.kubernetes_minor)

    @property
    def levels(self) -> list[Tally]:
        """One sentence per level."""
        return [
            Tally(
                level,
                "requirement",
                [row.outcome for row in self.run.requirements if row.level == level],
                sum(
                    row.level == level
                    and row.outcome is RequirementOutcome.PASS
                    and row.evidence is Evidence.SIMULATED
                    for row in self.run.requirements
                ),
            )
            for level in LEVELS
        ]

    def level(self, name: str) -> list[RequirementView]:
        """Return the rows of one level; those that have no check here come last."""
        rows = [row for row in self.requirements if row.requirement.level == name]
        return sorted(rows, key=lambda row: row.result.outcome is RequirementOutcome.UNKNOWN)

    @property
    def simulated(self) -> list[str]:
        """Titles of topics with simulated evidence."""
        return [
            topic.info.title
            for topic in self.topics
            if any(one.finding.evidence is Evidence.SIMULATED for one in topic.checks)
        ]

    @property
    def ended_early(self) -> str:
        """Why the run ended before its end; empty if it did not."""
        if self.info.interrupted:
            return self.info.interrupted
        return "" if self.info.finished else "an unknown cause (or it is still running)"

    @property
    def duration(self) -> str:
        """How long it took."""
        if self.info.finished is None:
            return "unknown"
        return words.seconds((self.info.finished - self.info.started).total_seconds())

    @property
    def profile_name(self) -> str:
        """The name of the profile; of a judged copy both that apply."""
        measured = str(self.info.profile.get("name", "unnamed"))
        if self.info.judged_with is None:
            return measured
        return f"{self.info.judged_with.get('name', 'unnamed')} (measured with {measured})"

    @property
    def settings(self) -> list[tuple[str, str, str, str]]:
        """The settings that applied: key, value, origin, date.

        In a judged copy only the thresholds are those of the other profile.
        """
        given = (self.info.judged_with or self.info.profile).get("settings", {})
        if not isinstance(given, dict):
            return []
        found: list[tuple[str, str, str, str]] = []
        for key, entry in cast("dict[str, Any]", given).items():
            if isinstance(entry, dict):
                one = cast("dict[str, Any]", entry)
                value, origin, date = (str(one.get(n, "—")) for n in ("value", "origin", "date"))
                found.append((key, value, origin, date))
        return found

    @property
    def not_run(self) -> list[tuple[str, str, str, list[str]]]:
        """What was planned not to run: (outcome, message, help, checks), equal causes together."""
        groups: dict[tuple[str, str, str], list[str]] = {}
        for one in self.info.plan:
            if not one.runs:
                word = words.outcome(one.outcome or Outcome.NOT_RUN)
                groups.setdefault((word, one.message or one.reason, one.help), []).append(one.check)
        return [(*key, checks) for key, checks in groups.items()]

    @property
    def unselected(self) -> list[str]:
        """Checks of the suite that were not selected."""
        return [one.id for one in self.info.checks if one.id not in self.info.selection]

    @cached_property
    def files(self) -> list[File]:
        """Every raw file of the run."""
        return self.run.files()

    @property
    def steps(self) -> list[Step]:
        """What to do next, the most urgent first."""
        return [
            *self._repair_steps(),
            *self._failed_steps(),
            *self._unmeasured_steps(),
            *self._inconclusive_steps(),
            *self._open_steps(),
            *self._attest_steps(),
        ]

    def _repair_steps(self) -> list[Step]:
        cleanup = self.info.cleanup
        steps: list[Step] = []
        if cleanup.verdict == "leaked":
            steps.append(
                Step(
                    "error",
                    f"Remove {words.count(len(cleanup.leaks), 'object')} that this run left in the "
                    "cluster",
                    command=self._command("kar cleanup"),
                    rows=[("cleanup", "what was left")],
                )
            )
        if self.ended_early:
            steps.append(
                Step(
                    "not_run",
                    "Run it again until it finishes",
                    advice=f"It was ended early by {self.ended_early}; what had been measured is "
                    "shown.",
                )
            )
        return steps

    def _failed_steps(self) -> list[Step]:
        """What is broken, why it probably is, and what to do; what is broken alike is one step."""
        return [
            Step(
                Outcome.FAIL,
                broken[:1].upper() + broken[1:],
                causes,
                _sentence(remedy),
                rows=_links(checks),
            )
            for (broken, causes, remedy), checks in self._alike(Outcome.FAIL, _failure).items()
        ]

    def _unmeasured_steps(self) -> list[Step]:
        """What kept the suite from measuring; one missing right may stop ten checks."""
        return [
            Step(
                Outcome.ERROR,
                f"The suite could not measure: {checks[0].finding.summary.rstrip('.')}",
                advice=advice,
                rows=_links(checks),
            )
            for advice, checks in self._alike(Outcome.ERROR, _advice).items()
        ]

    def _inconclusive_steps(self) -> list[Step]:
        return [
            Step(
                Outcome.INCONCLUSIVE,
                "Resolve inconclusive checks",
                advice=advice,
                rows=_links(checks),
            )
            for advice, checks in self._alike(Outcome.INCONCLUSIVE, _advice).items()
        ]

    def _alike(self, outcome: Outcome, key: Callable[[Finding], K]) -> dict[K, list[CheckView]]:
        """Group the checks with an outcome by what their findings have in common."""
        groups: dict[K, list[CheckView]] = {}
        for check in (one for topic in self.topics for one in topic.checks):
            if check.finding.outcome is outcome:
                groups.setdefault(key(check.finding), []).append(check)
        return groups

    def _open_steps(self) -> list[Step]:
        rows = [one for one in self.requirements if one.result.outcome == "not_run"]
        if not rows:
            return []
        names = [(one.anchor, one.requirement.title) for one in rows]
        told = "Run the checks that did not run"
        return [Step("not_run", told, command=self._command("kar run"), rows=names)]

    def _attest_steps(self) -> list[Step]:
        rows = [
            one for one in self.requirements if one.result.outcome == "unknown" and not one.attested
        ]
        if not rows:
            return []
        levels = Counter[str](one.requirement.level for one in rows)
        told = ", ".join(f"{levels[level]} {level}" for level in LEVELS if levels[level])
        return [
            Step(
                "unknown",
                f"Gather manual evidence for {words.count(len(rows), 'requirement')} ({told})",
                advice="This suite has no check for these; each row states what would show it.",
                rows=[(one.anchor, one.requirement.title) for one in rows],
            )
        ]

    def _asked(self, topic: str) -> str:
        """Return the words that ask for a topic which is not selected by itself."""
        key = next((one.asked_by for one in self.info.topics if one.id == topic), "")
        value = next((value for name, value, _, _ in self.settings if key and name == key), "")
        return f" --set {shlex.quote(f'{key}={value}')}" if value else ""

    def _command(self, start: str) -> str:
        if self.info.environment.local_cluster:
            return f"{start} --local-cluster"
        context = self.info.environment.context
        return f"{start} --context {shlex.quote(context)}" if context else start

    def _topic(self, topic: TopicInfo) -> TopicView:
        infos = [one for one in self.info.checks if one.topic == topic.id]
        ids = {one.id for one in infos}
        found = [one for one in self.run.findings if one.check in ids]
        trials = self._trials(topic, found)
        figures = [
            (anchor_of("figure", topic.id, trial.name, str(number)), trial.name, figure)
            for trial in trials
            for number, figure in enumerate(trial.seen.figures, 1)
        ]
        drawn: set[str] = set()
        variants: list[VariantView] = []
        for name in sorted({one.variant for one in found}) or [""]:
            checks = [
                self._check(one, finding, trials, figures, drawn)
                for one in infos
                for finding in self._findings(one, name, found)
            ]
            if checks:
                outcome = combine([one.finding.outcome for one in checks])
                variants.append(VariantView(name, outcome, checks))
        findings = [one.finding for variant in variants for one in variant.checks]
        outcome = (
            combine_variants(findings)
            if topic.any_of
            else combine([one.outcome for one in findings])
        )
        return TopicView(
            topic,
            anchor_of("topic", topic.id),
            outcome,
            _weakest(findings, outcome),
            variants,
            trials,
        )

    def _findings(self, info: CheckInfo, variant: str, found: Iterable[Finding]) -> list[Finding]:
        mine = [one for one in found if one.check == info.id]
        same = [one for one in mine if one.variant == variant]
        if same or (variant and any(one.variant == "" for one in mine)):
            return same
        if not variant and mine:
            return []
        plan = next((one for one in self.info.plan if one.check == info.id and not one.runs), None)
        summary = "It did not run."
        if info.id not in self.info.selection:
            ask = next((one.ask for one in self.info.topics if one.id == info.topic), "")
            summary = f"It was not selected: {ask}." if ask else "It was not selected."
        return [
            Finding(
                check=info.id,
                variant=variant,
                outcome=(plan.outcome if plan else None) or Outcome.NOT_RUN,
                reason=(plan.reason if plan else "") or "not_run",
                summary=(plan.message if plan else "") or summary,
                help=plan.help if plan else "",
            )
        ]

    def _check(
        self,
        info: CheckInfo,
        finding: Finding,
        trials: list[TrialView],
        figures: list[tuple[str, str, Figure]],
        drawn: set[str],
    ) -> CheckView:
        trial = next((one for one in trials if one.name == finding.trial), None)
        mine = [
            (anchor, figure)
            for anchor, name, figure in figures
            if name == finding.trial
            and info.id in figure.checks
            and figure.variant in ("", finding.variant)
        ]
        first = [one for one in mine if one[0] not in drawn]
        drawn.update(anchor for anchor, _ in first)
        return CheckView(
            info=info,
            finding=finding,
            anchor=anchor_of("check", info.id, finding.variant),
            repeat=self._command(f"kar run {shlex.quote(info.id)}{self._asked(info.topic)}"),
            figures=first,
            elsewhere=[one for one in mine if one not in first],
            files=_files_of(finding, self.files) if finding.trial else [],
            trial=trial,
        )

    def _trials(self, topic: TopicInfo, found: Iterable[Finding]) -> list[TrialView]:
        names = dict.fromkeys(one.trial for one in found if one.trial)
        trials: list[TrialView] = []
        for name in names:
            seen = _observation(self.run.observation_text(name))
            if seen:
                trials.append(TrialView(name, anchor_of("trial", topic.id, name), seen))
        return trials


def _observation(text: str | None) -> Observation | None:
    """Read what every observation has; a topic's own fields are its judge's, and not shown."""
    if text is None:
        return None
    try:
        raw = json.loads(text)
        if not isinstance(raw, dict):
            return None
        fields = cast("dict[str, Any]", raw)
        return Observation.model_validate(
            {key: fields[key] for key in Observation.model_fields if key in fields}
        )
    except (ValueError, ValidationError):
        return None


def _files_of(finding: Finding, files: Iterable[File]) -> list[File]:
    """Return the files that a finding rests on; a folder of a trial's belongs to one variant."""
    trial = finding.trial
    own = f"evidence/{trial}/"
    starts = (f"observations/{trial}.", f"evidence/{trial}.", own)
    found = [one for one in files if one[0].startswith(starts)]
    wanted = ("", folder_name(finding.variant))
    return [
        one
        for one in found
        if not one[0].startswith(own) or one[0].removeprefix(own).rpartition("/")[0] in wanted
    ]


def _links(checks: Iterable[CheckView]) -> list[tuple[str, str]]:
    return [(one.anchor, one.info.title) for one in checks]


def _failure(finding: Finding) -> tuple[str, tuple[str, ...], str]:
    # Runs of earlier versions have the summary alone.
    broken = finding.broken or finding.summary
    return broken.rstrip("."), tuple(finding.causes), finding.help


def _advice(finding: Finding) -> str:
    if finding.outcome is Outcome.ERROR:  # its summary is the sentence before
        return _sentence(finding.help)
    return _sentence(finding.help or finding.would_change or finding.summary)


def _sentence(clause: str) -> str:
    """Return a clause with a capital letter and a full stop."""
    text = clause[:1].upper() + clause[1:]
    return text if not text or text.endswith((".", "!", "?", "…")) else f"{text}."


def _weakest(findings: Iterable[Finding], outcome: Outcome) -> Evidence | None:
    order = list(Evidence)
    levels = [one.evidence for one in findings if one.evidence and one.outcome is outcome]
    return max(levels, key=order.index) if levels else None


def anchor_of(*parts: str) -> str:
    """Return an id for the page; whatever a cluster may have put into it is spelled out."""
    text = "-".join(part for part in parts if part)
    plain = "".join(
        c if c.isascii() and (c.isalnum() or c in "-_.") else f"_{ord(c):x}" for c in text
    )
    if len(plain) <= 120:
        return plain
    return f"{plain[:100]}-{hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()[:12]}"
