from __future__ import annotations

from xml.etree import ElementTree

import pytest

from kar_checks.model import Figure, Hop, Lane, Series, Share, Span, Stop
from kar_checks.report import figures
from tests.unit.report import samples

EVERY = [figure for seen in samples.passed().observations for figure in seen.figures]
HOSTILE = [figure for seen in samples.hostile().observations for figure in seen.figures]


@pytest.mark.parametrize("figure", EVERY + HOSTILE)
def test_a_figure_is_a_well_formed_named_and_repeatable_picture(figure: Figure) -> None:
    drawn = figures.svg(figure, "f1")
    root = ElementTree.fromstring(drawn.replace("xlink:href", "href"))  # noqa: S314
    assert root.get("role") == "img"
    assert str(root.get("aria-labelledby")).split() == ["f1-title", "f1-desc"]
    assert figures.svg(figure, "f1") == drawn
    assert "<script" not in drawn


def test_two_figures_share_no_id_and_no_colour_of_their_own() -> None:
    first, second = (figures.svg(EVERY[0], prefix) for prefix in ("a", "b"))
    for drawn, prefix in ((first, "a"), (second, "b")):
        ids = [one.get("id", "") for one in _elements(drawn)]
        assert all(one.startswith(f"{prefix}-") for one in ids if one)
        assert "<style" not in drawn
        assert "#0" not in drawn.replace(f"#{prefix}", "")


def test_the_data_stands_in_a_table_and_is_cut_with_a_count() -> None:
    head, rows, more = figures.rows(EVERY[0])
    assert head == ["Series", "At", "Value (millicores)"]
    assert (len(rows), more) == (figures.MOST_ROWS, 3)
    assert rows[0] == ["limit (cpu.max)", "0.00 s", "200"]


def test_a_figure_without_data_or_with_broken_numbers_is_drawn() -> None:
    broken = Series(name="s", points=[(0, float("nan")), (1, float("inf")), (2, 3)])
    for series in ([], [broken], [Series(name="", points=[])]):
        figure = Figure(kind="trace", title="t", checks=[], seconds=0, series=series)
        assert figures.svg(figure, "f").startswith("<svg")
    assert figures.svg(Figure(kind="timeline", title="t", checks=[], seconds=3), "f")


WAY = Figure(
    kind="way",
    title="The way of a request",
    checks=[],
    seconds=1,
    stops=[Stop(name="client"), Stop(name="<router>", detail="n1"), Stop(name="decode")],
    hops=[
        Hop(source=0, target=1, label="prompt"),
        Hop(source=2, target=1, label="64 MiB & more", heavy=True),
        Hop(source=2, target=7, label="to nowhere"),
    ],
)


def test_a_way_is_drawn_told_and_tabled_in_its_steps() -> None:
    drawn = figures.svg(WAY, "f")
    assert "1. prompt" in drawn and "2. 64 MiB &amp; more" in drawn
    assert "nowhere" not in drawn
    assert drawn.count("var(--figure-series-1)") >= 1
    head, rows, more = figures.rows(WAY)
    assert head == ["Step", "From", "To", "What"]
    assert rows == [["1", "client", "<router>", "prompt"], ["2", "decode", "<router>", rows[1][3]]]
    assert more == 0
    assert "client to <router>: prompt" in figures.alternative(WAY)


def test_a_step_of_a_request_has_the_colours_of_what_it_is_like() -> None:
    for state, role in (("waits", "pending"), ("computes", "running"), ("strange", "gone")):
        lane = Lane(name="one", spans=[Span(start=0, end=1, state=state)])
        figure = Figure(kind="timeline", title="t", checks=[], seconds=1, lanes=[lane])
        drawn = figures.svg(figure, "f")
        assert f"var(--figure-{role}-edge)" in drawn
        assert f">{state}<" in drawn


def _elements(drawn: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(drawn.replace("xlink:href", "href")).iter())  # noqa: S314


def test_shares_show_each_value_its_interval_and_what_was_expected() -> None:
    figure = Figure(
        kind="shares",
        title="Shares",
        checks=["toy.works"],
        unit="share of the answers",
        seconds=0,
        shares=[
            Share(group="first", name="a", value=0.8, low=0.7, high=0.9, expected=0.8),
            Share(group="first", name="<b>", value=0.2, low=0.1, high=0.3),
        ],
    )
    drawn = figures.svg(figure, "x")
    assert "80%" in drawn
    assert "expected" in drawn
    assert "<b>" not in drawn
    assert figures.alternative(figure) == "shares with intervals; first: a 80%; first: <b> 20%"
    head, rows, left_out = figures.rows(figure)
    assert rows[0] == ["first", "a", "80.0%", "70.0%", "90.0%", "80.0%"]
    assert (len(head), rows[1][5], left_out) == (6, "", 0)
