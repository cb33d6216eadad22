"""Figures as inline SVG, coloured by the page's own variables so that they follow its theme."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any, Literal, cast

from kar_checks.model import Figure, Hop, Lane, Mark
from kar_checks.words import safe

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# matplotlib draws with these colours; they stand for variables of the style sheet.
_ROLES = {
    "ink": "#010101",
    "muted": "#020202",
    "grid": "#030303",
    "mark": "#040404",
    "halo": "#050505",
    "pending": "#0a0a01",
    "pending-edge": "#0a0a02",
    "bound": "#0b0b01",
    "bound-edge": "#0b0b02",
    "running": "#0c0c01",
    "running-edge": "#0c0c02",
    "completed": "#0d0d01",
    "completed-edge": "#0d0d02",
    "failed": "#0e0e01",
    "failed-edge": "#0e0e02",
    "gone": "#0f0f01",
    "gone-edge": "#0f0f02",
    "series-1": "#0a0b01",
    "series-2": "#0a0b02",
    "series-3": "#0a0b03",
    "series-4": "#0a0b04",
    "band": "#0a0c01",
    "heat-1": "#0a0d01",
    "heat-2": "#0a0d02",
    "heat-3": "#0a0d03",
    "heat-4": "#0a0d04",
    "heat-5": "#0a0d05",
    "heat-ink-light": "#0a0e01",
    "heat-ink-dark": "#0a0e02",
}
_HEAT_STEPS = 5
_DARK = ("heat-4", "heat-5")
"""Steps that want the other ink: at least 4.5 to 1 on each, in the light style and the dark one."""
_MOST_NUMBERED = 12
_HATCH = {"pending": "////", "failed": "xxxx"}
_LIKE = {
    "waits": "pending",
    "passes on": "bound",
    "computes": "running",
    "moves": "completed",
    "answers": "running",
}
"""States that look like one of the above."""
_LINES: tuple[tuple[Literal["-", "--", "-.", ":"], str], ...] = (
    ("-", ""),
    ("--", ""),
    ("-.", "o"),
    (":", "s"),
)
_WIDTH = 7.4
MOST_LANES = 40
MOST_POINTS = 600
MOST_ROWS = 120


def svg(figure: Figure, prefix: str) -> str:
    """Return an ``<svg>`` element; ``prefix`` keeps its ids apart from those of others."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as Drawing

    style: Any = {  # matplotlib types each key by a literal of its own
        "svg.fonttype": "none",
        "svg.hashsalt": "kar-checks",
        "text.parse_math": False,  # a "$" in a name of the cluster is no formula
        "font.size": 9,
        "hatch.linewidth": 0.7,
        "axes.edgecolor": _ROLES["grid"],
        "text.color": _ROLES["ink"],
        "axes.labelcolor": _ROLES["muted"],
        "xtick.color": _ROLES["muted"],
        "ytick.color": _ROLES["ink"],
    }
    out = io.StringIO()
    with mpl.rc_context(style), warnings.catch_warnings():
        # A glyph that matplotlib's font lacks is drawn by the browser's.
        warnings.simplefilter("ignore", UserWarning)
        lanes = _shown_lanes(figure)
        height = _height(figure, lanes)
        rows = _mark_rows(figure)
        drawing = Drawing(figsize=(_WIDTH, height + 0.17 * max(rows, default=0)))
        drawing.set_canvas(FigureCanvasSVG(drawing))
        axes = drawing.add_subplot()
        match figure.kind:
            case "timeline":
                _timeline(axes, figure, lanes)
            case "trace":
                _trace(axes, figure)
            case "way":
                _way(axes, figure)
            case "heat":
                _heat(axes, figure)
            case "shares":
                _shares(axes, figure)
        if figure.kind in ("timeline", "trace", "shares"):
            _frame(axes, figure)
            _marks(axes, figure, rows)
        nothing: dict[str, Any] = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        drawing.savefig(out, format="svg", transparent=True, bbox_inches="tight", metadata=nothing)
    return _inline(out.getvalue(), figure, prefix)


def alternative(figure: Figure) -> str:
    """Return the sentence that stands for the figure where it cannot be seen."""
    if figure.kind == "way":
        told = "; ".join(
            f"{source} to {target}: {label}" for _, source, target, label in _hops(figure)
        )
        return f"the way between {len(figure.stops)} places in {len(figure.hops)} steps: {told}"
    if figure.kind == "heat":
        size = f"{len(figure.values)} rows, {figure.unit}"
        known = _known(figure)
        return f"heat map of {size}" + (f", {min(known):.3g} to {max(known):.3g}" if known else "")
    if figure.kind == "shares":
        found = [
            f"{safe(one.group, 60)}: {safe(one.name, 60)} {one.value:.0%}" for one in figure.shares
        ]
        return f"shares with intervals; {'; '.join(found[:24])}"
    what = (
        f"timeline of {len(figure.lanes)} lanes"
        if figure.kind == "timeline"
        else f"trace of {', '.join(safe(one.name, 60) for one in figure.series)}"
    )
    marks = "; ".join(f"{safe(one.label, 60)} at {one.at:.1f} s" for one in figure.marks[:8])
    return f"{what} over {figure.seconds:.0f} s" + (f"; {marks}" if marks else "")


def rows(figure: Figure) -> tuple[list[str], list[list[str]], int]:
    """Return the figure's data as a table: its head, its first rows and how many were left out."""
    if figure.kind == "timeline":
        head = ["Lane", "State", "From", "To"]
        found = [
            [lane.name, one.state, _at(one.start), _at(one.end)]
            for lane in figure.lanes
            for one in lane.spans
        ]
    elif figure.kind == "way":
        head = ["Step", "From", "To", "What"]
        found = [list(one) for one in _hops(figure)]
    elif figure.kind == "heat":
        head = ["Row", "Column", f"Value ({figure.unit})" if figure.unit else "Value"]
        found = [
            [row, column, f"{value:,.6g}"]
            for row, line in zip(figure.names, figure.values, strict=False)
            for column, value in zip(figure.names, line, strict=False)
            if value is not None
        ]
    elif figure.kind == "shares":
        head = ["Phase", "Of", "Share", "From", "To", "Expected"]
        found = [
            [
                one.group,
                one.name,
                f"{one.value:.1%}",
                f"{one.low:.1%}",
                f"{one.high:.1%}",
                "" if one.expected is None else f"{one.expected:.1%}",
            ]
            for one in figure.shares
        ]
    else:
        head = ["Series", "At", f"Value ({figure.unit})" if figure.unit else "Value"]
        found = [
            [one.name, _at(at), f"{value:,.6g}"]
            for one in figure.series
            for at, value in one.points
        ]
    return head, found[:MOST_ROWS], max(0, len(found) - MOST_ROWS)


def _known(figure: Figure) -> list[float]:
    return [one for line in figure.values for one in line if one is not None and one == one]


def _at(value: float | None) -> str:
    return "beyond the end" if value is None else f"{value:.2f} s"


def _end(figure: Figure) -> float:
    return figure.seconds if math.isfinite(figure.seconds) and figure.seconds > 0 else 1.0


def _shown_lanes(figure: Figure) -> Sequence[Lane]:
    return figure.lanes[:MOST_LANES]


def _height(figure: Figure, lanes: Sequence[Lane]) -> float:
    """Return the height of the drawing in inches, without the labels of its marks."""
    if figure.kind == "timeline":
        return 0.95 + 0.3 * len(lanes)
    if figure.kind == "heat":
        return 1.4 + 0.22 * max(4, len(figure.values))
    return 0.9 + 0.34 * len(_shown_hops(figure)) if figure.kind == "way" else 2.7


def _hops(figure: Figure) -> list[tuple[str, str, str, str]]:
    """Return the steps of a way as words: number, from, to, what."""
    names = [safe(one.name, 60) for one in figure.stops]
    return [
        (str(number), names[one.source], names[one.target], safe(one.label, 120))
        for number, one in enumerate(_shown_hops(figure), 1)
    ]


def _shown_hops(figure: Figure) -> list[Hop]:
    """Return the hops that can be drawn: those between stops that exist."""
    there = range(len(figure.stops))
    found = [one for one in figure.hops if one.source in there and one.target in there]
    return found[:MOST_LANES]


def _way(axes: Axes, figure: Figure) -> None:
    """Draw a column for each stop, and the hops as arrows from top to bottom."""
    hops = _shown_hops(figure)
    bottom = len(hops) + 0.4
    for column, stop in enumerate(figure.stops):
        axes.plot([column, column], [0, bottom], color=_ROLES["grid"], linewidth=1, zorder=1)
        axes.text(column, -0.95, safe(stop.name, 26), ha="center", va="bottom", weight="bold")
        axes.text(
            column,
            -0.35,
            safe(stop.detail, 30),
            ha="center",
            va="bottom",
            fontsize=8,
            color=_ROLES["muted"],
        )
    for row, hop in enumerate(hops, 1):
        colour = _ROLES["series-1" if hop.heavy else "muted"]
        axes.annotate(
            "",
            xy=(hop.target, row),
            xytext=(hop.source, row),
            arrowprops={
                "arrowstyle": "-|>",
                "color": colour,
                "linewidth": 3.2 if hop.heavy else 1.2,
                "shrinkA": 0,
                "shrinkB": 0,
            },
            zorder=3,
        )
        axes.text(
            (hop.source + hop.target) / 2,
            row - 0.14,
            f"{row}. {safe(hop.label, 46)}",
            ha="center",
            va="bottom",
            fontsize=8,
            zorder=4,
            bbox={"boxstyle": "round,pad=0.1", "facecolor": _ROLES["halo"], "edgecolor": "none"},
        )
    axes.set_xlim(-0.5, len(figure.stops) - 0.5)
    axes.set_ylim(bottom, -1.6)
    axes.set_axis_off()


def _timeline(axes: Axes, figure: Figure, lanes: Sequence[Lane]) -> None:
    from matplotlib.patches import Patch

    total = _end(figure)
    seen: dict[str, None] = {}
    for row, lane in enumerate(lanes):
        for span in lane.spans:
            end = total if span.end is None else min(span.end, total)
            width = max(end - span.start, 0)
            state = _look(span.state)
            expected = span.state == "expected"
            seen[span.state] = None
            axes.barh(
                row,
                max(width, total * 0.002),
                left=span.start,
                height=0.62,
                facecolor="none" if expected else _ROLES[state],
                edgecolor=_ROLES["muted"] if expected else _ROLES[f"{state}-edge"],
                linestyle="--" if expected else "-",
                linewidth=0.9,
                hatch=_HATCH.get(state, ""),
                zorder=2,
            )
            # Wide bars name their state, so that nobody has to tell colours apart.
            if width > total * 0.11:
                axes.text(
                    span.start + width / 2,
                    row,
                    span.state + (" ▸" if span.end is None else ""),
                    ha="center",
                    va="center",
                    fontsize=8,
                    zorder=4,
                    bbox={
                        "boxstyle": "round,pad=0.12",
                        "facecolor": _ROLES["halo"] if state in _HATCH else "none",
                        "edgecolor": "none",
                    },
                )
    axes.set_yticks(range(len(lanes)), [safe(lane.name, 30) for lane in lanes])
    axes.set_ylim(len(lanes) - 0.4, -0.6)
    for row in range(1, len(lanes)):
        if lanes[row].group != lanes[row - 1].group:
            axes.axhline(row - 0.5, color=_ROLES["grid"], linewidth=0.8)
    handles = [
        Patch(
            facecolor="none" if state == "expected" else _ROLES[_look(state)],
            edgecolor=_ROLES["muted" if state == "expected" else f"{_look(state)}-edge"],
            hatch=_HATCH.get(_look(state), ""),
            linestyle="--" if state == "expected" else "-",
            label=state,
        )
        for state in seen
    ]
    _legend(axes, handles)


def _look(state: str) -> str:
    """Return the role in whose colours a state is drawn."""
    found = _LIKE.get(state, state)
    return found if f"{found}-edge" in _ROLES else "gone"


def _trace(axes: Axes, figure: Figure) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = []
    for index, one in enumerate(figure.series):
        colour = _ROLES[f"series-{index % len(_LINES) + 1}"]
        dash, dot = _LINES[index % len(_LINES)]
        points = [(x, y) for x, y in one.points if math.isfinite(x) and math.isfinite(y)]
        step = max(1, math.ceil(len(points) / MOST_POINTS))
        points = [*points[::step], *([points[-1]] if points else [])]
        if one.stepped and points:
            # The last value holds until the measurement's end.
            points.append((max(points[-1][0], _end(figure)), points[-1][1]))
        axes.plot(
            [x for x, _ in points],
            [y for _, y in points],
            color=colour,
            linestyle=dash,
            marker=dot if len(points) < 40 else "",
            markersize=3.5,
            linewidth=1.8,
            drawstyle="steps-post" if one.stepped else "default",
            zorder=3,
        )
        handles.append(
            Line2D(
                [],
                [],
                color=colour,
                linestyle=dash,
                marker=dot,
                markersize=3.5,
                linewidth=1.8,
                label=safe(one.name, 40),
            )
        )
    for band in figure.bands:
        if math.isfinite(band.low) and math.isfinite(band.high):
            axes.axhspan(band.low, band.high, color=_ROLES["band"], zorder=1)
            handles.append(Patch(facecolor=_ROLES["band"], label=safe(band.label, 60)))
    axes.margins(y=0.12)
    low, high = axes.get_ylim()
    if low > 0 and low < high * 0.6:
        axes.set_ylim(bottom=0)
    axes.set_ylabel(safe(figure.unit, 30))
    axes.tick_params(axis="y", labelcolor=_ROLES["muted"])
    axes.grid(axis="y", color=_ROLES["grid"], linewidth=0.5, zorder=0)
    _legend(axes, handles)


def _heat(axes: Axes, figure: Figure) -> None:
    """Draw a cell for each value, darker where it is higher, and its number where there is room."""
    from matplotlib.patches import Patch, Rectangle

    known = _known(figure)
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    size = len(figure.values)
    for row, line in enumerate(figure.values):
        for column, value in enumerate(line):
            if value is None or value != value:
                continue
            step = _heat_step(value, low, high)
            cell = Rectangle((column - 0.48, row - 0.48), 0.96, 0.96, facecolor=_ROLES[step])
            axes.add_patch(cell)
            if size <= _MOST_NUMBERED:
                ink = "heat-ink-dark" if step in _DARK else "heat-ink-light"
                axes.text(
                    column,
                    row,
                    f"{value:.3g}",
                    ha="center",
                    va="center",
                    fontsize=7.5,
                    color=_ROLES[ink],
                )
    names = [safe(one, 26) for one in figure.names[:size]]
    axes.set_yticks(range(len(names)), names)
    axes.set_xticks(range(len(names)), names, rotation=90 if size > 4 else 0)
    axes.tick_params(length=0, axis="both", labelsize=7.5 if size > _MOST_NUMBERED else 8.5)
    axes.set_xlim(-0.5, size - 0.5)
    axes.set_ylim(size - 0.5, -0.5)
    axes.xaxis.tick_top()
    for side in axes.spines.values():
        side.set_visible(False)
    handles = [
        Patch(
            facecolor=_ROLES[f"heat-{index + 1}"],
            label=f"from {low + (high - low) * index / _HEAT_STEPS:.3g}",
        )
        for index in range(_HEAT_STEPS)
        if high > low or index == _HEAT_STEPS - 1
    ]
    handles.append(Patch(facecolor="none", label=safe(figure.unit, 20)))
    axes.legend(
        handles=handles,
        loc="center left",
        bbox_to_anchor=(1.01, 0.5),
        frameon=False,
        fontsize=8.5,
    )


def _heat_step(value: float, low: float, high: float) -> str:
    place = (value - low) / (high - low) if high > low else 1.0
    return f"heat-{min(_HEAT_STEPS, int(place * _HEAT_STEPS) + 1)}"


_DOTS = ("o", "s", "^", "D")


def _shares(axes: Axes, figure: Figure) -> None:
    """Draw a column for each group, and in it a dot with its interval for each name."""
    from matplotlib.lines import Line2D

    groups = list(dict.fromkeys(one.group for one in figure.shares))
    names = list(dict.fromkeys(one.name for one in figure.shares))
    step = 0.7 / max(1, len(names))
    for one in figure.shares:
        index = names.index(one.name)
        at = groups.index(one.group) + (index - (len(names) - 1) / 2) * step
        colour = _ROLES[f"series-{index % len(_DOTS) + 1}"]
        if one.expected is not None:
            axes.plot(
                [at - step * 0.4, at + step * 0.4],
                [one.expected, one.expected],
                color=_ROLES["mark"],
                linewidth=1.4,
                linestyle=(0, (3, 2)),
                zorder=2,
            )
        axes.plot([at, at], [one.low, one.high], color=colour, linewidth=1.6, zorder=3)
        axes.plot([at], [one.value], color=colour, marker=_DOTS[index % len(_DOTS)], zorder=4)
        axes.annotate(
            f"{one.value:.0%}",
            (at, one.value),
            xytext=(6, 4),
            textcoords="offset points",
            fontsize=8,
            zorder=5,
        )
    axes.set_xticks(range(len(groups)), [safe(one, 24) for one in groups])
    axes.set_xlim(-0.6, len(groups) - 0.4)
    axes.set_ylim(-0.03, 1.03)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set_ylabel(safe(figure.unit, 30))
    axes.tick_params(axis="y", labelcolor=_ROLES["muted"])
    axes.grid(axis="y", color=_ROLES["grid"], linewidth=0.5, zorder=0)
    handles: list[Any] = [
        Line2D(
            [],
            [],
            color=_ROLES[f"series-{index % len(_DOTS) + 1}"],
            marker=_DOTS[index % len(_DOTS)],
            linewidth=1.6,
            label=safe(name, 40),
        )
        for index, name in enumerate(names)
    ]
    if any(one.expected is not None for one in figure.shares):
        expected = {"color": _ROLES["mark"], "linestyle": (0, (3, 2)), "label": "expected"}
        handles.append(Line2D([], [], linewidth=1.4, **expected))  # type: ignore[arg-type]
    _legend(axes, handles)


def _legend(axes: Axes, handles: list[Any]) -> None:
    from matplotlib.transforms import ScaledTranslation

    if handles:
        # A fixed distance below the axis, however high the figure is.
        below = axes.transAxes + ScaledTranslation(0, -26 / 72, axes.figure.dpi_scale_trans)
        axes.legend(
            handles=handles[:10],
            loc="upper left",
            bbox_to_anchor=(0, 0),
            bbox_transform=below,
            ncols=5,
            frameon=False,
            borderaxespad=0,
            borderpad=0,
            columnspacing=1.4,
            handlelength=2.2,
            fontsize=8.5,
        )


def _frame(axes: Axes, figure: Figure) -> None:
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0, axis="y")
    axes.tick_params(length=3, axis="x", color=_ROLES["grid"])
    if figure.kind == "shares":
        return
    axes.set_xlim(0, _end(figure))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g} s")
    axes.grid(axis="x", color=_ROLES["grid"], linewidth=0.5, zorder=0)


def _mark_rows(figure: Figure) -> list[int]:
    """Return for each mark the row of its label, so that labels never overlap."""
    ends: list[float] = []
    found: list[int] = []
    for mark in _sorted_marks(figure):
        start = mark.at / _end(figure)
        length = 0.015 * (len(safe(mark.label, 40)) + 2)
        start = min(max(0.0, start - length / 2), 1 - length)
        row = next((i for i, end in enumerate(ends) if end <= start), len(ends))
        if row == len(ends):
            ends.append(0)
        ends[row] = start + length
        found.append(row)
    return found


def _sorted_marks(figure: Figure) -> list[Mark]:
    return sorted(
        (one for one in figure.marks if 0 <= one.at <= _end(figure)), key=lambda one: one.at
    )[:12]


def _marks(axes: Axes, figure: Figure, rows: list[int]) -> None:
    for mark, row in zip(_sorted_marks(figure), rows, strict=True):
        label = safe(mark.label, 40)
        half = 0.0075 * (len(label) + 2)
        at = min(max(mark.at / _end(figure), half), 1 - half) * _end(figure)
        axes.axvline(mark.at, color=_ROLES["mark"], linewidth=1, linestyle=(0, (3, 2)), zorder=5)
        axes.annotate(
            label,
            (at, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 4 + 11.5 * row),
            textcoords="offset points",
            ha="center",
            fontsize=8.5,
            color=_ROLES["mark"],
            annotation_clip=False,
        )


def _inline(text: str, figure: Figure, prefix: str) -> str:
    """Return matplotlib's file as an element of a page: themed, named and free of clashes."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", text, flags=re.S)
    # Its style sheet would apply to the whole page; the page's own has the same two lines.
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, flags=re.S)
    names = {colour: role for role, colour in _ROLES.items()}
    text = re.sub("|".join(names), lambda match: f"var(--figure-{names[match.group()]})", text)
    text = re.sub(r"font-family: [^;\"]*", "font-family: var(--sans)", text)
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = re.sub(r"url\(#", f"url(#{prefix}-", text)
    text = re.sub(r'href="#', f'href="#{prefix}-', text)
    text = re.sub(r"\n\s*", "\n", text)
    head = cast("re.Match[str]", re.match(r"<svg[^>]*>", text))
    view = cast("re.Match[str]", re.search(r'viewBox="[^"]*"', head.group()))
    opened = (
        f'<svg {view.group()} role="img" aria-labelledby="{prefix}-title {prefix}-desc">'
        f'<title id="{prefix}-title">{escape(safe(figure.title, 200))}</title>'
        f'<desc id="{prefix}-desc">{escape(alternative(figure))}</desc>'
    )
    return opened + text[head.end() :].strip()
