"""The validator's rules, offline: what would be refused, with line and column of each problem.

The programme's validator exists in two generations. ``strict`` is the older one: every MUST must
be ``Implemented``, and evidence paths are plain. ``hybrid`` lets ``cluster_autoscaling`` be
``N/A``, reads the artefacts of the official test suite, and takes ``file://`` and ``#TestName``;
its maintainers apply it to submissions of every version. What neither refuses is a warning here.
docs/submission.md lists the rules. Whether the vendor is a member is not checked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

from kar_checks import programme
from kar_checks.store import parse_json
from kar_checks.submission.document import STATUSES, Checklist, Field, Item, plain

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
_GO_PACKAGE = re.compile(r"^FAIL\s+(\S+)")
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

    Without a generation it is ``hybrid``, the newer one.
    """
    version, problems = _version(document, folder)
    if version is None:
        return problems
    rules: Generation = generation or "hybrid"
    problems += _metadata(document)
    problems += _items(document, version, rules)
    if rules == "hybrid":
        problems += _artefacts(folder)
    for item in document.items:
        problems += _evidence(item, folder, rules)
    return sorted(problems, key=lambda one: (one.line, one.column))


def _version(document: Checklist, folder: Path) -> tuple[str | None, list[Problem]]:
    field = document.metadata_field("kubernetesVersion")
    if field is None or not isinstance(field.value, str):
        return None, [Problem(1, 1, "metadata `kubernetesVersion` is missing, or is not text")]
    named = folder.resolve().parent.name
    in_path = re.fullmatch(r"v(\d+\.\d+)", named)
    version = in_path[1] if in_path else minor_of(field.value)
    if version not in programme.versions():
        known = ", ".join(f"v{one}" for one in programme.versions())
        text = f"there is no checklist for Kubernetes {version}; there is one for {known}"
        return None, [_problem(field, text)]
    if minor_of(field.value) != version:
        text = f"the file is in {named}/, but `kubernetesVersion` is {field.value}"
        return version, [_problem(field, text, "warning")]
    if field.value.removeprefix("v") != version:
        text = f"`kubernetesVersion` names a patch release; the checklist is that of v{version}"
        return version, [_problem(field, text, "warning")]
    return version, []


def minor_of(version: str) -> str:
    """Return ``1.35`` of ``v1.35.3``; what is no version is returned as it is."""
    found = re.fullmatch(r"v?(\d+\.\d+)(\.\d+)?", version.strip())
    return found[1] if found else version


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
    for key, field in document.metadata.items():
        if field.placeholder and plain(key) not in {plain(one) for one in METADATA}:
            yield _problem(field, f"metadata `{key}` still holds the template's {field.value}")
    for name in _URLS:
        url = _given(document, name)
        if url and not str(url.value).startswith(("https://", "http://")):
            yield _problem(url, f"metadata `{name}` is not a URL: {url.value}", "warning")
    base = _given(document, "k8sConformanceUrl")
    if base and not _BASE_CONFORMANCE.fullmatch(str(base.value)):
        yield _problem(
            base,
            "metadata `k8sConformanceUrl` must be the product's folder in the base programme: "
            "https://github.com/cncf/k8s-conformance/tree/master/vX.Y/NAME",
        )
    mail = _given(document, "contactEmailAddress")
    if mail and not re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", str(mail.value)):
        text = f"metadata `contactEmailAddress` is not an address: {mail.value}"
        yield _problem(mail, text, "warning")


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
            yield Problem(item.line, item.column, f"{item.id} appears twice")
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
            text = f"{item.id} is in section {item.section}, not in {requirement.section}"
            yield Problem(item.line, item.column, text)
        if item.text("level") != requirement.level:
            field = item.fields.get("level")
            text = f"the level of {item.id} is {requirement.level}, not what the file states"
            line, column = (field.line, field.column) if field else (item.line, item.column)
            yield Problem(line, column, text, "warning")
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
        yield _problem(field, f"{item.id} is Implemented without evidence", "warning")


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
        if not results:
            yield Problem(0, 0, f"{name}: it has no result of a Go test; another suite wrote it")
            continue
        failed = sorted(test for test, outcome in results.items() if outcome == "fail")
        if failed:
            yield Problem(0, 0, f"{name}: {failed[0]} failed, which refuses the whole submission")


def read_artefact(path: Path) -> dict[str, str]:
    """Return ``pass``, ``fail`` or ``skip`` of every test in output of the official suite.

    A test that failed once has failed, whatever a second try of the same name says. A package that
    failed as a whole (it did not compile, it panicked, it ran out of time) stands under its name.

    Raises:
        ValueError: the file does not have the form that its name promises.
    """
    content = path.read_bytes()
    match path.name.lower():
        case "junit.xml":
            return _junit(content)
        case "results.json":
            return _go_events(_text(content))
        case _:
            return _go_log(_text(content))


def _text(content: bytes) -> str:
    """Return a log's text; what is not UTF-8 was written by a terminal of ISO-8859-1."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("iso-8859-1")


class _Results(dict[str, str]):
    """Outcomes by test; a failure stays."""

    def note(self, test: str, outcome: str) -> None:
        if self.get(test) != "fail":
            self[test] = outcome


def _go_log(text: str) -> dict[str, str]:
    out = _Results()
    for line in text.splitlines():
        if found := _GO_RESULT.match(line):
            out.note(found[2], found[1].lower())
        elif found := _GO_PACKAGE.match(line):
            out.note(found[1], "fail")
        elif line.startswith("panic: "):
            out.note("a package that panicked", "fail")
    return out


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


def _junit(content: bytes) -> dict[str, str]:
    # UTF-16 would hide the words that are looked for; no Go tool writes it.
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content or b"\0" in content:
        raise ValueError("a JUnit file with a document type is not read")
    try:
        # The bytes, so that the encoding that the file declares is used.
        root = ElementTree.fromstring(content)  # noqa: S314 - entities are refused above
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise ValueError(f"not XML: {error}") from error
    out = _Results()
    for case in root.iter("testcase"):
        bad = case.find("failure") is not None or case.find("error") is not None
        skipped = case.find("skipped") is not None
        out.note(case.get("name", ""), "fail" if bad else "skip" if skipped else "pass")
    for suite in root.iter("testsuite"):
        cases = list(suite.iter("testcase"))
        named = any(out[case.get("name", "")] == "fail" for case in cases)
        told = [suite.get(name, "0").strip() for name in ("failures", "errors")]
        if not named and (
            suite.find("error") is not None or any(one not in ("", "0") for one in told)
        ):
            out.note(suite.get("name") or "a test suite", "fail")
    return out


def _go_events(text: str) -> dict[str, str]:
    out = _Results()
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            event: Any = parse_json(line)
        except ValueError as error:
            raise ValueError(f"line {number} is not a Go test event") from error
        if not isinstance(event, dict):
            raise ValueError(f"line {number} is not a Go test event")
        action, package = event.get("Action"), str(event.get("Package") or event.get("ImportPath"))
        if action in ("pass", "fail", "skip") and event.get("Test"):
            out.note(str(event["Test"]), str(action))
        elif action in ("fail", "build-fail"):
            out.note(package, "fail")
    return out


def _problem(
    field: Field, message: str, severity: Literal["error", "warning"] = "error"
) -> Problem:
    return Problem(field.line, field.column, message, severity)
