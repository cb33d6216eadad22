"""The evidence folder: readable Markdown per requirement, raw files, and their hashes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from kar_checks import programme
from kar_checks.added import Attested
from kar_checks.model import Finding, Observation, RequirementResult
from kar_checks.store import StoredRun, StoreError, write_atomically
from kar_checks.submission.redaction import Redact
from kar_checks.submission.rules import ARTEFACTS
from kar_checks.words import OUTCOME

FOLDER = "evidence"
HASHES = "SHA256SUMS"
MOST_COMMANDS = 40


def write(
    run: StoredRun, row: RequirementResult, target: Path, redact: Redact, *, several: bool = False
) -> list[str]:
    """Write a requirement's Markdown and raw files; returns the paths to cite, the text first.

    Where ``several`` runs are cited, each has its own files.
    """
    topics = [one.id for one in run.info.topics if one.requirement == row.id]
    raw: list[str] = []
    for name, _, _ in run.files():
        # observations/TOPIC.json, evidence/TOPIC/…
        if Path(name).parts[1].removesuffix(".json") in topics:
            place = f"{run.info.id}/{name}" if several else name
            raw.append(_copy(run.folder / name, target, place, redact))
    text = redact(markdown(run, row, topics, raw))
    path = f"{FOLDER}/{row.id}-{run.info.id}.md" if several else f"{FOLDER}/{row.id}.md"
    write_atomically(target / path, text)
    return [path, *raw]


def _copy(source: Path, target: Path, name: str, redact: Redact) -> str:
    place = _place(redact(name))
    write_atomically(target / place, redact(source.read_text("utf-8", errors="replace")))
    return place


def _place(name: str) -> str:
    path = Path(name)
    # Output of ours under such a name would be read as that of the official suite, and refused.
    own = f"kar-{path.name}" if path.name.lower() in ARTEFACTS else path.name
    return f"{FOLDER}/raw/{path.parent / own}"


def attested(run: StoredRun, one: Attested, target: Path, redact: Redact | None) -> list[str]:
    """Copy what a person gave with their evidence; returns what to cite, links first.

    Raises:
        StoreError: a file of the run is not there, or cannot be redacted because it is no text.
    """
    cited = [one.link] if one.link else []
    if one.file:
        source = (run.folder / one.file).resolve()
        if not source.is_relative_to(run.folder.resolve()) or not source.is_file():
            raise StoreError(f"{one.file}, added to {one.requirement}, is not in {run.folder}")
        place = _place(one.file.removeprefix(f"{FOLDER}/"))
        content = source.read_bytes()
        if redact:
            try:
                content = redact(content.decode("utf-8")).encode()
            except UnicodeDecodeError as error:
                raise StoreError(
                    f"{one.file} is not text, and --redact cannot hide anything in it: leave "
                    "--redact out, or attest again with a link"
                ) from error
        write_atomically(target / place, content)
        cited.append(place)
    return cited


def hashes(target: Path) -> str:
    """Write and return ``SHA256SUMS`` of the evidence folder, as ``sha256sum -c`` reads it."""
    files = sorted(one for one in (target / FOLDER).rglob("*") if one.is_file())
    text = "".join(
        f"{hashlib.sha256(one.read_bytes()).hexdigest()}  {one.relative_to(target / FOLDER)}\n"
        for one in files
        if one.name != HASHES
    )
    write_atomically(target / FOLDER / HASHES, text)
    return text


def markdown(run: StoredRun, row: RequirementResult, topics: list[str], raw: list[str]) -> str:
    """Return what was done and seen for one requirement, for a reader who was not there."""
    info, env = run.info, run.info.environment
    wanted = next(one for one in programme.requirements(info.kubernetes_minor) if one.id == row.id)
    evidence = row.evidence.value if row.evidence else "none"
    out = [
        f"# {row.id}: {wanted.title}",
        "",
        f"{wanted.label}, {row.level} in Kubernetes {info.kubernetes_minor}. "
        f"[Reference]({wanted.link})",
        "",
        wanted.meaning,
        "",
        f"**{OUTCOME[row.outcome.value].capitalize()}.** {row.reason}",
        "",
        "| | |",
        "|---|---|",
        f"| Cluster | {_cell(env.cluster)}, Kubernetes {_cell(env.server_version)}, "
        f"{len(env.nodes)} nodes |",
        f"| Measured | {info.started:%Y-%m-%d %H:%M} UTC by kar-checks {info.suite_version}, "
        f"run {info.id} |",
        f"| Evidence level | {evidence} |",
        f"| Profile | {_cell(str(info.profile.get('name', '')))} |",
    ]
    titles = {one.id: one for one in info.checks}
    for finding in run.findings:
        check = titles.get(finding.check)
        if check is not None and check.topic in topics:
            out += _finding(finding, check.title, check.proves, check.fails_when)
    for topic in topics:
        out += _commands(run, topic)
    if raw:
        out += ["", "## Raw files", "", *(f"- `{one}`" for one in raw)]
    return "\n".join(out) + "\n"


def _finding(finding: Finding, title: str, proves: str, fails_when: str) -> list[str]:
    name = f"{finding.check} [{finding.variant}]" if finding.variant else finding.check
    out = [
        "",
        f"## {title}",
        "",
        f"`{name}`: **{OUTCOME[finding.outcome.value]}** ({finding.reason}). {finding.summary}",
        "",
        f"What it proves: {proves}",
        "",
        f"It fails when: {fails_when}",
    ]
    if finding.facts:
        out += ["", "| seen | value | expected | read from |", "|---|---|---|---|"]
        out += [
            f"| {_cell(one.name)} | {_cell(one.value)} | {_cell(one.expected)} | "
            f"{_cell(one.source)} |"
            for one in finding.facts
        ]
    return out


def _commands(run: StoredRun, topic: str) -> list[str]:
    text = run.observation_text(topic)
    if text is None:
        return []
    seen = Observation.model_validate(
        {key: value for key, value in json.loads(text).items() if key in Observation.model_fields}
    )
    if not seen.commands:
        return []
    out = ["", f"## Commands that ran in pods ({topic})", "", "```"]
    for one in seen.commands[:MOST_COMMANDS]:
        words = " ".join(one.argv).replace("`", "'")
        out.append(f"{one.at:%H:%M:%S} {one.pod}: {words[:200]}  -> exit {one.exit_code}")
    left = len(seen.commands) - MOST_COMMANDS
    out += [f"… and {left} more, in the raw file"] if left > 0 else []
    return [*out, "```"]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
