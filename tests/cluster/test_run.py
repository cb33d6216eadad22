"""The honest cluster: everything passes, is shown, and is gone afterwards."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kar_checks.exits import Exit
from kar_checks.model import RequirementOutcome
from tests.cluster.injections import SHORT_HOLD
from tests.cluster.injections.throughput import LENIENT
from tests.cluster.support import BUSY, EVERYTHING, MOST_NOISY, UNASKED, Kar

pytestmark = pytest.mark.usefixtures("leaves_nothing")


@pytest.mark.guard
@pytest.mark.addons(*EVERYTHING)
def test_every_check_passes_with_its_control(kar: Kar) -> None:
    done = kar.run(*LENIENT, report=True)
    noisy = [one for one in done.not_passed() if one[0].startswith("resize.") and one[2] in BUSY]
    assert len(noisy) <= MOST_NOISY, done.output
    # Envoy Gateway's class claims nothing that is tried.
    rest = [one for one in done.not_passed() if one not in noisy]
    assert rest == [("gateway.claimed_features", "not_applicable", "nothing_claimed")]
    assert done.code == (Exit.UNDECIDED if noisy else Exit.OK), done.output
    assert {one.check for one in done.run.findings} == UNASKED
    assert done.run.info.cleanup.verdict == "clean"
    gang = next(one for one in done.run.requirements if one.id == "gang_scheduling")
    assert (gang.outcome, gang.counts) == (RequirementOutcome.PASS, True)
    folder = done.run.folder
    for name in ("scorecard.html", "kar-junit.xml", "pytest.html", "requirements.json"):
        assert (folder / name).stat().st_size > 0
    assert str(folder / "scorecard.html") in done.output.replace("\n", "")
    assert all(one.requests > 0 and one.seconds > 0 for one in done.run.info.costs)


def test_a_stored_run_is_judged_and_rendered_again_without_the_cluster(kar: Kar) -> None:
    done = kar.run("resize.memory_up", report=True)
    page = done.run.folder / "scorecard.html"
    page.unlink()
    assert kar("report", str(done.run.folder)).code == 0
    assert page.exists()
    again = kar("judge", str(done.run.folder), "--output", str(kar.output))
    assert again.code == done.code == 0, again.output


def test_a_selection_runs_only_itself(kar: Kar) -> None:
    done = kar.run("resize.memory_up", "--quiet", *SHORT_HOLD)
    assert [one.check for one in done.run.findings] == ["resize.memory_up"]
    assert done.code == 0, done.output


def test_plain_pytest_gives_the_same_verdict(kar: Kar, run_pytest: Callable[..., int]) -> None:
    output = kar.output
    words = ["kar_checks/checks", "--local-cluster", "--kar-select=resize.memory_up"]
    assert run_pytest(*words, f"--output={output}") == 0
    assert (output / "latest" / "scorecard.html").exists()


def test_a_plan_touches_nothing(kar: Kar) -> None:
    planned = kar("plan", "--local-cluster")
    assert planned.code == 0, planned.output
    assert "Nothing was touched" in planned.output
    assert not kar.output.exists()
