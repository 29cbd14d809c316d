"""The frontier: how far from real text each way to write is, against what it costs."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

from jepalm.evaluation.rows import VERIFIED, is_baseline
from jepalm.report.draw import Art, canvas, colour, finish
from jepalm.report.frontier import AXES, QUALITY, Point, points
from jepalm.report.read import RunRecord

NAME = "frontier"
MARKS = {"ngram": ("s", "control"), "baseline": ("^", "other"), VERIFIED: ("D", "generation")}
OWN = ("o", "embedding")
COSTS = {AXES[0]: "forward passes a text (log)", AXES[1]: "milliseconds a text, by itself (log)"}


def frontier(record: RunRecord) -> Art | None:
    """Gap to real text under the scorer against passes and against time; a row of panels a split."""
    found = {split: drawn for split, told in record.evaluations.items() if (drawn := _drawable(points(told)))}
    if not found:
        return None
    with canvas(9.6, 3.3 * len(found) + 0.3) as figure:
        grid = figure.subplots(len(found), 2, squeeze=False, sharey="row")
        for (split, ways), row in zip(found.items(), grid, strict=True):
            told = record.evaluations[split]
            for axes, cost in zip(row, AXES, strict=True):
                _panel(axes, ways, cost)
            row[0].set_title(f"{split}, {told.n_prompts:,} prompts, under {told.scorer}")
            row[0].set_ylabel("NLL minus that of real text (nats a character)")
        return finish(
            figure,
            NAME,
            "Frontier: quality against cost (held out)",
            "Each point is one way to write. Real text is the zero line; text below it is likelier than real"
            " text, which is as wrong as above it. Cheaper is further left.",
        )


def _drawable(ways: list[Point]) -> list[Point]:
    """Those with a finite gap and costs above 0."""
    return [
        way
        for way in ways
        if QUALITY in way.values
        and abs(way.values[QUALITY]) < float("inf")
        and all(0 < way.values.get(cost, 0) < float("inf") for cost in AXES)
    ]


def _panel(axes: Axes, ways: list[Point], cost: str) -> None:
    axes.axhline(0, color=colour("ink"), linewidth=1.0)
    axes.annotate(
        "real text",
        (1, 0),
        xycoords=("axes fraction", "data"),
        xytext=(-2, 3),
        textcoords="offset points",
        ha="right",
        fontsize=8,
        color=colour("ink"),
    )
    own = sorted((way for way in ways if _mark(way.column) == OWN), key=lambda way: way.values[cost])
    axes.plot(
        [way.values[cost] for way in own],
        [way.values[QUALITY] for way in own],
        color=colour(OWN[1]),
        linewidth=1.0,
        alpha=0.6,
    )
    for number, way in enumerate(sorted(ways, key=lambda way: (way.values[cost], way.values[QUALITY]))):
        marker, name = _mark(way.column)
        x, y = way.values[cost], way.values[QUALITY]
        axes.plot([x], [y], marker=marker, linestyle="none", markersize=6, color=colour(name))
        axes.annotate(
            way.name,
            (x, y),
            xytext=(5, 5 if number % 2 == 0 else -11),
            textcoords="offset points",
            fontsize=8,
            color=colour("ink"),
        )
    axes.set_xscale("log")
    axes.margins(x=0.25, y=0.15)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(COSTS[cost])


def _mark(column: str) -> tuple[str, str]:
    """Marker and colour: the model and its refined texts are one way with more and fewer passes."""
    return MARKS.get("baseline" if is_baseline(column) else column, OWN)
