"""The article's own plots, drawn for one run."""

from __future__ import annotations

from typing import Any

import numpy as np

from jepalm.report.analysis.article import ARTICLE_COMPOSITION, CE_STEP
from jepalm.report.analysis.phases import phase_marks, stable_phase
from jepalm.report.analysis.run import MOVING_AVERAGE, composition, moving_average, term_series
from jepalm.report.plots.draw import (
    Panel,
    Plot,
    canvas,
    colour,
    draw_panel,
    finish,
    line,
    ramp,
    stacked_bars,
    step_axis,
)
from jepalm.report.read import RunRecord, Series


def reconstruction(record: RunRecord) -> Plot | None:
    """Reconstruction CE over batches: the start, and the whole run on a log axis."""
    series = term_series(record, "reconstruction")
    if not len(series):
        return None
    begin = series.between(0, max(CE_STEP + CE_STEP // 5, int(series.step[0])))
    unit, marks = record.terms["reconstruction"].unit, phase_marks(record)
    first = Panel(
        _averaged(begin, "reconstruction"), f"the first {begin.step[-1]:,} batches", unit, limits=(0, None)
    )
    whole = Panel(_averaged(series, "reconstruction"), "the whole run, log axis", unit, log=True)
    with canvas() as figure:
        for axes, panel in zip(figure.subplots(1, 2), (first, whole), strict=True):
            draw_panel(axes, panel, marks, "batch")
            if series.step[-1] >= CE_STEP:
                axes.axvline(CE_STEP, color=colour("control"), linestyle=":")
        return finish(
            figure,
            "reconstruction",
            "Reconstruction CE over batches (train, decoder on target embeddings)",
            "The article: 0.029 at the start, about 0 by batch 500, flat after. Near zero, the decoder reads "
            "target embeddings back without faults, and this term has nothing left to teach.",
        )


def embedding_by_epoch(record: RunRecord) -> Plot | None:
    """Embedding distance with one line an epoch over the batches of the epoch."""
    series, epoch = term_series(record, "embedding"), record.steps_per_epoch
    if not len(series) or epoch is None:
        return None
    index = (series.step - 1) // epoch
    epochs = sorted({int(k) for k in index if k >= 0})
    spacing = max(1, int(np.median(np.diff(series.step)))) if len(series) > 1 else 1
    window = max(1, epoch // 25 // spacing)
    with canvas(9.6, 3.9) as figure:
        axes = figure.subplots()
        labelled = set(epochs if len(epochs) <= 10 else epochs[:: -(-len(epochs) // 10)]) | {epochs[-1]}
        for place, k in enumerate(epochs):
            inside = index == k
            batch = series.step[inside] - k * epoch
            label = f"epoch {k + 1}" if k in labelled else None
            smooth = moving_average(series.value[inside], window)[min(window, int(inside.sum())) - 1 :]
            line(axes, batch[-len(smooth) :], smooth, color=ramp(place, len(epochs)), label=label)
        axes.set_ylabel(record.terms["embedding"].unit)
        step_axis(axes, "batch of the epoch")
        axes.legend(ncols=1, loc="center left", bbox_to_anchor=(1.0, 0.5))
        averaged = f"means of {window * spacing} batches" if window * spacing > 1 else "each batch"
        return finish(
            figure,
            "embedding",
            f"Embedding distance, one line an epoch (train, {averaged})",
            "The article: 242 in the first epoch to 181 in the tenth, sums over 256 dims. Lines that come "
            "closer together mean that each epoch gains less than the one before.",
        )


def length(record: RunRecord) -> Plot | None:
    """Length loss of each batch with its 20-batch moving average."""
    series = term_series(record, "length")
    if not len(series):
        return None
    if "length" in record.batches:
        curves = _averaged(series, "length")
    else:
        curves = [(series, {"color": colour("length"), "label": "log-point means"})]
    with canvas() as figure:
        panel = Panel(curves, unit=record.terms["length"].unit, limits=(0, None))
        draw_panel(figure.subplots(), panel, phase_marks(record), "batch")
        return finish(
            figure,
            "length",
            "Length loss over batches (train)",
            "The article: swings between 0 and over 1,500 and does not settle. The next passage's length is "
            "hardly known from its source, so the loss stays near the variance of the lengths.",
        )


def composition_bars(record: RunRecord) -> Plot | None:
    """Share of each term in the stable loss, beside the article's."""
    phase = stable_phase(record)
    measured = composition(record, phase)
    if phase is None or not measured:
        return None
    article = {term: ARTICLE_COMPOSITION.get(term, 0.0) for term in measured} | dict(ARTICLE_COMPOSITION)
    terms = list(measured) + [term for term in article if term not in measured]
    with canvas(9.6, 2.2) as figure:
        axes = figure.subplots()
        stacked_bars(axes, {"this run": measured, "article": article}, terms)
        return finish(
            figure,
            "composition",
            f"Composition of the stable loss (train, {phase.text})",
            f"Mean share of each weighted term over {phase.text}, {phase.name}. "
            "The article: 57.5 % embedding, 42.5 % length, 0 % reconstruction.",
        )


def _averaged(series: Series, term: str) -> list[tuple[Series, dict[str, Any]]]:
    """Each batch, and the article's moving average."""
    tint, mean = colour(term), Series(series.step, moving_average(series.value, MOVING_AVERAGE))
    return [
        (series, {"color": tint, "alpha": 0.3, "linewidth": 0.8, "label": "each batch"}),
        (mean, {"color": tint, "linewidth": 1.2, "label": f"{MOVING_AVERAGE}-batch moving average"}),
    ]
