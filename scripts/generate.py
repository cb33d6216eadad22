"""Writes what is made from the code: the schema, the catalogue of checks, the known traps.

Run it by ``make docs``; a unit test fails as long as a file is not what this would write.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml
from pydantic.json_schema import models_json_schema

from kar_checks.checks.registry import topics
from kar_checks.commands.catalogue import explanation
from kar_checks.kit.topic import Check, Topic
from kar_checks.kit.words import entries, reason_of
from kar_checks.model import SCHEMA, Finding, Observation, RequirementResult, RunInfo
from scripts.reasons import packages

ROOT = Path(__file__).resolve().parents[1]
SABOTAGES = ROOT / "tests" / "cluster" / "injections"
TRAPS = ROOT / "tests" / "traps"
_TRAP = re.compile(r"(verdicts|records|case) (\d+)(?: \(([a-z])\))?")
_PARTS = {
    "verdicts": "False verdicts",
    "records": "Records, files and commands",
    "case": "Situations that users ran into",
}


def sabotages() -> list[dict[str, Any]]:
    """Return every row of the files beside the injections: texts, and ``guard: true`` in some."""
    files = sorted(SABOTAGES.glob("*.yaml"))
    return [row for file in files for row in yaml.safe_load(file.read_text("utf-8"))]


def schema() -> str:
    """Return the JSON Schema of a run folder: one property for each file that it holds."""
    records = (RunInfo, Finding, RequirementResult, Observation)
    _, found = models_json_schema([(one, "serialization") for one in records])
    definitions: dict[str, Any] = found["$defs"]
    # Every topic stores an observation of its own, with more fields than these.
    definitions["Observation"]["additionalProperties"] = True

    def ref(record: type) -> dict[str, str]:
        return {"$ref": f"#/$defs/{record.__name__}"}

    whole = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"A run folder of kar-checks, schema version {SCHEMA}",
        "type": "object",
        "properties": {
            "run.json": ref(RunInfo),
            "findings.json": {"type": "array", "items": ref(Finding)},
            "requirements.json": {"type": "array", "items": ref(RequirementResult)},
        },
        "patternProperties": {r"^observations/[a-z]+\.json$": ref(Observation)},
        "$defs": definitions,
    }
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def catalogue() -> str:
    """Return the catalogue of all checks with their sabotages."""
    found = sabotages()
    out = [
        "# Catalogue of checks",
        "",
        "Made by `make docs` from the code and from `tests/cluster/injections`. A sabotage is",
        "a cluster or a workload that was broken on purpose: the check must then give this outcome",
        "for this reason.",
    ]
    for topic in topics():
        out += ["", f"## {topic.title}", "", f"{topic.label}. [Reference]({topic.official_link})"]
        for check in topic.checks:
            mine = [one for one in found if one["check"] == check.id]
            out += _section(topic, check, mine)
        out += _reasons(f"Reasons of {topic.id}", topic.judge.rpartition(".")[0])
    for title, package in SHARED_WORDS.items():
        out += _reasons(title, package)
    return "\n".join(out) + "\n"


SHARED_WORDS = {
    "Reasons of Kueue": "kar_checks.checks.gang.kueue",
    "Reasons of topics that send traffic through a gateway": "kar_checks.kit.http_testbed",
    "Reasons of topics that use secondary networks": "kar_checks.kit.networks",
    "Reasons of every topic": "kar_checks.kit",
}
"""Packages whose verdicts several topics give, by the title of their list."""


def _reasons(title: str, package: str) -> list[str]:
    """Return the list of a package's reasons; empty if its words are no data yet."""
    if package not in packages():
        return []
    out = ["", f"### {title}", ""]
    out += [
        "| Reason | Outcome | What is stated | Likely causes | Remedy |",
        "|---|---|---|---|---|",
    ]
    for key, entry in entries(package).items():
        stated = f"**{entry.broken}.** {entry.summary}" if entry.broken else entry.summary
        cells = (
            f"`{reason_of(key)}`",
            entry.outcome.value,
            stated,
            "; ".join(entry.causes),
            entry.remedy,
        )
        out.append("| " + " | ".join(_cell(one) for one in cells) + " |")
    return out


def _cell(text: str) -> str:
    """Return a text for a cell of a table; the names of values are set in italics."""
    plain = " ".join(text.split()).replace("|", "\\|")
    return re.sub(r"\{(\w+)[^{}]*\}", r"*\1*", plain)


def _section(topic: Topic, check: Check, sabotages: list[dict[str, Any]]) -> list[str]:
    out = ["", f"### `{check.id}`", "", f"{check.title}.", ""]
    for title, text in explanation(topic, check):
        if title not in ("Check", "Topic"):
            out.append(f"- **{title}:** {text}")
    if sabotages:
        out += ["", "| Sabotage | Outcome | Reason |", "|---|---|---|"]
        out += [
            f"| `{one['injection']}` | {one['outcome']} | `{one['reason']}` |" for one in sabotages
        ]
    return out


def traps() -> list[dict[str, Any]]:
    """Return every known trap: ``item``, ``world``, ``outcome`` and the ids in ``shown_by``."""
    files = sorted(TRAPS.glob("*.yaml"))
    found = [row for file in files for row in yaml.safe_load(file.read_text("utf-8"))]
    return sorted(found, key=lambda row: _place(row["item"]))


def _place(item: str) -> tuple[int, int, str]:
    """Return where an item belongs in the list; raises ValueError if it is not named like one."""
    if not (match := _TRAP.fullmatch(item)):
        raise ValueError(f"{item!r} is no item: write 'verdicts 3 (a)', 'records 4' or 'case 13'")
    return list(_PARTS).index(match[1]), int(match[2]), match[3] or ""


def known_traps() -> str:
    """Return the list of known traps: each state of the world, its outcome and its tests."""
    out = [
        "# Known traps",
        "",
        "States of the world that once led this suite, or others like it, to a wrong verdict, an",
        "untrue sentence or a lost record. Each has a test that fails when the trap is open again.",
        "`sabotage NAME CHECK` is a row of `tests/cluster/injections`, tried on a real cluster;",
        "the other ids are tests. Made by `make docs` from `tests/traps`.",
    ]
    part = -1
    for row in traps():
        place, _, _ = _place(row["item"])
        if place != part:
            part = place
            out += ["", f"## {list(_PARTS.values())[part]}", ""]
            out += ["| Item | State of the world | Outcome | Shown by |", "|---|---|---|---|"]
        shown = "<br>".join(f"`{one}`" for one in row["shown_by"])
        cells = (row["item"], row["world"], row["outcome"], shown)
        out.append(
            "| " + " | ".join(" ".join(one.split()).replace("|", "\\|") for one in cells) + " |"
        )
    return "\n".join(out) + "\n"


FILES = {
    "kar_checks/schema.json": schema,
    "docs/checks.md": catalogue,
    "docs/known-traps.md": known_traps,
}


def main() -> None:
    """Write every generated file."""
    for name, content in FILES.items():
        (ROOT / name).write_text(content(), "utf-8")
        print(name)


if __name__ == "__main__":
    main()
