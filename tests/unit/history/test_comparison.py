from __future__ import annotations

import csv
import io
import json
from datetime import timedelta
from pathlib import Path

import pytest

from kar_checks.commands import series as command
from kar_checks.exits import Exit
from kar_checks.history import comparison
from kar_checks.history.comparison import Comparison, UnlikeError
from kar_checks.history.runs import Past
from kar_checks.model import Evidence, Finding, NodeInfo, OtherRun, Outcome
from kar_checks.report import compare_page
from tests.unit.history.series import FORWARD, HERE, LATENCY, Night, night

MEMORY = "resize.memory_up"


def of(*pasts: Past, allow_different: bool = False) -> Comparison:
    return comparison.compare(pasts, allow_different=allow_different, most_days_apart=7)


def sampled(made: Night, name: str, samples: list[float]) -> None:
    made.measures = {
        topic: [
            one.model_copy(update={"samples": samples}) if one.name == name else one
            for one in found
        ]
        for topic, found in made.measures.items()
    }


def two(tmp_path: Path) -> tuple[Night, Night, Path]:
    first, second = night(0), night(1)
    first.environment(cluster="alpha", cluster_uid="a")
    second.environment(cluster="beta", cluster_uid="b")
    return first, second, tmp_path


def test_what_differs_stands_first_with_the_reason_of_each(tmp_path: Path) -> None:
    first, second, parent = two(tmp_path)
    second.judged(MEMORY, Outcome.FAIL, "the kernel kept 64Mi")
    found = of(first.write(parent), second.write(parent))
    assert [one.label for one in found.runs] == ["alpha", "beta"]
    assert [one.id for one in found.groups if one.differs] == ["resize"] == [found.groups[0].id]
    differing = [one for one in found.groups[0].checks if one.differs]
    assert [one.id for one in differing] == [MEMORY] == [found.groups[0].checks[0].id]
    cells = differing[0].cells
    assert [cell.outcome for cell in cells if cell] == ["pass", "fail"]
    assert cells[1] is not None and cells[1].reason == "the kernel kept 64Mi"
    assert [one.group for one in found.groups[1:]] == sorted(
        (one.group for one in found.groups[1:]),
        key=["MUST", "SHOULD", "beside the checklist"].index,
    )


def test_a_check_that_one_run_does_not_know_is_a_difference(tmp_path: Path) -> None:
    first, second, parent = two(tmp_path)
    second.findings = [one for one in second.findings if one.check != MEMORY]
    found = of(first.write(parent), second.write(parent))
    row = found.groups[0].checks[0]
    assert row.id == MEMORY and row.differs and row.cells[1] is None


def test_equal_runs_have_no_difference(tmp_path: Path) -> None:
    first, second, parent = two(tmp_path)
    found = of(first.write(parent), second.write(parent))
    assert not any(one.differs for one in found.groups)
    assert not any(one.differs for one in found.figures)


def test_three_sabotaged_clusters_differ_just_where_they_were_broken(tmp_path: Path) -> None:
    """Findings of three real runs of the embedded cluster; their facts were left out."""
    pasts: list[Past] = []
    for number, path in enumerate(sorted((HERE / "sabotaged").glob("*.json"))):
        made = night(number)
        made.environment(cluster=path.stem)
        made.findings = [Finding.model_validate(one) for one in json.loads(path.read_text())]
        made.measures = {}
        pasts.append(made.write(tmp_path))
    found = of(*pasts)
    differing = {
        one.id: [cell.outcome for cell in one.cells if cell] for one in found.groups if one.differs
    }
    assert [one.cluster for one in found.runs] == [
        "kernel_written_back",
        "one_binding_refused",
        "scheduler_ignores_gangs",
    ]
    assert differing == {
        "gang_scheduling": ["pass", "fail", "fail"],
        "resize": ["fail", "pass", "pass"],
    }


# -- figures ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "base", "other", "word"),
    [
        (FORWARD, [9.0, 9.1, 9.2], [1.0, 1.1, 1.2], "too few repeats"),
        (FORWARD, [9.0, 9.1, 9.2, 9.3, 9.4], [1.0, 1.1, 1.2, 1.3, 1.4], "worse"),
        (FORWARD, [1.0, 1.1, 1.2, 1.3, 1.4], [9.0, 9.1, 9.2, 9.3, 9.4], "better"),
        (FORWARD, [9.0, 9.1, 9.2, 9.3, 9.4], [9.05, 9.15, 9.0, 9.35, 9.3], "no difference shown"),
        (LATENCY, [9.0, 9.1, 9.2, 9.3, 9.4], [1.0, 1.1, 1.2, 1.3, 1.4], "better"),
    ],
)
def test_a_figure_is_faster_only_with_enough_repeats(
    tmp_path: Path, name: str, base: list[float], other: list[float], word: str
) -> None:
    first, second, parent = two(tmp_path)
    sampled(first, name, base)
    sampled(second, name, other)
    found = of(first.write(parent), second.write(parent))
    row = next(one for one in found.figures if one.name == name)
    assert row.verdicts[0] is None
    assert row.verdicts[1] is not None and row.verdicts[1].word == word
    assert row.differs == (word in ("better", "worse"))
    if row.differs:
        assert found.figures[0] is row
    if word == "too few repeats":
        assert row.verdicts[1].adjusted_p is None


def test_a_figure_that_was_nothing_before_has_a_direction_and_no_share(tmp_path: Path) -> None:
    first, second, parent = two(tmp_path)
    sampled(first, FORWARD, [0.0] * 5)
    sampled(second, FORWARD, [1.0, 1.1, 1.2, 1.3, 1.4])
    verdict = of(first.write(parent), second.write(parent)).figures[0].verdicts[1]
    assert verdict is not None
    assert (verdict.word, verdict.shift_percent) == ("better", None)
    assert verdict.told.startswith("higher, p = ")


def test_the_more_figures_the_stronger_a_difference_must_be(tmp_path: Path) -> None:
    """p = 0.032 shows a difference alone, and not as one of four."""
    first, second, parent = two(tmp_path)
    equal = [5.0, 5.1, 5.2, 5.3, 5.4]
    for made in (first, second):
        for name in ("TCP, 4 streams reverse", LATENCY, "a resize settles"):
            sampled(made, name, equal)
    sampled(first, FORWARD, [1.0, 2.0, 3.0, 4.0, 6.0])
    sampled(second, FORWARD, [3.5, 5.0, 7.0, 8.0, 9.0])
    found = of(first.write(parent), second.write(parent))
    row = next(one for one in found.figures if one.name == FORWARD)
    assert row.verdicts[1] is not None
    assert row.verdicts[1].p < 0.06
    assert row.verdicts[1].word == "no difference shown"


# -- like with like --------------------------------------------------------------------------------


def older(made: Night) -> None:
    made.info = made.info.model_copy(update={"started": made.info.started - timedelta(days=30)})


def of_another_minor(made: Night) -> None:
    made.info = made.info.model_copy(update={"kubernetes_minor": "1.36"})


def by_another_profile(made: Night) -> None:
    settings = dict(made.info.profile["settings"])
    settings["gang.window_seconds"] = {"value": 1, "origin": "test", "date": "2026-11-22"}
    profile = {**made.info.profile, "settings": settings}
    made.info = made.info.model_copy(update={"profile": profile})


def by_another_suite(made: Night) -> None:
    made.info = made.info.model_copy(update={"suite_version": "9.9.9"})


def cut_short(made: Night) -> None:
    made.info = made.info.model_copy(update={"interrupted": "signal SIGTERM"})


def elsewhere(made: Night) -> None:
    made.environment(local_cluster=False)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (older, "they are 29 days apart"),
        (of_another_minor, "Kubernetes minors 1.36, 1.37"),
        (by_another_profile, "gang.window_seconds: "),
        (by_another_suite, "versions of the suite 0.1.0, 9.9.9"),
        (cut_short, "did not finish"),
        (elsewhere, "one is of the embedded local cluster and another is not"),
    ],
)
def test_unlike_runs_are_refused_or_named_on_the_page(
    tmp_path: Path, change: object, why: str
) -> None:
    first, second, parent = two(tmp_path)
    assert callable(change)
    change(second)
    pasts = first.write(parent), second.write(parent)
    with pytest.raises(UnlikeError, match="--allow-different"):
        of(*pasts)
    found = of(*pasts, allow_different=True)
    assert len(found.unlike) == 1 and why in found.unlike[0]
    page = compare_page.render(found)
    assert "--allow-different" in page and found.unlike[0].split(" (")[0] in page


def test_other_evidence_for_the_same_requirement_is_unlike(tmp_path: Path) -> None:
    first, second, parent = two(tmp_path)
    for made, level in ((first, Evidence.SYNTHETIC), (second, Evidence.SIMULATED)):
        gang = [one for one in made.info.checks if one.topic == "gang"]
        made.findings += [
            made.findings[0].model_copy(
                update={"check": one.id, "variant": "native", "evidence": level}
            )
            for one in gang
        ]
    with pytest.raises(UnlikeError, match="gang_scheduling rests on simulated and synthetic"):
        of(first.write(parent), second.write(parent))


def test_clusters_of_one_name_and_runs_in_company_are_noted(tmp_path: Path) -> None:
    first, second, parent = two(tmp_path)
    second.environment(cluster="alpha")
    second.info = second.info.model_copy(update={"beside": [OtherRun(id="20261101-000000-aaaa")]})
    found = of(first.write(parent), second.write(parent))
    assert [one.label for one in found.runs] == ["alpha (0000)", "alpha (0001)"]
    assert "2 different clusters are all called alpha" in found.notes[0]
    assert "was not alone" in found.notes[1]


def test_node_shapes_stand_beside_the_figures(tmp_path: Path) -> None:
    first, second, parent = two(tmp_path)
    big = NodeInfo(
        name="n", uid="1", ready=True, architecture="arm64", instance_type="m9", cpu="64"
    )
    second.environment(nodes=[big, big.model_copy(update={"name": "o"})])
    found = of(first.write(parent), second.write(parent))
    assert found.runs[1].nodes == ["2 x m9, arm64, 64 CPU"]
    assert "2 x m9, arm64, 64 CPU" in compare_page.render(found)


@pytest.mark.parametrize("again", [1, 2])
def test_one_run_is_no_comparison(tmp_path: Path, again: int) -> None:
    past = night(0).write(tmp_path)
    with pytest.raises(ValueError, match=r"at least two|given twice"):
        of(*[past] * again)


# -- what is written -------------------------------------------------------------------------------


def test_page_csv_and_json_tell_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "judged", lambda run, _: (run.findings, False))
    first, second, parent = two(tmp_path)
    second.judged(MEMORY, Outcome.FAIL, "=HYPERLINK(<script>alert(1)</script>)")
    ids = [one.write(parent).id for one in (first, second)]
    code = command.compare_runs(
        ids, parent, tmp_path / "out", allow_different=False, most_days_apart=7
    )
    assert code == Exit.OK
    assert "In-place pod resize" in capsys.readouterr().out
    page = (tmp_path / "out" / "compare.html").read_text("utf-8")
    assert "<script" not in page
    assert page.index("What is different") < page.index(MEMORY) < page.index("What is alike")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "compare.csv").read_text())))
    (row,) = [one for one in rows if one["id"] == MEMORY]
    assert (row["alpha result"], row["beta result"], row["differs"]) == ("pass", "fail", "yes")
    assert row["beta why"].startswith("'=")
    assert {one["kind"] for one in rows} == {"requirement", "check", "figure"}
    stored = json.loads((tmp_path / "out" / "compare.json").read_text("utf-8"))
    assert stored["groups"][0]["differs"] is True
    assert Comparison.model_validate(stored).runs[1].label == "beta"
