"""The words that people read for the words of the records, and text made safe to show."""

from __future__ import annotations

import re

from kar_checks.model import Evidence, Outcome
from kar_checks.redact import redact

OUTCOME = {
    "pass": "passed",
    "fail": "failed",
    "inconclusive": "inconclusive",
    "not_applicable": "not applicable",
    "skipped": "skipped",
    "error": "error",
    "not_run": "not run",
    "unknown": "needs manual evidence",
}

SIGN = {
    "pass": "✔",
    "fail": "✘",
    "inconclusive": "?",
    "not_applicable": "-",
    "skipped": "»",
    "error": "!",
    "not_run": "·",
    "unknown": "-",
}
"""One sign for an outcome wherever a terminal shows it."""

STYLE = {
    "pass": "green",
    "fail": "bold red",
    "inconclusive": "yellow",
    "not_applicable": "cyan",
    "skipped": "cyan",
    "error": "bold magenta",
    "not_run": "dim",
    "unknown": "dim",
}
"""Its style there, in the words of rich."""

# The order of a sentence's parts: what was decided first, then why the rest was not.
TALLY = {
    "pass": "passed",
    "fail": "failed",
    "inconclusive": "inconclusive",
    "error": "error",
    "not_applicable": "not applicable",
    "skipped": "skipped",
    "not_run": "not run",
    "unknown": "without a check here",
}
ALWAYS_TOLD = ("pass", "fail", "inconclusive")

EVIDENCE = {
    Evidence.REAL: "the capability ran with the user's own kind of workload",
    Evidence.SYNTHETIC: "a workload of this suite ran on the real platform",
    Evidence.SIMULATED: "the thing under test itself was faked; it never counts as implemented",
}

EXIT_CODE = {
    0: "success: no selected check has an outcome listed in --fail-on",
    1: "at least one check failed",
    2: "the run was interrupted",
    3: "an internal error of kar-checks",
    4: "the command line could not be used",
    5: "nothing was collected: no check was selected",
    10: "an error (the suite could not measure), or objects of the suite were left in the cluster",
    11: "nothing failed, but something is inconclusive",
    12: "the preflight refused to start; nothing was created",
}

# Control characters draw nothing, or move a terminal's cursor; direction marks reorder what stands
# beside them. Both are shown as their code point instead.
_HIDDEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufffe\uffff"
    r"\ud800-\udfff]"
)
LONGEST = 2000


def safe(text: str, longest: int = LONGEST) -> str:
    """Return text of a cluster as it may be shown: no secret, nothing hidden, not endless."""
    text = redact(text[: 10 * longest]).replace("\r\n", "\n")
    text = _HIDDEN.sub(lambda match: f"⟨U+{ord(match.group()):04X}⟩", text)
    if len(text) > longest:
        return f"{text[:longest]}… (cut)"
    return text


def markdown(text: str) -> str:
    """Return text of a cluster on one line, so that Markdown takes none of it for markup."""
    return " ".join(safe(text, 500).split()).translate(_MARKDOWN)


_MARKDOWN = str.maketrans({sign: f"&#{ord(sign)};" for sign in "\\`*_[]<>|#&~"})


def count(number: int, noun: str, plural: str = "") -> str:
    """Return ``1 check``, ``2 checks``; ``plural`` is for nouns that do not just take an s."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def tally(outcome: str, number: int) -> str:
    """Return one part of a tally: ``1 failed``, ``2 errors``."""
    word = TALLY[outcome]
    return count(number, word) if outcome == "error" else f"{number} {word}"


def seconds(value: float) -> str:
    """Return a duration that people read: ``4.2 s``, ``3 min 20 s``."""
    if value < 10:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def size(value: int) -> str:
    """Return a size of a file."""
    return f"{value:,} B" if value < 1024 else f"{value / 1024:,.1f} KiB"


def exit_code(code: int | None) -> str:
    """Return what an exit code means."""
    if code is None:
        return "the run was ended from outside and has no exit code"
    return EXIT_CODE.get(code, "a code that this suite does not use")


def outcome(value: Outcome | str) -> str:
    """Return the word for an outcome."""
    return OUTCOME[str(value)]
