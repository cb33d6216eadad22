"""What the tests on the local cluster share: ``kar`` as a process, and what is left of ours."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from html import unescape
from pathlib import Path

import pytest

from kar_checks.checks.registry import all_checks
from kar_checks.cluster.client import Cluster
from kar_checks.model import Finding, Outcome
from kar_checks.report import html
from kar_checks.store import StoredRun
from localcluster import LocalCluster
from localcluster.progress import Progress
from localcluster.settings import Settings
from localcluster.startup import bring_down, bring_up

RUN_SECONDS = 700

EVERYTHING = ("dranet", "endpoint-picker")
"""The add-ons without which some topic has nothing to assess."""

BUSY = ("too_noisy", "not_throttled", "control_differs")
"""What CPU that others use leaves undecided: another cluster's tests run on the same two cores."""
MOST_NOISY = 3

UNASKED = {check.id for topic, check in all_checks() if not topic.asked_by}
"""The checks that a run makes when it is asked for nothing in particular."""


@dataclass(frozen=True)
class Done:
    """A command that ended, and the run that it left, if any."""

    code: int
    output: str
    folder: Path | None

    @property
    def run(self) -> StoredRun:
        """The stored run."""
        assert self.folder is not None, self.output
        return StoredRun(self.folder)

    def finding(self, check: str, variant: str | None = None) -> Finding:
        """The one finding of a check."""
        found = [
            one
            for one in self.run.findings
            if one.check == check and variant in (None, one.variant)
        ]
        assert len(found) == 1, f"{check}: {found}\n{self.output}"
        return found[0]

    def not_passed(self) -> list[tuple[str, str, str]]:
        """Check, outcome and reason of each finding that is no pass."""
        return [
            (one.check, one.outcome.value, one.reason)
            for one in self.run.findings
            if one.outcome is not Outcome.PASS
        ]


@dataclass(frozen=True)
class NextStep:
    """What the page suggests to do next: its first sentence, and the rows to which it links."""

    sentence: str
    rows: tuple[str, ...]


def next_steps(run: StoredRun) -> list[NextStep]:
    """Return the list under "What to do next", as it appears on the rendered page."""
    page = html.render(run)
    listed = re.search(r'<ol class="steps">(.*?)</ol>', page, re.DOTALL)
    # Each step begins with the sign of its outcome; the links in it are list items without one.
    items = listed[1].split("<li><svg")[1:] if listed else []
    return [NextStep(_sentence(one), tuple(re.findall(r'href="#([^"]+)"', one))) for one in items]


def _sentence(item: str) -> str:
    found = re.search(r"<strong>(.*?)</strong>", item, re.DOTALL)
    return unescape(re.sub(r"<[^>]+>", "", found[1])) if found else ""


class Kar:
    """Runs ``kar`` as a process of its own, against the local cluster unless told otherwise.

    Runs are not rendered unless a test asks for it with ``report``: that takes seconds of a core.
    """

    def __init__(self, output: Path) -> None:
        self.output = output

    def command(self, *words: str) -> list[str]:
        """The words of a ``kar`` command."""
        return [sys.executable, "-m", "kar_checks.cli", *words]

    def start(self, *words: str, report: bool = False) -> subprocess.Popen[str]:
        """Start ``kar run`` on the local cluster and return at once."""
        how = () if report else ("--no-report",)
        return subprocess.Popen(
            self.command("run", "--local-cluster", "--output", str(self.output), *how, *words),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=_environment(),
        )

    def run(self, *words: str, report: bool = False) -> Done:
        """``kar run`` on the local cluster, to its end."""
        return self.finish(self.start(*words, report=report))

    def finish(self, process: subprocess.Popen[str]) -> Done:
        """Wait for a started run."""
        try:
            output, _ = process.communicate(timeout=RUN_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
            pytest.fail(f"kar run did not end within {RUN_SECONDS} s:\n{output}")
        latest = self.output / "latest"
        return Done(process.returncode, output, latest.resolve() if latest.exists() else None)

    def __call__(self, *words: str, stdin: str = "") -> Done:
        """Any ``kar`` command, to its end; its output holds stderr, too."""
        done = subprocess.run(
            self.command(*words),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            input=stdin,
            text=True,
            timeout=RUN_SECONDS,
            env=_environment(),
            check=False,
        )
        return Done(done.returncode, done.stdout, None)

    def wait_for_objects(
        self, cluster: Cluster, path: str, count: int = 1, *, seconds: float = 60
    ) -> None:
        """Wait until a run in the background has made ``count`` objects of a collection."""
        deadline = time.monotonic() + seconds
        query = [("labelSelector", "app.kubernetes.io/managed-by=kar-checks")]
        while len(cluster.call("GET", path, query=query)["items"]) < count:
            assert time.monotonic() < deadline, f"no {path} of ours appeared"
            time.sleep(0.1)


def _environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key != "KUBECONFIG"}


def ours(cluster: Cluster) -> list[str]:
    """Every object with our label, of every kind that the cluster serves and can list."""
    out: list[str] = []
    accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    for root in ("/api", "/apis"):
        for group in cluster.call("GET", root, accept=accept)["items"]:
            name = group.get("metadata", {}).get("name", "")
            for version in group["versions"]:
                prefix = f"/apis/{name}/{version['version']}" if name else "/api/v1"
                for one in version.get("resources") or []:
                    if "list" in one["verbs"] and one["resource"] != "componentstatuses":
                        out += _labelled(cluster, f"{prefix}/{one['resource']}")
    return sorted(set(out))


def _labelled(cluster: Cluster, path: str) -> list[str]:
    query = [("labelSelector", "app.kubernetes.io/managed-by=kar-checks")]
    items = cluster.call("GET", path, query=query).get("items") or []
    return [f"{path.rpartition('/')[2]}/{one['metadata']['name']}" for one in items]


class Machine:
    """Gives the local cluster with the settings that a test wants."""

    def __init__(self) -> None:
        self.seconds = 0.0
        """How long tests waited for it in all."""

    def up(self, settings: Settings) -> LocalCluster:
        """The running cluster if it has these settings, otherwise a new one."""
        began = time.monotonic()
        try:
            return bring_up(settings, Progress())
        finally:
            self.seconds += time.monotonic() - began

    def down(self) -> None:
        """End the cluster."""
        bring_down(Progress())
