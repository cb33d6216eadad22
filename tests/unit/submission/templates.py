"""Checklists of the programme's form, with descriptions of our own."""

from __future__ import annotations

from itertools import groupby

import pytest

from kar_checks import programme


@pytest.fixture(autouse=True)
def described_by_us(monkeypatch: pytest.MonkeyPatch) -> None:
    """The templates of the tests are in our words, so these are the programme's for a while."""
    official = programme.requirements

    def ours(version: str) -> list[programme.Requirement]:
        return [
            one.model_copy(update={"text": programme.digest(f"{one.title}: {one.meaning}")})
            for one in official(version)
        ]

    monkeypatch.setattr(programme, "requirements", ours)


def template(version: str, *, base_conformance: bool = False) -> str:
    """Return an empty checklist as a vendor gets it."""
    lines = [
        f"# Checklist - v{version}",
        "# Fill in 'status', 'evidence' and 'notes'; an example:",
        "#   evidence:",
        '#     - "https://docs.example.com"',
        "",
        "metadata:",
        f"  kubernetesVersion: v{version}",
        '  platformName: "[Platform Name]"',
        '  platformVersion: "[Platform Version]"',
        '  vendorName: "[Vendor Name]"',
        '  websiteUrl: "[Website URL]"  # the product, not the company',
        '  repoUrl: "[Repository URL]"',
        '  documentationUrl: "[Documentation URL]"',
        '  productLogoUrl: "[Documentation URL]"',
        '  description: "[Description]"',
        '  contactEmailAddress: "[Contact Email Address]"',
    ]
    if base_conformance:
        lines.append('  k8sConformanceUrl: "[URL]"')
    lines += ["", "spec:"]
    for section, items in groupby(programme.requirements(version), key=lambda one: one.section):
        lines.append(f"  {section}:")
        for one in items:
            lines += [
                f"    - id: {one.id}",
                f'      description: "{one.title}: {one.meaning.strip()}"',
                f"      level: {one.level}",
                '      status: ""',
                "      evidence: []",
                '      notes: ""',
            ]
    return "\n".join(lines) + "\n"


METADATA = {
    "platformName": "Acme Kubernetes",
    "platformVersion": "2.0",
    "vendorName": "Acme",
    "websiteUrl": "https://acme.example/k8s",
    "repoUrl": "https://acme.example/git",
    "documentationUrl": "https://acme.example/docs",
    "productLogoUrl": "https://acme.example/logo.svg",
    "description": "Kubernetes for research.",
    "contactEmailAddress": "k8s@acme.example",
    "k8sConformanceUrl": "https://github.com/cncf/k8s-conformance/tree/master/v1.37/acme",
}
