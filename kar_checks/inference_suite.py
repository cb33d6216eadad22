"""What the conformance suite of the Gateway API Inference Extension said of a gateway. Pure.

The suite prints as ``go test -v`` does, and writes a report. Only what it prints tells every
test, and what was answered; a report names the tests that failed or were skipped, and counts the
others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, cast

import yaml

from kar_checks import plain_yaml

REQUIREMENT = "advanced_inference_ingress"
NAME = "conformance suite of the Gateway API Inference Extension"
DEFECT = "https://github.com/kubernetes-sigs/gateway-api-inference-extension/issues/3035"
"""The suite's own picker answers bodies of both directions in a form that Envoy refuses by 500."""
DEFECTIVE = "v1.6.0"
"""The version of suite and picker that has the defect."""
THROUGH_PICKER = frozenset(
    {
        "EppUnAvailableFailOpen",
        "GatewayDestinationEndpointServed",
        "GatewayFollowingEPPRouting",
        "GatewayFollowingEPPRoutingWithDataParallelism",
        "GatewayWeightedAcrossTwoInferencePools",
        "HTTPRouteMultipleGatewaysDifferentPools",
        "HTTPRouteMultipleRulesDifferentPools",
        "InferencePoolAppProtocol",
        "InferencePoolHTTPRoutePortValidation",
        "InferencePoolResolvedRefsCondition",
    }
)
"""The tests of that version that want answers to requests through a picker; four do not."""

_MODULE = "sigs.k8s.io/gateway-api-inference-extension/conformance"
_VERSION = re.compile(rf"^\s*\S+\s+{re.escape(_MODULE)}\s+(?P<version>v\d\S*)", re.MULTILINE)
_TEST = r"TestConformance/(?P<test>[^/\s]+)"
_AT = re.compile(rf"^=== \w+ +(?:{_TEST})?", re.MULTILINE)
_ENDED = re.compile(rf"^ *--- (?P<word>PASS|FAIL|SKIP): {_TEST} \(", re.MULTILINE)
_NOT_YET = re.compile(
    r"not ready yet: (?P<why>.*?)(?:\. CRes: .*)? \(after [^()]*\)$", re.MULTILINE
)
_STATUS = re.compile(r"status code to be one of \[200\], got (?P<status>\d{3})$")
_ASSERTED = re.compile(r"^\s+(?:Error|Messages):[ \t]+(?P<why>\S.*)$", re.MULTILINE)
_TIMEOUT = "timeout while waiting after"

SuiteOutcome = Literal["pass", "fail", "skip", "inconclusive"]
_WORDS: dict[str, SuiteOutcome] = {"PASS": "pass", "FAIL": "fail", "SKIP": "skip"}
_REPORTED: dict[str, SuiteOutcome] = {"failedTests": "fail", "skippedTests": "skip"}


@dataclass(frozen=True)
class SuiteTest:
    """A test of the suite: what it came to and, in words, why."""

    name: str
    outcome: SuiteOutcome
    note: str = ""
    defect: bool = False
    """Nothing but the known defect of the suite's own picker is known to have stopped it."""


@dataclass(frozen=True)
class SuiteResults:
    """The tests of one run of the suite, with the name and the version of the suite."""

    suite: str
    tests: list[SuiteTest]


def read(name: str, text: str) -> SuiteResults:
    """Return the results in what the suite printed (``*.log``), or in its report (``*.yaml``).

    Raises:
        ValueError: it is neither.
    """
    if name.lower().endswith((".yaml", ".yml")):
        return _report(text)
    results = printed(text)
    if not results.tests:
        raise ValueError(f"it has no result of the {NAME}")
    return results


def begun(text: str) -> list[str]:
    """Return the tests that a piece of what the suite prints says have begun, in their order."""
    return list(_by_test(text))


def printed(text: str) -> SuiteResults:
    """Return the results in what the suite printed; without a test if it did not come to any."""
    told = _VERSION.search(text)
    version = told["version"] if told else ""
    ended = {one["test"]: _WORDS[one["word"]] for one in _ENDED.finditer(text)}
    found: list[SuiteTest] = []
    for test, parts in _by_test(text).items():
        why = _reasons("".join(parts))
        outcome = ended.get(test)
        if outcome is None:
            found.append(SuiteTest(test, "inconclusive", "The output ends before its result."))
        elif outcome == "fail" and _can_be_defect(test, version) and _refused(parts):
            note = (
                "Requests were answered by 500 and by nothing else, as Envoy answers for the known "
                f"defect of the suite's own endpoint picker {version} ({DEFECT})."
            )
            found.append(SuiteTest(test, "inconclusive", note, defect=True))
        else:
            found.append(SuiteTest(test, outcome, why[-1] if why and outcome == "fail" else ""))
    return SuiteResults(f"{NAME} {version or 'of unknown version'}", found)


def last_words(text: str) -> str:
    """Return what a suite that came to no test said of it, in one line; empty if nothing."""
    lines = [one.strip() for one in text.splitlines() if one.strip()]
    return (_reasons(text) or lines or [""])[-1]


def _reasons(text: str) -> list[str]:
    """Return what is said to have been amiss: of answers, or else by failed assertions."""
    answers = [one["why"] for one in _NOT_YET.finditer(text)]
    return answers or [one["why"] for one in _ASSERTED.finditer(text)]


def _by_test(text: str) -> dict[str, list[str]]:
    """Return what was printed during each part of each test, in the order in which they began."""
    marks = list(_AT.finditer(text))
    parts = pairwise([*(one.start() for one in marks), len(text)])
    found: dict[str, list[str]] = {}
    for mark, (start, end) in zip(marks, parts, strict=True):
        if mark["test"]:
            found.setdefault(mark["test"], []).append(text[start:end])
    return found


def _can_be_defect(test: str, version: str) -> bool:
    return version == DEFECTIVE and test in THROUGH_PICKER


def _refused(parts: list[str]) -> bool:
    """Say whether only 500 stopped a test; 404 may come before the route does."""
    stopped = False
    for part in parts:
        why = [one["why"] for one in _NOT_YET.finditer(part)]
        seen = [told["status"] if (told := _STATUS.search(one)) else "" for one in why]
        while seen and seen[0] == "404":
            del seen[0]
        if set(seen) - {"500"} or (_TIMEOUT in part and not seen):
            return False
        stopped = stopped or bool(seen)
    return stopped


def _report(text: str) -> SuiteResults:
    try:
        content: Any = plain_yaml.parse(text)
    except yaml.YAMLError as error:
        raise ValueError("it is not YAML") from error
    if not isinstance(content, dict) or content.get("kind") != "ConformanceReport":
        raise ValueError("it is not a ConformanceReport")
    report = cast("dict[str, Any]", content)
    version = report.get("GatewayAPIInferenceExtensionVersion")
    if not version:
        raise ValueError("it does not name its version of the inference extension")
    try:
        tests = list(_reported(report))
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise ValueError("its profiles do not have the form of a report") from error
    if not tests:
        raise ValueError("it has no result")
    who = cast("dict[str, Any]", report.get("implementation") or {})
    of = " ".join(str(who[key]) for key in ("organization", "project", "version") if who.get(key))
    about = f", about {of}" if of else ""
    return SuiteResults(
        f"{NAME}, for its version {version}{about}, on {report.get('date', 'no date')}", tests
    )


def _reported(report: dict[str, Any]) -> Iterator[SuiteTest]:
    """Yield the tests that a report names, and the others as one.

    A report does not say what was answered, so that the defect can only be one of two reasons.
    """
    version = report["GatewayAPIInferenceExtensionVersion"]
    for profile in report["profiles"]:
        for part in ("core", "extended"):
            result = profile.get(part) or {}
            named = {
                str(test): outcome
                for key, outcome in _REPORTED.items()
                for test in result.get(key) or []
            }
            passed = int((result.get("statistics") or {}).get("Passed", 0))
            for test, outcome in named.items():
                if outcome == "fail" and _can_be_defect(test, version):
                    note = (
                        "It can be the known defect of the suite's own endpoint picker "
                        f"{version} ({DEFECT}); the suite's own output would show it."
                    )
                    yield SuiteTest(test, "inconclusive", note, defect=True)
                else:
                    yield SuiteTest(test, outcome)
            if passed:
                yield SuiteTest(f"{passed} tests that the report does not name", "pass")
