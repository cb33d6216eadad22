from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any

import pytest

from kar_checks import paths, programme
from kar_checks.checks import registry
from kar_checks.checks.registry import all_checks, find, topics
from kar_checks.cluster.target import IMAGES, Target
from kar_checks.kit.topic import Check, Topic, load
from kar_checks.model import Observation

GOOD: dict[str, Any] = {
    "id": "toy.works",
    "title": "It works",
    "proves": "p",
    "fails_when": "f",
    "budget_seconds": 1,
}


@pytest.mark.parametrize("name", ["title", "proves", "fails_when"])
@pytest.mark.parametrize("text", ["", "  "])
def test_a_check_without_documentation_cannot_be_made(name: str, text: str) -> None:
    assert Check(**GOOD)
    with pytest.raises(ValueError, match=f"check toy.works has no {name}"):
        Check(**{**GOOD, name: text})


@pytest.mark.parametrize(
    "name", ["toy", "Toy.works", "toy.", ".works", "toy works", "toy.Works", ""]
)
def test_an_id_is_dotted_lower_case(name: str) -> None:
    with pytest.raises(ValueError, match="not dotted lower case"):
        Check(**{**GOOD, "id": name})


def test_two_checks_cannot_share_an_id(monkeypatch: pytest.MonkeyPatch) -> None:
    modules = registry.TOPIC_MODULES
    monkeypatch.setattr(registry, "TOPIC_MODULES", (*modules, modules[0]))
    topics.cache_clear()
    try:
        with pytest.raises(ValueError, match="check ids are used twice: resize"):
            topics()
    finally:
        topics.cache_clear()


def test_ids_begin_with_their_topic_and_are_found_again() -> None:
    for topic, check in all_checks():
        assert check.id.startswith(f"{topic.id}.")
        assert find(check.id) == (topic, check)
    with pytest.raises(KeyError):
        find("toy.works")


@pytest.mark.parametrize("topic", topics(), ids=lambda one: str(one.id))
def test_a_topic_is_complete(topic: Topic) -> None:
    assert topic.official_link.startswith("https://")
    assert topic.requirement in ("", *programme.all_ids())
    assert callable(load(topic.trial))
    assert callable(load(topic.judge))
    assert callable(load(topic.manifests))
    assert issubclass(load(topic.observation), Observation)
    for check in topic.checks:
        assert set(check.needs.images) <= set(IMAGES)
        assert check.budget_seconds > 0
        info = topic.check_info(check)
        assert (info.topic, info.requirement) == (topic.id, topic.requirement)


@pytest.mark.parametrize("topic", topics(), ids=lambda one: str(one.id))
def test_the_test_module_of_a_topic_is_one_test_for_each_check(topic: Topic) -> None:
    module = importlib.import_module(topic.tests)
    (test,) = [value for name, value in vars(module).items() if name.startswith("test_")]
    (mark,) = test.pytestmark
    expected = [check.id for check in topic.checks]
    assert [one.id for one in mark.args[1]] == [one.values[0] for one in mark.args[1]] == expected
    assert [one.args for param in mark.args[1] for one in param.marks] == [(e,) for e in expected]


MAKERS = [one for one in topics() if one.id != "official"]  # whose objects are the suite's own


@pytest.mark.parametrize("topic", MAKERS, ids=lambda one: str(one.id))
def test_manifests_are_given_without_a_cluster(topic: Topic) -> None:
    manifests = load(topic.manifests)(Target())
    assert manifests
    for kind, body in manifests:
        assert body["kind"] == kind.kind
        assert body["apiVersion"] == kind.api_version
        assert body["metadata"]["name"]


def test_what_a_run_stores_of_a_topic_is_what_it_is() -> None:
    topic = replace(topics()[0], any_of=True, requirement="gang_scheduling")
    info = topic.info()
    assert (info.id, info.any_of, info.requirement) == (topic.id, True, "gang_scheduling")


def test_what_is_not_code_is_found() -> None:
    for room in ("probes", "manifests", "reports"):
        assert paths.data(room).is_dir()
    with pytest.raises(FileNotFoundError, match=r"probes/none\.py is neither"):
        paths.data("probes", "none.py")
