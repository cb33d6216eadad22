"""Writes what is made from the code: ``kar_checks/schema.json`` and ``docs/checks.md``.

Run it by ``make docs``; a unit test fails as long as a file is not what this would write.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from pydantic.json_schema import models_json_schema

from kar_checks.checks.registry import Check, Topic, topics
from kar_checks.commands.catalogue import explanation
from kar_checks.model import SCHEMA, Finding, Observation, RequirementResult, RunInfo

ROOT = Path(__file__).resolve().parents[1]
SABOTAGES = ROOT / "tests" / "cluster" / "injections"


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
    return "\n".join(out) + "\n"


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


FILES = {"kar_checks/schema.json": schema, "docs/checks.md": catalogue}


def main() -> None:
    """Write every generated file."""
    for name, content in FILES.items():
        (ROOT / name).write_text(content(), "utf-8")
        print(name)


if __name__ == "__main__":
    main()
