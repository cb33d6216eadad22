from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from kar_checks.commands import series as command
from kar_checks.exits import Exit
from kar_checks.history import nightly
from kar_checks.history.nightly import Series
from kar_checks.history.runs import Past, load_all
from kar_checks.model import OtherRun, Outcome
from kar_checks.store import StoreError
from tests.unit.history.series import FORWARD, INFO, LATENCY, Night, night, series

MOMENT = INFO.started + timedelta(days=60)
MEMORY, REQUESTS, CPU = "resize.memory_up", "resize.requests_only", "resize.cpu_up_down"


def assess(pasts: Sequence[Past]) -> Series:
    return nightly.assess(pasts, MOMENT)


def told(found: Series) -> dict[tuple[str, str], tuple[int, int]]:
    """By (what changed, direction): the nights since which and at which it was told."""
    return {
        (one.name, one.direction): (found.runs.index(one.since), found.runs.index(one.said))
        for one in [*found.earlier, *found.changed]
    }


def breaks_down(number: int, made: Night) -> None:
    if number >= 12:
        made.judged(MEMORY, Outcome.FAIL)


def flaps(number: int, made: Night) -> None:
    if number in (19, 21, 23, 25):
        made.judged(REQUESTS, Outcome.FAIL)


def slows_down(number: int, made: Night) -> None:
    if number >= 16:
        made.scaled(LATENCY, 1.3)


def has_one_odd_night(number: int, made: Night) -> None:
    if number == 14:
        made.scaled(FORWARD, 0.01)


def harness_fails_once(number: int, made: Night) -> None:
    if number == 5:
        made.judged(CPU, Outcome.ERROR, "forbidden")


def loses_a_check(number: int, made: Night) -> None:
    if number >= 26:
        made.judged("resize.memory_down", Outcome.INCONCLUSIVE, "control_failed")


def gets_a_kernel(number: int, made: Night) -> None:
    if number >= 16:
        nodes = made.info.environment.nodes
        made.environment(nodes=[one.model_copy(update={"kernel": "9.9.9"}) for one in nodes])


ALL = (
    breaks_down,
    flaps,
    slows_down,
    has_one_odd_night,
    harness_fails_once,
    loses_a_check,
    gets_a_kernel,
)


@pytest.fixture(scope="module")
def thirty(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Series]:
    parent = tmp_path_factory.mktemp("thirty")
    return parent, assess(series(parent, 30, *ALL))


def test_every_injected_change_and_no_other_is_told(thirty: tuple[Path, Series]) -> None:
    _, found = thirty
    assert told(found) == {
        (MEMORY, "worse"): (12, 12),
        (REQUESTS, "worse"): (19, 19),
        (REQUESTS, "better"): (20, 20),  # the third change makes it flapping
        (f"throughput: {LATENCY} [pod network]", "worse"): (16, 18),
        ("resize.memory_down", "worse"): (26, 28),
    }
    assert len(found.flapping) == 1
    assert found.flapping[0].startswith(f"{REQUESTS}: ")
    assert [one.partition(":")[0] for one in found.unmeasured] == [
        "resize.memory_down",
    ]
    assert len(found.standing) == 1
    assert found.standing[0].startswith(f"{MEMORY}: for 18 decided runs")


def test_thirty_real_nights_without_an_injection_change_nothing(tmp_path: Path) -> None:
    found = assess(series(tmp_path, 30))
    assert told(found) == {}
    assert found.flapping == found.unmeasured == found.standing == found.environment == []
    assert command.exit_code(found) is Exit.OK


def test_what_else_changed_stands_beside_a_change(thirty: tuple[Path, Series]) -> None:
    _, found = thirty
    (slow,) = [one for one in found.earlier if one.what == "figure"]
    assert len(slow.environment) == 1
    assert slow.environment[0].startswith("nodes ")
    assert slow.environment[0].endswith("→ 9.9.9")
    (broke,) = [one for one in found.earlier if one.name == MEMORY]
    assert broke.environment == []


@pytest.mark.parametrize(
    ("count", "code"),
    [
        (1, Exit.UNDECIDED),  # nothing to compare with
        (12, Exit.OK),
        (13, Exit.FAILED),  # a check fails for the first time
        (14, Exit.OK),  # as before
        (19, Exit.FAILED),  # a figure's third night
        (27, Exit.UNDECIDED),  # flapping, and one has no verdict
        (29, Exit.FAILED),  # for the third time without a verdict
    ],
)
def test_the_exit_code_tells_what_the_latest_run_brought(
    thirty: tuple[Path, Series], count: int, code: Exit
) -> None:
    pasts, troubles = load_all(thirty[0])
    assert troubles == []
    assert command.exit_code(assess(pasts[:count])) is code


def test_a_repaired_check_is_better_and_no_regression(tmp_path: Path) -> None:
    def fails_at_first(number: int, made: Night) -> None:
        if number < 2:
            made.judged(MEMORY, Outcome.FAIL)

    found = assess(series(tmp_path, 3, fails_at_first))
    assert told(found) == {(MEMORY, "better"): (2, 2)}
    assert command.exit_code(found) is Exit.OK


def test_a_figure_that_leaves_nothing_is_told_without_a_share(tmp_path: Path) -> None:
    def starts_late(number: int, made: Night) -> None:
        made.scaled(LATENCY, 0 if number < 12 else 1)

    (found,) = assess(series(tmp_path, 15, starts_late)).changed
    assert found.told.startswith("median 0 → 3")
    assert " µs (as three runs agree; " in found.told


def test_what_was_not_asked_for_was_not_lost(tmp_path: Path) -> None:
    def leaves_out(number: int, made: Night) -> None:
        if number >= 2:
            made.findings = [one for one in made.findings if one.check != CPU]
            made.info = made.info.model_copy(
                update={"selection": [one for one in made.info.selection if one != CPU]}
            )

    found = assess(series(tmp_path, 6, leaves_out))
    assert told(found) == {}
    assert found.unmeasured == []


def test_figures_of_another_profile_begin_anew(tmp_path: Path) -> None:
    def measures_otherwise(number: int, made: Night) -> None:
        if number >= 12:
            made.scaled(LATENCY, 3)
            settings = dict(made.info.profile["settings"])
            settings["throughput.seconds"] = {**settings["throughput.seconds"], "value": 9}
            made.info = made.info.model_copy(
                update={"profile": {**made.info.profile, "settings": settings}}
            )

    found = assess(series(tmp_path, 16, measures_otherwise))
    assert told(found) == {}
    trend = next(one for one in found.trends if one.name == LATENCY)
    assert trend.learning == 8  # 12 are needed, 4 are there
    pasts, _ = load_all(tmp_path)
    assert assess(pasts[:13]).environment[0].startswith("setting throughput.seconds: ")


def test_other_clusters_odd_clocks_and_company_are_told(tmp_path: Path) -> None:
    def oddly(number: int, made: Night) -> None:
        if number == 0:
            made.environment(cluster_uid="another")
        if number == 1:
            made.info = made.info.model_copy(
                update={"finished": made.info.started - timedelta(hours=1)}
            )
        if number == 2:
            made.info = made.info.model_copy(
                update={"beside": [OtherRun(id="20261101-000000-aaaa")]}
            )
        if number == 3:
            made.info = made.info.model_copy(update={"finished": None})

    pasts = series(tmp_path, 5, oddly)
    found = nightly.assess(pasts, pasts[3].run.info.started)
    assert found.runs == [one.id for one in pasts[1:]]
    assert found.troubles == [
        "1 run of other clusters left out, 1 of them of another cluster called local cluster",
        f"the clock went back during it: {pasts[1].id}",
        f"dated in the future, which makes the order of the runs doubtful: {pasts[4].id}",
        f"another run was active on the cluster; its figures are not counted: {pasts[2].id}",
        f"not finished: {pasts[3].id}",
    ]
    latency = next(one for one in found.trends if one.name == LATENCY)
    assert [one.run for one in latency.points] == [pasts[1].id, pasts[4].id]


def test_a_history_with_holes_is_told_and_used(tmp_path: Path) -> None:
    first, second, third, _ = series(tmp_path, 4)
    cut = first.run.folder / "run.json"
    cut.write_text(cut.read_text("utf-8")[:100])
    seen = second.run.folder / "observations" / "resize.json"
    seen.write_text("[1]")
    head = third.run.folder / "run.json"
    head.write_text(head.read_text("utf-8").replace('"schema_version": 1', '"schema_version": 9'))
    pasts, troubles = load_all(tmp_path)
    assert len(pasts) == 2
    assert len(troubles) == 2
    assert "run.json cannot be read" in troubles[0]
    assert "schema version 9" in troubles[1]
    assert "resize.json is not an observation" in pasts[0].run.damaged["resize"]


def test_no_run_and_no_folder_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no folder"):
        load_all(tmp_path / "none")
    with pytest.raises(ValueError, match="no run to assess"):
        assess([])


# -- what is written -------------------------------------------------------------------------------


def test_all_forms_are_written_and_what_changed_stands_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    series(tmp_path, 19, *ALL)
    assert command.regress(tmp_path, tmp_path / "history") == Exit.FAILED
    shown = capsys.readouterr().out
    assert shown.startswith(f"worse: throughput: {LATENCY}")
    page = (tmp_path / "history" / "history.html").read_text("utf-8")
    assert page.index("Changed since last time") < page.index("Earlier changes")
    assert page.index(LATENCY) < page.index("Earlier changes")
    stored = json.loads((tmp_path / "history" / "history.json").read_text("utf-8"))
    assert [one["direction"] for one in stored["changed"]] == ["worse"]
    summary = (tmp_path / "history" / "summary.md").read_text("utf-8")
    assert f"| worse | throughput: {LATENCY} " in summary
    assert "### Failing as before" in summary
    lines = (tmp_path / "history" / "kar.prom").read_text("utf-8").splitlines()
    assert lines[-1] == "# EOF"
    assert any(
        one.startswith("kar_check_outcome{")
        and f'check="{MEMORY}",outcome="fail"' in one
        and one.endswith("} 1")
        for one in lines
    )
    assert any('direction="worse"} 1' in one for one in lines)
    samples = [one for one in lines if not one.startswith("#")]
    assert len({one.rpartition(" ")[0] for one in samples}) == len(samples)


def test_a_hostile_cluster_cannot_break_page_summary_or_metrics(tmp_path: Path) -> None:
    bad = '</td>|"\n# EOF\n<script>alert(1)</script>\\'

    def hostile(number: int, made: Night) -> None:
        made.environment(cluster=bad)
        if number == 1:
            made.judged(MEMORY, Outcome.FAIL, bad)

    series(tmp_path, 2, hostile)
    command.regress(tmp_path, tmp_path / "history")
    page = (tmp_path / "history" / "history.html").read_text("utf-8")
    assert "<script" not in page
    summary = (tmp_path / "history" / "summary.md").read_text("utf-8")
    assert "<script" not in summary
    row = next(one for one in summary.splitlines() if one.startswith("| worse"))
    assert row.count("|") == 5
    metrics = (tmp_path / "history" / "kar.prom").read_text("utf-8")
    assert metrics.count("\n# EOF") == 1
    assert all(one.startswith(("# ", "kar_")) for one in metrics.splitlines())


# -- retention -------------------------------------------------------------------------------------


def test_the_newest_runs_of_each_cluster_are_kept(tmp_path: Path) -> None:
    def alternate(number: int, made: Night) -> None:
        made.environment(cluster_uid=f"cluster-{number % 2}")

    pasts = series(tmp_path, 30, alternate)
    assert command.prune(tmp_path, 13) == Exit.OK
    left, _ = load_all(tmp_path)
    assert [one.id for one in left] == [one.id for one in pasts[4:]]


def test_fewer_than_telling_a_change_takes_are_refused(tmp_path: Path) -> None:
    night(0).write(tmp_path)
    with pytest.raises(ValueError, match="at least 13"):
        command.prune(tmp_path, 12)
