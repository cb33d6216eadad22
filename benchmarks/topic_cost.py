"""Counts what a topic costs: its lines, its files and what its author must know; see README.md.

Lines are physical lines, as `wc -l` counts them. A file belongs to a topic by its place, a probe if
no other package names it. Files that had to be edited for the topic are those that name it.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_DATA = "kar_checks/checks/{}/checks.py"
GENERATED = ("docs/checks.md", "docs/known-traps.md", "kar_checks/schema.json")

CONCEPTS = {
    "topic": r"\bTopic\(",
    "check": r"\bCheck\(",
    "needs": r"\bNeeds\(",
    "right": r"\bRight\(",
    "entry point": r'"kar_checks\.[\w.]+:\w+"',
    "option of a topic": r"\bOption\(",
    "trial": r"\bTrial\b",
    "workspace": r"\bworkspace\.",
    "target": r"\bTarget\b|\.dress\(",
    "manifest template": r"\brender\(|\.yaml\.j2",
    "probe": r"mount_probe\(|\bProbePod\b",
    "facts": r"\btrial\.facts\b|\bFacts\b",
    "profile and setting": r"\bprofile\.(number|text|chooses)\(",
    "record": r"\(Record\)",
    "observation": r"\(Observation\)",
    "fault": r"\bFault\b|\bHarnessError\b",
    "wait": r"\bwait(_\w+)?\(|\breached\(|\bpoll\(",
    "exec": r"\bexec(_\w+)?\(",
    "side by side": r"\bside_by_side\(",
    "evidence kept": r"\.(keep|evidence)\(",
    "window that is watched": r"\bWatched\b",
    "judge": r"\bJudge\b|\bdef judge\(",
    "rule": r"\bRule\(",
    "reasons as data": r"\bReasons\(",
    "finding and ruling": r"\bFinding\(|\bRuling\b",
    "fact of a finding": r"\bFact\(|\bfact\(",
    "variant": r"\bvariants?=",
    "measures of a series": r"\bMeasure(s|d)?\(|\bSeries\(",
    "figure": r"\bFigure\b",
    "sabotage": r"@contextmanager|injection:",
    "test module": r"@checks_of\(",
}
"""What an author must have read about, and how it is recognised in a topic's own files."""


@dataclass(frozen=True)
class Cost:
    """What one topic costs."""

    topic: str
    python: int
    yaml: int
    """Words, settings and manifests."""
    probe: int
    test: int
    new_files: list[str] = field(default_factory=list)
    edited_files: list[str] = field(default_factory=list)
    concepts: list[str] = field(default_factory=list)

    @property
    def product(self) -> int:
        """Lines of the product: Python, YAML and probe."""
        return self.python + self.yaml + self.probe


def cost(topic: str, tracked: dict[str, str]) -> Cost:
    """Count a topic in a checkout, given as paths and texts."""
    product = {path: text for path, text in tracked.items() if _is_product(topic, path)}
    probes = _probes(topic, tracked)
    tests = [path for path in tracked if _is_test(topic, path, probes)]
    docs = [path for path in tracked if path == f"docs/{topic}.md"]
    own = sorted([*product, *probes, *tests, *docs])
    ids = re.findall(rf'"({topic}\.[a-z0-9_.]+)"', tracked.get(_DATA.format(topic), ""))
    named = re.compile("|".join([rf"kar_checks[./]checks[./]{topic}\b", *map(re.escape, ids)]))
    edited = [
        path
        for path, text in tracked.items()
        if path not in own and path not in GENERATED and _is_shared(path) and named.search(text)
    ]
    written = "\n".join(tracked[path] for path in own if not path.startswith("docs/"))
    return Cost(
        topic=topic,
        python=sum(_lines(text) for path, text in product.items() if path.endswith(".py")),
        yaml=sum(_lines(text) for path, text in product.items() if not path.endswith(".py")),
        probe=sum(_lines(tracked[path]) for path in probes),
        test=sum(_lines(tracked[path]) for path in tests),
        new_files=own,
        edited_files=sorted(edited),
        concepts=[name for name, sign in CONCEPTS.items() if re.search(sign, written)],
    )


def _lines(text: str) -> int:
    return text.count("\n")


def _is_product(topic: str, path: str) -> bool:
    """Say whether a file is the topic's own; its test module is part of the product."""
    places = (f"kar_checks/checks/{topic}/", f"manifests/{topic}/")
    return path.startswith(places) or path == f"kar_checks/profiles/settings/{topic}.yaml"


def _is_test(topic: str, path: str, probes: list[str]) -> bool:
    injections = (f"tests/cluster/injections/{topic}.py", f"tests/cluster/injections/{topic}.yaml")
    of_probes = tuple(f"tests/unit/probes/test_{Path(probe).stem}.py" for probe in probes)
    return path.startswith(f"tests/unit/{topic}/") or path in (*injections, *of_probes)


def _is_shared(path: str) -> bool:
    """Say whether a file is the house's: another topic's or a test's mention is no edit."""
    return not path.startswith(("tests/", "kar_checks/checks/")) or path in (
        "kar_checks/checks/registry.py",
        "tests/cluster/injections/__init__.py",
    )


def _probes(topic: str, tracked: dict[str, str]) -> list[str]:
    """Return the probes that this topic names and no other package under ``kar_checks`` does."""
    out: list[str] = []
    for path in tracked:
        if not re.fullmatch(r"probes/\w+\.py", path):
            continue
        name = re.compile(rf'"{Path(path).stem}(\.py)?"')
        users = {
            _package(other)
            for other, text in tracked.items()
            if other.startswith("kar_checks/") and other.endswith(".py") and name.search(text)
        }
        if users == {f"kar_checks/checks/{topic}"}:
            out.append(path)
    return out


def _package(path: str) -> str:
    return "/".join(path.split("/")[:3]) if path.startswith("kar_checks/checks/") else path


@cache
def checkout() -> dict[str, str]:
    """Return every text that git tracks here."""
    listed = _git("ls-files", "-z").split("\0")
    out: dict[str, str] = {}
    for path in listed:
        try:
            out[path] = (ROOT / path).read_text("utf-8")
        except (OSError, UnicodeDecodeError):  # a picture, or a file that is gone
            continue
    return out


def changed(since: str) -> tuple[list[str], list[str]]:
    """Return the files that were added and those that were edited since a commit."""
    words = _git("diff", "--name-status", "--no-renames", since, "--").splitlines()
    pairs = [line.split("\t") for line in words]
    return [path for kind, path in pairs if kind == "A"], [path for k, path in pairs if k == "M"]


def _git(*words: str) -> str:
    done = subprocess.run(("git", *words), cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout


def main() -> None:
    """Print the cost of topics as a table, or with everything counted as JSON."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("topics", nargs="+", metavar="TOPIC")
    parser.add_argument("--json", action="store_true", help="Print every file and concept.")
    parser.add_argument("--since", metavar="COMMIT", help="Count new and edited files from git.")
    given = parser.parse_args()
    for topic in given.topics:
        found = cost(topic, checkout())
        if not found.python:
            parser.error(f"there is no topic {topic!r}")
        new, edited = changed(given.since) if given.since else (found.new_files, found.edited_files)
        if given.json:
            print(json.dumps(asdict(found) | {"new_files": new, "edited_files": edited}, indent=1))
            continue
        print(
            f"{topic}: {found.product} product lines ({found.python} Python, {found.yaml} YAML, "
            f"{found.probe} probe), {found.test} test lines, {len(new)} new and {len(edited)} "
            f"edited files, {len(found.concepts)} concepts"
        )


if __name__ == "__main__":
    main()
