"""Plots of what `jepalm evaluate` measured."""

from __future__ import annotations

import numpy as np

from jepalm.report.analysis.evaluation import columns, kind, refined_columns
from jepalm.report.plots.draw import Plot, canvas, colour, finish, line, panels_of, step_axis
from jepalm.report.read import RunRecord

STYLES = {
    "model": {"color": "embedding", "linestyle": "-"},
    "real": {"color": "ink", "linestyle": "-"},
    "ngram": {"color": "control", "linestyle": "--"},
    "baseline": {"color": "other", "linestyle": "-."},
    "verified": {"color": "generation", "linestyle": "--"},
    "verified_ngram": {"color": "length", "linestyle": ":"},
}
REFINED = {"color": "embedding", "linestyle": ":"}


def faintness(names: list[str], column: str) -> float:
    """Opacity of a column's line: the fewer the passes of a refined text, the fainter; 1 for all others.

    Args:
        names: columns of refined texts, the one of the fewest passes first.
        column: which.
    """
    return (names.index(column) + 2) / (len(names) + 1) if column in names else 1.0


def nll_by_position(record: RunRecord) -> Plot | None:
    """NLL of each column's text under the scorer, by position; a panel a split."""
    found = {split: one for split, one in record.evaluations.items() if any(one.by_position.values())}
    if not found:
        return None
    with canvas(9.6, 3.0 * -(-len(found) // 2) + 0.3) as figure:
        for axes, (split, evaluation) in zip(panels_of(figure, len(found)), found.items(), strict=True):
            for column, title in columns(evaluation).items():
                curve = np.array(evaluation.by_position.get(column, ()), dtype=np.float64)
                if np.isfinite(curve).any():
                    style = STYLES.get(kind(column), REFINED)
                    line(
                        axes,
                        np.arange(1, len(curve) + 1),
                        curve,
                        label=title,
                        color=colour(style["color"]),
                        linestyle=style["linestyle"],
                        alpha=faintness(list(refined_columns(evaluation)), column),
                    )
            axes.set_title(f"{split}, {evaluation.n_prompts:,} prompts, under {evaluation.scorer}")
            axes.set_ylabel("NLL (nats a token)")
            axes.set_ylim(bottom=0)
            step_axis(axes, "position")
            if axes.lines:
                axes.legend()
        return finish(
            figure,
            "nll_by_position",
            "NLL of the texts by position (held out)",
            "How likely the scorer finds each text where it stands. Real text is the level to reach; a model "
            "whose line rises after the first position does not fit its own beginning. Few texts reach the "
            "last positions.",
        )
