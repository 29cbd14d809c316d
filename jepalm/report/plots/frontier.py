"""The frontier: how far from real text each way to write is, against what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from math import inf

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

from jepalm.evaluation.rows import Evaluation
from jepalm.report.analysis.evaluation import kind, short
from jepalm.report.analysis.frontier import AXES, QUALITY, Point, points, points_of_runs
from jepalm.report.plots.draw import Plot, canvas, colour, finish
from jepalm.report.read import RunRecord

NAME = "frontier"
COSTS = {AXES[0]: "forward passes a text (log)", AXES[1]: "milliseconds a text, by itself (log)"}
LABELS = ((0.995, "right"), (0.5, "center"), (0.005, "left"))
"""Where along a line its name stands, in turns: neighbours may be close."""
STYLES = {"ngram": ("s", "control"), "verified": ("D", "generation"), "verified_ngram": ("d", "length")}
"""Marker and colour of a kind of texts; runs' own texts and the baselines have theirs."""
OWN = {
    "refined": ("passes", "o", "-"),
    "fewer kept of a passage": ("kept", "h", "--"),
    "kept by prefix probability": ("sure", "o", "-."),
}
"""Kind, marker and dashes of a run's own texts, in lines that begin with those of one pass a passage."""
RUNS = ("embedding", "reconstruction", "regularizer", "ramp2")
"""Colours of the runs."""
BASELINES = "^vP*X<>"


def frontier(records: Mapping[str, RunRecord]) -> Plot | None:
    """Draw the gap to real text under the scorer against passes and against time; a row of panels a split.

    Args:
        records: runs by their names, of which those are drawn that were evaluated alike.
    """
    found: dict[str, tuple[Evaluation, list[Point]]] = {}
    for split in dict.fromkeys(split for record in records.values() for split in record.evaluations):
        measured = {name: one.evaluations[split] for name, one in records.items() if split in one.evaluations}
        if ways := _drawable(points_of_runs(measured)):
            found[split] = next(one for one in measured.values() if points(one)), ways
    if not found:
        return None
    with canvas(9.6, 3.6 * len(found) + 1.6) as figure:
        grid = figure.subplots(len(found), 2, squeeze=False, sharey="row")
        named: dict[str, Artist] = {}
        for (split, (one, ways)), row in zip(found.items(), grid, strict=True):
            for axes, cost in zip(row, AXES, strict=True):
                _controls(axes, one)
                named |= _panel(axes, ways, cost)
            row[0].set_title(f"{split}, {one.n_prompts:,} prompts, under {short(one.scorer)}")
            row[0].set_ylabel("NLL minus that of real text (nats/char)")
        figure.legend(named.values(), named.keys(), loc="outside lower left", ncols=2, handlelength=3.5)
        return finish(
            figure,
            NAME,
            "Frontier: quality against cost (held out)",
            "Each point is one way to write; the numbers beside times are passes of a run's own texts. Real"
            " text is the zero line; text below it is likelier than real text, which is as wrong as above it."
            " Cheaper is further left. Dotted: texts of random pieces of the training text, where they were"
            " scored.",
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
    runs = dict.fromkeys(way.run for way in ways if way.run)
    for number, run in enumerate(runs):
        own = sorted((way for way in ways if way.run == run), key=lambda way: way.values[cost])
        named |= _own_lines(axes, run, own, cost, RUNS[number % len(RUNS)])
    used: set[tuple[str, str]] = set()
    for way in ways:
        if not way.run:
            marker, shade = _style(way.column, used)
            (mark,) = axes.plot(
                [way.values[cost]],
                [way.values[QUALITY]],
                marker=marker,
                linestyle="none",
                markersize=6,
                color=colour(shade),
            )
            named[way.name] = mark
    axes.set_xscale("log", base=2 if cost == AXES[0] else 10)
    axes.margins(x=0.12, y=0.15)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(COSTS[cost])
    return named


def _controls(axes: Axes, measured: Evaluation) -> None:
    """Mark the gap of texts that read no source: random pieces of the training text."""
    controls = next((row.controls for row in measured.rows if row.name == QUALITY), {})
    ordered = sorted(controls.items(), key=lambda control: -control[1])
    for (name, gap), (place, side) in zip(ordered, cycle(LABELS), strict=False):
        axes.axhline(gap, color=colour("control"), linewidth=0.6, linestyle=":")
        axes.annotate(
            name,
            (place, gap),
            xycoords=("axes fraction", "data"),
            xytext=(0, 1),
            textcoords="offset points",
            ha=side,
            fontsize=5.5,
            color=colour("control"),
        )


def _own_lines(axes: Axes, run: str, own: list[Point], cost: str, shade: str) -> dict[str, Artist]:
    """Draw the texts that one run wrote by itself, and the passes of each."""
    alone = [way for way in own if way.column == "model"]
    lines = {
        f"{run}, {name}": (alone + further, marker, dashes)
        for name, (texts, marker, dashes) in OWN.items()
        if (further := [way for way in own if kind(way.column) == texts])
    }
    named: dict[str, Artist] = {}
    for name, (found, marker, dashes) in (lines or {run: (alone, "o", "-")}).items():
        (named[name],) = axes.plot(
            [way.values[cost] for way in found],
            [way.values[QUALITY] for way in found],
            marker=marker,
            markersize=6,
            linewidth=1.0,
            linestyle=dashes,
            color=colour(shade),
        )
    for way in own if cost != AXES[0] else ():
        axes.annotate(
            f"{way.values[AXES[0]]:.0f}",
            (way.values[cost], way.values[QUALITY]),
            xytext=(6, 1),
            textcoords="offset points",
            fontsize=7,
            color=colour("ink"),
        )
    return named


def _style(column: str, used: set[tuple[str, str]]) -> tuple[str, str]:
    """Marker and colour; texts of a kind that comes a second time have its colour and another marker."""
    marker, shade = STYLES.get(kind(column), (BASELINES[0], "other"))
    free = (style for style in ((one, shade) for one in marker + BASELINES) if style not in used)
    style = next(free, (marker, shade))
    used.add(style)
    return style
