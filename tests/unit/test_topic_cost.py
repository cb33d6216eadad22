from __future__ import annotations

import sys

import pytest

from benchmarks import topic_cost
from kar_checks.checks.registry import topics

CHECKOUT = {
    "kar_checks/checks/toy/checks.py": 'TOPIC = Topic(checks=(Check(\n    id="toy.works"),))\n',
    "kar_checks/checks/toy/trial.py": 'def run(trial: Trial):\n    trial.mount_probe("toy_probe")\n'
    '    trial.mount_probe("shared_probe")\n',
    "kar_checks/checks/toy/reasons.yaml": "works: {}\n",
    "kar_checks/checks/toy/test_toy.py": "@checks_of(TOPIC)\n",
    "kar_checks/checks/toys/trial.py": 'trial.mount_probe("shared_probe")\n',
    "kar_checks/profiles/settings/toy.yaml": "toy.seconds: 1\n" * 3,
    "manifests/toy/pod.yaml.j2": "kind: Pod\n" * 4,
    "probes/toy_probe.py": "print()\n" * 5,
    "probes/shared_probe.py": "print()\n",
    "tests/unit/toy/test_judge.py": "def test(): ...\n" * 6,
    "tests/unit/probes/test_toy_probe.py": "def test(): ...\n" * 7,
    "tests/cluster/injections/toy.yaml": "- {injection: broken, check: toy.works}\n",
    "tests/unit/test_other.py": "toy.works\n",
    "kar_checks/checks/registry.py": '"kar_checks.checks.toy.checks",\n',
    "kar_checks/words.py": "toy.words\n",
    "docs/toy.md": "# Toy\n",
    "docs/checks.md": "toy.works\n",
    "README.md": "`toy.works` works.\n",
}


def test_lines_and_files_are_counted_by_their_place() -> None:
    found = topic_cost.cost("toy", CHECKOUT)
    assert (found.python, found.yaml, found.probe, found.test) == (6, 8, 5, 14)
    assert found.product == 19
    assert len(found.new_files) == 11
    assert found.edited_files == ["README.md", "kar_checks/checks/registry.py"]


def test_concepts_are_those_that_the_topics_own_files_use() -> None:
    found = topic_cost.cost("toy", CHECKOUT)
    assert found.concepts == ["topic", "check", "trial", "probe", "sabotage", "test module"]


@pytest.mark.parametrize("topic", [one.id for one in topics()])
def test_every_topic_can_be_counted(topic: str, capsys: pytest.CaptureFixture[str]) -> None:
    sys_argv, sys.argv = sys.argv, ["topic_cost.py", topic]
    try:
        topic_cost.main()
    finally:
        sys.argv = sys_argv
    assert capsys.readouterr().out.startswith(f"{topic}: ")
    found = topic_cost.cost(topic, topic_cost.checkout())
    assert f"kar_checks/checks/{topic}/judge.py" in found.new_files
    assert "kar_checks/checks/registry.py" in found.edited_files
    assert found.test > 0
