"""The validator's rules, off line: what would be refused, with line and column of each fault.

The programme's validator exists in two generations. ``strict`` is the older one: every MUST must
be ``Implemented``, and evidence paths are plain. ``hybrid`` (1.37 and later) lets
``cluster_autoscaling`` be ``N/A``, reads the artefacts of the official test suite, and takes
``file://`` and ``#TestName``.
What needs a network (whether a URL answers, whether the vendor is a member) is not checked here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

from kar_checks import programme
from kar_checks.submission.document import STATUSES, Checklist, Field, Item

Generation = Literal["strict", "hybrid"]

METADATA = (
    "kubernetesVersion",
    "platformName",
    "platformVersion",
    "vendorName",
    "websiteUrl",
    "documentationUrl",
    "productLogoUrl",
    "description",
    "contactEmailAddress",
    "k8sConformanceUrl",
)
_URLS = ("websiteUrl", "documentationUrl", "productLogoUrl", "repoUrl", "k8sConformanceUrl")
_BASE_CONFORMANCE = re.compile(
    r"https://github\.com/cncf/k8s-conformance/tree/(master|main)/v\d+\.\d+/[^/\s]+/?"
)
#: Names that the hybrid validator parses: only output of the official suite may bear them.
ARTEFACTS = ("junit.xml", "results.json", "e2e.log")
#: The tests of the official suite that stand for a requirement.
OFFICIAL_TESTS = {
    "secure_accelerator_access": "TestSecureAcceleratorAccess",
    "gang_scheduling": "TestGangScheduling",
    "cluster_autoscaling": "TestAcceleratorClusterAutoscaling",
}
_GO_RESULT = re.compile(r"^\s*--- (PASS|FAIL|SKIP): (\S+)")


@dataclass(frozen=True)
class Problem:
    """One fault of a submission, or something that its author should know."""

    line: int
    column: int
    message: str
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        place = f"line {self.line}, column {self.column}: " if self.line else ""
        return f"{self.severity}: {place}{self.message}"


def check(document: Checklist, folder: Path, generation: Generation | None = None) -> list[Problem]:
    """Return every fault, in the order of the file; ``folder`` is where its evidence lies.

    Without a generation it is the one that the checklist's version meets: hybrid from 1.37 on.
    """
    version, problems = _version(document, folder)
    if version is None:
        return problems
    rules = generation or ("hybrid" if _minor(version) >= 37 else "strict")
    problems += _metadata(document)
    problems += _items(document, version, rules)
    if rules == "hybrid":
        problems += _artefacts(folder)
    for item in document.items:
        problems += _evidence(item, folder, rules)
    return sorted(problems, key=lambda one: (one.line, one.column))


def _minor(version: str) -> int:
    return int(version.split(".")[1])


def _version(document: Checklist, folder: Path) -> tuple[str | None, list[Problem]]:
    field = document.metadata_field("kubernetesVersion")
    if field is None or not isinstance(field.value, str):
        return None, [Problem(1, 1, "metadata `kubernetesVersion` is missing, or is not text")]
    version = field.value.removeprefix("v")
    if version not in programme.versions():
        known = ", ".join(f"v{one}" for one in programme.versions())
        text = f"there is no checklist for Kubernetes {field.value}; there is one for {known}"
        return None, [_problem(field, text)]
    named = folder.resolve().parent.name
    if re.fullmatch(r"v\d+\.\d+", named) and named != f"v{version}":
        text = f"the file lies in {named}/, but `kubernetesVersion` says {field.value}"
        return version, [_problem(field, text)]
    return version, []


def _metadata(document: Checklist) -> Iterator[Problem]:
    for name in METADATA:
        field = document.metadata_field(name)
        if field is None:
            yield Problem(1, 1, f"metadata `{name}` is missing")
        elif not isinstance(field.value, str):
            kind = type(field.value).__name__
            yield _problem(field, f"metadata `{name}` must be text in quotes, not {kind}")
        elif field.empty:
            yield _problem(field, f"metadata `{name}` is empty")
        elif field.placeholder:
            yield _problem(field, f"metadata `{name}` still holds the template's {field.value}")
    for name in _URLS:
        url = _given(document, name)
        if url and not str(url.value).startswith(("https://", "http://")):
            yield _problem(url, f"metadata `{name}` is not a URL: {url.value}")
    base = _given(document, "k8sConformanceUrl")
    if base and not _BASE_CONFORMANCE.fullmatch(str(base.value)):
        yield _problem(
            base,
            "metadata `k8sConformanceUrl` must be the product's folder in the base programme: "
            "https://github.com/cncf/k8s-conformance/tree/master/vX.Y/NAME",
        )
    mail = _given(document, "contactEmailAddress")
    if mail and not re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", str(mail.value)):
        yield _problem(mail, f"metadata `contactEmailAddress` is no address: {mail.value}")


def _given(document: Checklist, name: str) -> Field | None:
    """Return a metadata field that somebody filled with text."""
    field = document.metadata_field(name)
    usable = field and isinstance(field.value, str) and not field.empty and not field.placeholder
    return field if usable else None


def _items(document: Checklist, version: str, rules: Generation) -> Iterator[Problem]:
    wanted = {one.id: one for one in programme.requirements(version)}
    seen: dict[str, Item] = {}
    for item in document.items:
        if item.id in seen:
            yield Problem(item.line, item.column, f"{item.id} stands twice")
        seen[item.id] = item
        if item.id not in wanted:
            text = f"{item.id} is not in the checklist of v{version}; the validator passes it over"
            yield Problem(item.line, item.column, text, "warning")
            continue
        requirement = wanted[item.id]
        if programme.digest(item.text("description")) != requirement.text:
            place = item.fields.get("description")
            text = f"the description of {item.id} is not the programme's"
            yield (
                _problem(place, text, "warning")
                if place
                else Problem(item.line, item.column, text, "warning")
            )
        if item.section != requirement.section:
            text = f"{item.id} stands in section {item.section}, not in {requirement.section}"
            yield Problem(item.line, item.column, text)
        if item.text("level") != requirement.level:
            field = item.fields.get("level")
            text = f"the level of {item.id} is {requirement.level} and must not be changed"
            yield _problem(field, text) if field else Problem(item.line, item.column, text)
        yield from _status(item, requirement.level, rules)
    for one in wanted.values():
        if one.id not in seen:
            yield Problem(1, 1, f"{one.id} ({one.level}, section {one.section}) is missing")


def _status(item: Item, level: str, rules: Generation) -> Iterator[Problem]:
    field = item.fields.get("status")
    if field is None:
        yield Problem(item.line, item.column, f"{item.id} has no field `status`")
        return
    evidence = item.fields.get("evidence")
    has_evidence = evidence is not None and not evidence.empty
    if field.empty:
        if level == "MUST":
            yield _problem(field, f"{item.id} is a MUST and has no status")
        elif has_evidence:
            yield _problem(field, f"{item.id} has evidence, but no status")
        return
    status = str(field.value)
    if status not in STATUSES:
        known = ", ".join(STATUSES)
        yield _problem(field, f"the status of {item.id} is {status!r}; it must be one of {known}")
        return
    if status == "N/A":
        if not item.text("notes").strip():
            yield _problem(field, f"{item.id} is N/A without a justification in `notes`")
        if level == "MUST" and not (rules == "hybrid" and item.id == "cluster_autoscaling"):
            yield _problem(field, f"{item.id} is a MUST: this validator takes no N/A for it")
        elif level == "MUST":
            text = f"{item.id} is N/A: the older validator takes only Implemented for a MUST"
            yield _problem(field, text, "warning")
    elif level == "MUST" and status != "Implemented":
        yield _problem(field, f"{item.id} is a MUST and must be Implemented, not {status}")
    if status == "Implemented" and not has_evidence:
        yield _problem(field, f"{item.id} is Implemented without evidence")


def _evidence(item: Item, folder: Path, rules: Generation) -> Iterator[Problem]:
    field = item.fields.get("evidence")
    if field is None or field.empty:
        return
    if not isinstance(field.value, list) or not all(isinstance(one, str) for one in field.value):
        yield _problem(field, f"the evidence of {item.id} must be a list of texts")
        return
    for entry in field.value:
        if not entry.startswith(("https://", "http://")):
            yield from _local(item, field, entry, folder, rules)


def _local(
    item: Item, field: Field, entry: str, folder: Path, rules: Generation
) -> Iterator[Problem]:
    path, _, fragment = entry.partition("#")
    if rules == "strict" and (fragment or path.startswith("file://")):
        text = f"evidence of {item.id}: {entry} is read as a plain path by this validator"
        yield _problem(field, text)
        return
    path = path.removeprefix("file://")
    home = folder.resolve()
    own = f"{home.parent.name}/{home.name}/"
    path = path.removeprefix(own) if rules == "hybrid" else path
    target = (home / path).resolve()
    if not target.is_relative_to(home):
        yield _problem(field, f"evidence of {item.id}: {entry} leaves the submission's folder")
    elif not target.is_file():
        yield _problem(field, f"evidence of {item.id}: there is no file {path}")
    elif rules == "hybrid" and target.name.lower() in ARTEFACTS:
        yield from _official(item, field, target, fragment)


def _official(item: Item, field: Field, target: Path, fragment: str) -> Iterator[Problem]:
    wanted = fragment or OFFICIAL_TESTS.get(item.id, "")
    if not wanted:
        return
    try:
        results = read_artefact(target)
    except ValueError:
        # Told once, with the file.
        return
    status = item.text("status")
    outcome = result_of(results, wanted)
    if outcome is None:
        yield _problem(field, f"evidence of {item.id}: {target.name} has no test {wanted}")
    elif outcome == "skip" and status == "Implemented":
        text = f"evidence of {item.id}: {wanted} was skipped, so it cannot be Implemented by it"
        yield _problem(field, text)
    elif outcome == "fail":
        yield _problem(field, f"evidence of {item.id}: {wanted} failed")


def _artefacts(folder: Path) -> Iterator[Problem]:
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.name.lower() not in ARTEFACTS:
            continue
        name = path.relative_to(folder)
        try:
            results = read_artefact(path)
        except ValueError as error:
            yield Problem(0, 0, f"{name}: {error}")
            continue
        failed = sorted(test for test, outcome in results.items() if outcome == "fail")
        if failed:
            yield Problem(0, 0, f"{name}: {failed[0]} failed, which refuses the whole submission")


def read_artefact(path: Path) -> dict[str, str]:
    """Return ``pass``, ``fail`` or ``skip`` of every test in output of the official suite.

    Raises:
        ValueError: the file does not have the form that its name promises.
    """
    text = path.read_text("utf-8", errors="replace")
    match path.name.lower():
        case "junit.xml":
            return _junit(text)
        case "results.json":
            return _go_events(text)
        case _:
            found = (_GO_RESULT.match(line) for line in text.splitlines())
            return {one[2]: one[1].lower() for one in found if one}


def result_of(results: dict[str, str], test: str) -> str | None:
    """Return a test's result; without one of its own, what its subtests come to."""
    if test in results:
        return results[test]
    below = {outcome for name, outcome in results.items() if name.startswith(f"{test}/")}
    if not below:
        return None
    if "fail" in below:
        return "fail"
    return "skip" if below == {"skip"} else "pass"


def _junit(text: str) -> dict[str, str]:
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError("a JUnit file with a document type is not read")
    try:
        root = ElementTree.fromstring(text)  # noqa: S314 - entities are refused above
    except ElementTree.ParseError as error:
        raise ValueError(f"not XML: {error}") from error
    out: dict[str, str] = {}
    for case in root.iter("testcase"):
        bad = case.find("failure") is not None or case.find("error") is not None
        skipped = case.find("skipped") is not None
        out[case.get("name", "")] = "fail" if bad else "skip" if skipped else "pass"
    return out


def _go_events(text: str) -> dict[str, str]:
    out: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            event: Any = json.loads(line)
        except ValueError as error:
            raise ValueError(f"line {number} is not a Go test event") from error
        if not isinstance(event, dict):
            raise ValueError(f"line {number} is not a Go test event")
        if event.get("Action") in ("pass", "fail", "skip") and event.get("Test"):
            out[str(event["Test"])] = str(event["Action"])
    return out


def _problem(
    field: Field, message: str, severity: Literal["error", "warning"] = "error"
) -> Problem:
    return Problem(field.line, field.column, message, severity)
