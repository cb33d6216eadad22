"""JUnit XML with names that stay the same from run to run, so that CI can compare them."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from kar_checks.model import Finding, Outcome
from kar_checks.report.view import CheckView, Scorecard, TopicView
from kar_checks.store import StoredRun, write_atomically
from kar_checks.words import safe


def render(run: StoredRun) -> str:
    """Return the XML: a suite per topic, a case per check and variant."""
    card = Scorecard(run)
    root = ElementTree.Element("testsuites", {"name": "kar-checks"})
    levels = {row.requirement.id: row.requirement for row in card.requirements}
    for topic in card.topics:
        if not topic.checks:
            continue
        spent = sum(cost.seconds for cost in run.info.costs if cost.topic == topic.info.id)
        suite = ElementTree.SubElement(root, "testsuite", _numbers(topic, spent))
        requirement = levels.get(topic.info.requirement)
        # Properties belong to a suite: some readers refuse a file that has them in a case.
        _properties(
            suite,
            {
                "topic": topic.info.label,
                "requirement": topic.info.requirement,
                "kar": str(requirement.kar) if requirement and requirement.kar is not None else "",
                "level": requirement.level if requirement else "",
            },
        )
        # A trial measures all cases of a topic at once; each gets an equal part of its time.
        share = f"{spent / len(topic.checks):.3f}"
        for check in topic.checks:
            case = ElementTree.SubElement(
                suite, "testcase", {"classname": topic.info.id, "name": _name(check), "time": share}
            )
            _outcome(case, check.finding)
            told = [f"outcome: {check.finding.outcome}", f"reason: {check.finding.reason}"]
            if check.finding.evidence:
                told.append(f"evidence: {check.finding.evidence}")
            ElementTree.SubElement(case, "system-out").text = safe("\n".join(told))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def write(run: StoredRun, path: Path) -> None:
    """Render into ``path``."""
    write_atomically(path, render(run))


def _name(check: CheckView) -> str:
    variant = check.finding.variant
    return safe(f"{check.info.id}[{variant}]" if variant else check.info.id, 200)


def _properties(suite: ElementTree.Element, given: dict[str, str]) -> None:
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in given.items():
        if value:
            ElementTree.SubElement(
                properties, "property", {"name": f"kar.{name}", "value": safe(value)}
            )


def _numbers(topic: TopicView, spent: float) -> dict[str, str]:
    outcomes = [check.finding.outcome for check in topic.checks]
    failed, broken = outcomes.count(Outcome.FAIL), outcomes.count(Outcome.ERROR)
    passed = outcomes.count(Outcome.PASS)
    return {
        "name": topic.info.id,
        "tests": str(len(outcomes)),
        "failures": str(failed),
        "errors": str(broken),
        "skipped": str(len(outcomes) - failed - broken - passed),
        "time": f"{spent:.3f}",
    }


def _outcome(case: ElementTree.Element, finding: Finding) -> None:
    if finding.outcome is Outcome.PASS:
        return
    tag = {Outcome.FAIL: "failure", Outcome.ERROR: "error"}.get(finding.outcome, "skipped")
    message = f"{finding.reason}: {finding.summary}"
    if tag == "skipped":
        message = f"{finding.outcome}: {message}"
    element = ElementTree.SubElement(
        case, tag, {"message": safe(message), "type": safe(finding.reason, 100)}
    )
    told = [
        f"{fact.name}: {fact.value}" + (f" (expected {fact.expected})" if fact.expected else "")
        for fact in finding.facts[:40]
    ]
    if finding.help:
        told.append(f"What helps: {finding.help}")
    element.text = "\n".join(safe(one) for one in told) or None
