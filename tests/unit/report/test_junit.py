from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from kar_checks.report import junit
from tests.unit.report import samples


def parse(name: str, parent: Path) -> ElementTree.Element:
    return ElementTree.fromstring(junit.render(getattr(samples, name)().write(parent)))  # noqa: S314


def test_names_are_the_same_in_every_run(tmp_path: Path) -> None:
    root = parse("passed", tmp_path)
    names = [(one.get("classname"), one.get("name")) for one in root.iter("testcase")]
    assert ("gang", "gang.all_or_nothing[native]") in names
    assert ("resize", "resize.cpu_up") in names
    assert len(names) == len(set(names)) == 18
    assert not any("20261122" in str(name) for pair in names for name in pair)


def test_outcomes_become_what_ci_knows(tmp_path: Path) -> None:
    root = parse("troubled", tmp_path)
    kinds = {
        one.get("name"): [child.tag for child in one if child.tag != "system-out"]
        for one in root.iter("testcase")
    }
    assert kinds["resize.cpu_down"] == ["failure"]
    assert kinds["gang.all_or_nothing[native]"] == ["error"]
    assert kinds["resize.deferred"] == ["skipped"]
    assert kinds["gang.no_deadlock[native]"] == ["skipped"]
    assert kinds["resize.cpu_up"] == []
    skipped = root.find(".//testcase[@name='resize.deferred']/skipped")
    assert skipped is not None
    assert str(skipped.get("message")).startswith("inconclusive: node_added: A node was added")


@pytest.mark.parametrize("name", ["passed", "troubled", "hostile"])
def test_the_numbers_of_a_suite_are_those_of_its_cases(name: str, tmp_path: Path) -> None:
    for suite in parse(name, tmp_path).iter("testsuite"):
        cases = list(suite.iter("testcase"))
        assert int(str(suite.get("tests"))) == len(cases)
        for attribute, tag in (
            ("failures", "failure"),
            ("errors", "error"),
            ("skipped", "skipped"),
        ):
            assert int(str(suite.get(attribute))) == sum(one.find(tag) is not None for one in cases)


def test_the_requirement_is_a_property_of_the_suite(tmp_path: Path) -> None:
    root = parse("passed", tmp_path)
    suite = root.find("testsuite[@name='gang']")
    assert suite is not None
    given = {one.get("name"): one.get("value") for one in suite.iter("property")}
    assert given["kar.kar"] == "53"
    assert given["kar.level"] == "MUST"
    told = suite.findtext("testcase[@name='gang.control[native]']/system-out")
    assert told == "outcome: pass\nreason: as_expected\nevidence: synthetic"


@pytest.mark.parametrize("name", ["passed", "troubled", "hostile"])
def test_a_schema_of_1_0_accepts_where_things_are(name: str, tmp_path: Path) -> None:
    """Such as that of Jenkins' xUnit plugin: properties first in a suite, none in a case."""
    for suite in parse(name, tmp_path).iter("testsuite"):
        assert next(child.tag for child in suite) == "properties"
        assert {child.tag for child in suite} == {"properties", "testcase"}
        for case in suite.iter("testcase"):
            tags = [child.tag for child in case]
            assert tags in (["system-out"], *([one, "system-out"] for one in _RESULTS))


_RESULTS = ("skipped", "error", "failure")


def test_the_times_of_the_cases_come_to_that_of_their_suite(tmp_path: Path) -> None:
    for suite in parse("passed", tmp_path).iter("testsuite"):
        times = [float(str(case.get("time"))) for case in suite.iter("testcase")]
        assert min(times) > 0
        assert sum(times) == pytest.approx(float(str(suite.get("time"))), abs=0.02)
