"""Plots of a sweep: every row with its seeds, and how far it is from the first."""

from __future__ import annotations

from collections.abc import Callable

from matplotlib.axes import Axes

from jepalm.report.analysis.sweep import MetricTable, SweepTable
from jepalm.report.plots.draw import PALETTE, Plot, canvas, finish, panels_of

MEANS = "sweep"
"""Name of the plot of all rows."""


def means(table: SweepTable) -> Plot | None:
    """Draw each row's mean and seeds, a panel a metric; nothing where no row has a value."""
    kept = [found for found in table.metrics if any(line.spread for line in found.lines)]
    caption = "Large dot: mean over seeds. Bar: one standard deviation to each side. Small dots: the seeds."
    return _panels(kept, len(table.rows), _draw_means, MEANS, "Every row and its seeds", caption)


def differences(table: SweepTable) -> Plot | None:
    """Draw each row's difference with its interval, a panel a metric; nothing where no row has one."""
    return _panels(
        [found for found in table.metrics if any(line.difference for line in found.lines)],
        len(table.rows) - 1,
        _draw_differences,
        "differences",
        f"Difference from {table.reference}, seed by seed",
        "Dot: mean over seeds. Bar: its 95 % interval (paired t-test). Filled: it leaves 0 out.",
    )


def _panels(
    kept: list[MetricTable],
    rows: int,
    draw: Callable[[Axes, MetricTable], None],
    name: str,
    title: str,
    caption: str,
) -> Plot | None:
    if not kept:
        return None
    height = 0.24 * rows + 0.8
    with canvas(9.6, height * -(-len(kept) // 2) + 0.6) as figure:
        for axes, found in zip(panels_of(figure, len(kept)), kept, strict=True):
            draw(axes, found)
            axes.set_title(found.metric.title)
        return finish(figure, name, title, caption)


def _draw_means(axes: Axes, found: MetricTable) -> None:
    for place, line in enumerate(reversed(found.lines)):
        if line.spread is None:
            continue
        values = list(line.values.values())
        axes.plot(values, [place] * len(values), marker="o", color=PALETTE["control"][0], linestyle="")
        axes.errorbar(
            [line.spread.mean],
            [place],
            xerr=[line.spread.sd or 0],
            marker="o",
            markersize=6,
            color=PALETTE["reconstruction"][0],
        )
    axes.set_yticks(range(len(found.lines)), [line.row for line in reversed(found.lines)])
    axes.set_ylim(-0.5, len(found.lines) - 0.5)  # rows without a value too


def _draw_differences(axes: Axes, found: MetricTable) -> None:
    lines = [(line.row, line.difference) for line in reversed(found.lines) if line.difference is not None]
    axes.axvline(0, color=PALETTE["muted"][0], linewidth=1)
    for place, (_, difference) in enumerate(lines):
        ink = PALETTE["reconstruction" if difference.clear else "control"][0]
        if difference.low is not None and difference.high is not None:
            axes.plot([difference.low, difference.high], [place, place], color=ink)
        face = ink if difference.clear else PALETTE["paper"][0]
        axes.plot([difference.mean], [place], marker="o", color=ink, markerfacecolor=face, linestyle="")
    axes.set_yticks(range(len(lines)), [row for row, _ in lines])
