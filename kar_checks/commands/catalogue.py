"""``kar list`` and ``kar explain``: what there is; imports no test module."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console

from kar_checks import profile as profiles
from kar_checks import programme
from kar_checks.checks.registry import all_checks, topics
from kar_checks.cluster.access import NeededRight
from kar_checks.cluster.target import Target
from kar_checks.kit.topic import Check, Topic
from kar_checks.options import UsageError, kar_number, selected
from kar_checks.plan import needed_images, needed_rights
from kar_checks.programme import Requirement
from kar_checks.report.tables import show
from kar_checks.run_options import all_options


def show_list(version: str, *, as_json: bool) -> None:
    """Print the checklist of a version with the checks of each requirement."""
    chosen = version or programme.versions()[-1]
    lines = programme.requirements(chosen)
    checks_of: dict[str, list[str]] = {}
    for topic, check in all_checks():
        checks_of.setdefault(topic.requirement, []).append(check.id)
    if as_json:
        print(json.dumps(_as_data(chosen, checks_of), indent=1))
        return
    console = Console(highlight=False)
    rows = [
        (
            one.level,
            str(one.kar or "—"),
            one.id,
            one.title,
            f"{len(found)} checks" if (found := checks_of.get(one.id)) else "manual evidence",
        )
        for one in lines
    ]
    columns = ("Level", "KAR", "Requirement", "Title", "Decided by")
    show(console, columns, rows, title=f"Checklist of Kubernetes {chosen}", wrap={"Title"})
    for topic in topics():
        console.print(f"\n[bold]{topic.title}[/]  {topic.label}")
        for check in topic.checks:
            console.print(f"  {check.id:<30} {check.title}", soft_wrap=not console.is_terminal)
    for name, why in programme.absent(chosen):
        console.print(f"[dim]not in {chosen}: {name}. {why}[/]", soft_wrap=True)


def _as_data(version: str, checks_of: dict[str, list[str]]) -> dict[str, Any]:
    return {
        "version": version,
        "requirements": [
            {**one.model_dump(), "checks": checks_of.get(one.id, [])}
            for one in programme.requirements(version)
        ],
        "checks": [topic.check_info(check).model_dump() for topic, check in all_checks()],
    }


def explain_selector(name: str) -> None:
    """Print everything there is to know beforehand about what ``kar run NAME`` would select.

    Raises:
        UsageError: no check, topic, requirement or KAR number is called so.
    """
    console = Console(highlight=False)
    for line in _requirements(name):
        console.print(f"[bold]{line.id}[/]  {line.label}, {line.level}: {line.title}")
        console.print(f"{line.meaning}\n{line.link}\n", markup=False, soft_wrap=True)
    try:
        chosen = selected([name])
    except UsageError:
        if not _requirements(name):
            raise
        console.print("No check decides it: it needs manual evidence (`kar attest`).")
        return
    for number, (topic, check) in enumerate(chosen):
        if number:
            console.print()
        for title, text in explanation(topic, check):
            console.print(f"[bold]{title}[/]  {text}", soft_wrap=True)


def _requirements(name: str) -> list[Requirement]:
    """Return the requirement that is named by its id or its KAR number, as the newest has it."""
    number = kar_number(name)
    for version in reversed(programme.versions()):
        found = [
            one
            for one in programme.requirements(version)
            if name == one.id or (number is not None and number == one.kar)
        ]
        if found:
            return found
    return []


def explanation(topic: Topic, check: Check) -> list[tuple[str, str]]:
    """Return (heading, text) of a check; the catalogue in docs/ is made from the same."""
    selection = [(topic, check)]
    rights = needed_rights(selection, Target(), profiles.default())
    since = check.needs.since or topic.common_needs.since
    return [
        ("Check", f"{check.id} — {check.title}"),
        ("Topic", f"{topic.title} ({topic.label})"),
        ("Proves", check.proves),
        ("Fails when", check.fails_when),
        ("Disruption", check.disruption),
        ("Budget", f"at most {check.budget_seconds} s, shared with the other checks of its topic"),
        ("Needs", f"Kubernetes {since} or later" if since else "any supported Kubernetes"),
        ("Nodes", str(check.needs.nodes)),
        ("Rights", _in_words(rights)),
        ("Images", ", ".join(needed_images(selection, Target()).values())),
    ]


def _in_words(rights: list[NeededRight]) -> str:
    verbs: dict[str, list[str]] = {}
    for one in rights:
        verb, _, rest = str(one).partition(" ")
        verbs.setdefault(rest, []).append(verb)
    return "; ".join(f"{', '.join(given)} {rest}" for rest, given in verbs.items())


def explain_profile() -> None:
    """Print the keys of a profile: its settings with origin and date, and the target's."""
    options = {one.key: one for one in all_options() if one.key}
    settings = [
        (
            f"{key} ({options[key].name})" if key in options else key,
            *(str(one.value), one.origin, str(one.date)),
        )
        for key, one in profiles.default().settings.items()
    ]
    target = [
        (key.removeprefix("target."), option.name, option.help)
        for key, option in options.items()
        if key.startswith("target.")
    ]
    console = Console(highlight=False)
    show(
        console,
        ("Setting", "Value", "Origin", "Date"),
        settings,
        title="Settings of a profile (`settings:`)",
        wrap={"Setting", "Value", "Origin"},
    )
    console.print()
    show(
        console,
        ("Key", "Option", "Meaning"),
        target,
        title="The cluster's (`target:`)",
        wrap={"Meaning"},
    )
