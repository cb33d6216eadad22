"""The programme's checklist per Kubernetes minor version, as data (``requirements.yaml``)."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources
from typing import Any, Literal, cast

from kar_checks import fast_yaml
from kar_checks.model import Record

KAR_LINK = "https://github.com/kubernetes-sigs/ai-conformance/tree/main/kars"
CHECKLIST_LINK = (
    "https://github.com/cncf/k8s-ai-conformance/blob/main/docs/AIConformance-{version}.yaml"
)


class Requirement(Record):
    """One line of the checklist of one version.

    ``kar`` is ``None`` where the programme gives no number (``ai_inference``).
    """

    id: str
    version: str
    level: Literal["MUST", "SHOULD"]
    kar: int | None
    section: str
    title: str
    meaning: str
    conditional: str = ""
    attest: str
    """What a person would have to show where no check decides it."""
    text: str
    """The :func:`digest` of the official description, which is not kept here."""

    @property
    def link(self) -> str:
        """The official page: the KAR folder, or the checklist where there is no KAR."""
        return CHECKLIST_LINK.format(version=self.version) if self.kar is None else KAR_LINK

    @property
    def label(self) -> str:
        """``KAR-53``, or the checklist where there is no number."""
        return f"KAR-{self.kar}" if self.kar is not None else "no KAR"


@cache
def _data() -> dict[str, Any]:
    text = resources.files(__package__ or __name__).joinpath("requirements.yaml").read_text("utf-8")
    return cast("dict[str, Any]", fast_yaml.load(text))


def versions() -> list[str]:
    """Return the Kubernetes minors that have a checklist here, oldest first."""
    return list(_data()["versions"])


def all_ids() -> list[str]:
    """Return every requirement id of any version, in the checklist's order."""
    return [entry["id"] for entry in _data()["requirements"]]


def requirements(version: str) -> list[Requirement]:
    """Return the checklist of ``version`` (``"1.37"``), in its own order.

    Raises:
        ValueError: there is no checklist for that version here.
    """
    if version not in versions():
        known = ", ".join(versions())
        raise ValueError(f"no checklist for Kubernetes {version}; there is one for {known}")
    return [
        _line(entry, version) for entry in _data()["requirements"] if version in entry["levels"]
    ]


def checklist_for(server_version: str) -> str:
    """Return the checklist that applies to a server, the nearest one where there is none.

    ``server_version`` is what ``GET /version`` says (``v1.37.0-gke.1``, ``1.36+``).

    Raises:
        ValueError: the text holds no version.
    """
    parts = server_version.lstrip("v").split(".")
    digits = "".join(c for c in (parts[1] if len(parts) > 1 else "") if c.isdigit() or c == "+")
    digits = digits.rstrip("+")
    if parts[0] != "1" or not digits.isdigit():
        raise ValueError(f"not a Kubernetes version: {server_version!r}")
    minors = [int(version.split(".")[1]) for version in versions()]
    return f"1.{min(max(int(digits), minors[0]), minors[-1])}"


def absent(version: str) -> list[tuple[str, str]]:
    """Return the ids that this version's checklist does not have, each with the reason."""
    out: list[tuple[str, str]] = []
    for entry in _data()["requirements"]:
        if version in entry["levels"]:
            continue
        first = min(entry["levels"], key=versions().index)
        later = versions().index(first) > versions().index(version)
        out.append((entry["id"], f"Listed from {first} on." if later else entry["gone"]))
    return out


def _line(entry: dict[str, Any], version: str) -> Requirement:
    return Requirement(
        id=entry["id"],
        version=version,
        level=entry["levels"][version],
        kar=int(entry["kar"]) if entry["kar"] is not None else None,
        section=entry["section"],
        title=entry["title"],
        meaning=entry["meaning"],
        conditional=entry.get("conditional", ""),
        attest=entry["attest"],
        text=_latest(entry["text"], version),
    )


def _latest(known: dict[str, str], version: str) -> str:
    """Return what has been so since the latest of the known versions."""
    place = versions().index
    return known[max((one for one in known if place(one) <= place(version)), key=place)]


def digest(description: str) -> str:
    """Return what a description is known by: how its words are broken into lines is no matter."""
    return hashlib.sha256(" ".join(description.split()).encode()).hexdigest()[:16]
