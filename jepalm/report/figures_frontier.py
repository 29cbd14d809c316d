"""The frontier: how far from real text each way to write is, against what it costs."""

from __future__ import annotations

from math import inf

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

from jepalm.evaluation.rows import VERIFIED, VERIFIED_NGRAM, is_baseline
from jepalm.report.draw import Art, canvas, colour, finish
from jepalm.report.frontier import AXES, QUALITY, Point, points
from jepalm.report.read import RunRecord

NAME = "frontier"
COSTS = {AXES[0]: "forward passes a text (log)", AXES[1]: "milliseconds a text, by itself (log)"}
STYLES = {"ngram": ("s", "control"), VERIFIED: ("D", "generation"), VERIFIED_NGRAM: ("d", "length")}
"""Marker and colour of a column; the run's own texts and the baselines have theirs."""
OWN = {"refined": ("o", "embedding"), "fewer kept of a passage": ("h", "reconstruction")}
"""The same of the run's own texts, a line each from those of one pass a passage."""
BASELINES = "^vP*X<>"


def frontier(record: RunRecord) -> Art | None:
    """Gap to real text under the scorer against passes and against time; a row of panels a split."""
    found = {split: drawn for split, told in record.evaluations.items() if (drawn := _drawable(points(told)))}
    if not found:
        return None
    with canvas(9.6, 3.3 * len(found) + 0.3) as figure:
        grid = figure.subplots(len(found), 2, squeeze=False, sharey="row")
        named: dict[str, Artist] = {}
        for (split, ways), row in zip(found.items(), grid, strict=True):
            told = record.evaluations[split]
            for axes, cost in zip(row, AXES, strict=True):
                named |= _panel(axes, ways, cost)
            row[0].set_title(f"{split}, {told.n_prompts:,} prompts, under {told.scorer}")
            row[0].set_ylabel("NLL minus that of real text (nats/char)")
        figure.legend(named.values(), named.keys(), loc="outside right upper")
        return finish(
            figure,
            NAME,
            "Frontier: quality against cost (held out)",
            "Each point is one way to write; the numbers are the passes of the run's own texts. Real text is"
            " the zero line; text below it is likelier than real text, which is as wrong as above it. Cheaper"
            " is further left.",
        )


def _drawable(ways: list[Point]) -> list[Point]:
    """Those with a finite gap and costs above 0."""
    return [
        way
        for way in ways
        if abs(way.values.get(QUALITY, inf)) < inf and all(0 < way.values.get(cost, 0) < inf for cost in AXES)
    ]


def _panel(axes: Axes, ways: list[Point], cost: str) -> dict[str, Artist]:
    """Draw the points; return what stands for each name."""
    named: dict[str, Artist] = {"real text": axes.axhline(0, color=colour("ink"), linewidth=1.0)}
    own = sorted((way for way in ways if _is_own(way)), key=lambda way: way.values[cost])
    alone = [way for way in own if way.column == "model"]
    further = {
        "fewer kept of a passage": [way for way in own if way.column.startswith("kept_")],
        "refined": [way for way in own if way.column.startswith("passes_")],
    }
    lines = {kind: alone + found for kind, found in further.items() if found} or {"": alone}
    for kind, found in lines.items():
        marker, shade = OWN.get(kind, OWN["refined"])
        (line,) = axes.plot(
            [way.values[cost] for way in found],
            [way.values[QUALITY] for way in found],
            marker=marker,
            markersize=6,
            linewidth=1.0,
            color=colour(shade),
        )
        if found:
            named[f"this run, {kind}" if kind else "this run"] = line
    for way in own:
        axes.annotate(
            f"{way.values[AXES[0]]:g}",
            (way.values[cost], way.values[QUALITY]),
            xytext=(0, 6),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            color=colour("ink"),
        )
    for way in ways:
        if not _is_own(way):
            marker, shade = _style(way.column)
            (mark,) = axes.plot(
                [way.values[cost]],
                [way.values[QUALITY]],
                marker=marker,
                linestyle="none",
                markersize=6,
                color=colour(shade),
            )
            named[way.name] = mark
    axes.set_xscale("log")
    axes.margins(x=0.12, y=0.15)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(COSTS[cost])
    return named


def _is_own(way: Point) -> bool:
    """Whether the run wrote it alone, in one pass or in more."""
    return way.column not in STYLES and not is_baseline(way.column)


def _style(column: str) -> tuple[str, str]:
    """Marker and colour."""
    if column in STYLES:
        return STYLES[column]
    number = int(column.partition("_")[2] or 1)
    return BASELINES[(number - 1) % len(BASELINES)], "other"
