"""The article's own plots, drawn for one run."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from jepalm.report.analysis.article import ARTICLE_COMPOSITION, CE_STEP
from jepalm.report.analysis.phases import phase_marks
from jepalm.report.analysis.run import (
    MOVING_AVERAGE,
    choice,
    composition,
    moving_average,
    stable_phase,
    term_series,
)
from jepalm.report.analysis.units import DISTANCES
from jepalm.report.plots.draw import Art, canvas, colour, finish, line, ramp, set_log, stacked_bars, step_axis
from jepalm.report.read import RunRecord, Series


def reconstruction(record: RunRecord) -> Art | None:
    """Reconstruction CE over batches: the start, and the whole run on a log axis."""
    series = term_series(record, "reconstruction")
    if not len(series):
        return None
    with canvas() as figure:
        left, right = figure.subplots(1, 2)
        start = series.between(0, max(CE_STEP + CE_STEP // 5, int(series.step[0])))
        _raw_and_smooth(left, start, "reconstruction")
        left.set_title(f"the first {int(start.step[-1]):,} batches")
        _raw_and_smooth(right, series, "reconstruction")
        right.set_title("the whole run, log axis")
        set_log(right, series.value[series.value != 0])  # a batch without any error has no place on it
        for axes in (left, right):
            if series.step[-1] >= CE_STEP:
                axes.axvline(CE_STEP, color=colour("control"), linestyle=":", label=f"batch {CE_STEP}")
            axes.set_ylabel("cross-entropy (nats)")
            step_axis(axes, "batch", marks=phase_marks(record))
        left.set_ylim(bottom=0)
        left.legend()
        return finish(
            figure,
            "reconstruction",
            "Reconstruction CE over batches (train, decoder on target embeddings)",
            "The article: 0.029 at the start, about 0 by batch 500, flat after. Near zero, the decoder reads "
            "target embeddings back without faults, and this term has nothing left to teach.",
        )


def embedding_by_epoch(record: RunRecord) -> Art | None:
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
        axes.set_ylabel(DISTANCES.get(choice(record, "embedding", "distance", "mse"), ""))
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


def length(record: RunRecord) -> Art | None:
    """Length loss of each batch with its 20-batch moving average."""
    series = term_series(record, "length")
    if not len(series):
        return None
    per_batch = "length" in record.batches
    with canvas() as figure:
        axes = figure.subplots()
        tint = colour("length")
        raw = "each batch" if per_batch else "log-point means"
        line(axes, series.step, series.value, color=tint, alpha=0.3, linewidth=0.8, label=raw)
        if per_batch:
            smooth = moving_average(series.value, MOVING_AVERAGE)
            label = f"{MOVING_AVERAGE}-batch moving average"
            line(axes, series.step, smooth, color=tint, linewidth=1.2, label=label)
        classified = choice(record, "length", "kind", "mse") == "classification"
        axes.set_ylabel("cross-entropy (nats a pair)" if classified else "squared error (positions²)")
        axes.set_ylim(bottom=0)
        step_axis(axes, "batch", marks=phase_marks(record))
        axes.legend()
        return finish(
            figure,
            "length",
            "Length loss over batches (train)",
            "The article: swings between 0 and over 1,500 and does not settle. The next passage's length is "
            "hardly known from its source, so the loss stays near the variance of the lengths.",
        )


def composition_bars(record: RunRecord) -> Art | None:
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
            f"Mean share of each weighted term over {phase.text}, {phase.why}. "
            "The article: 57.5 % embedding, 42.5 % length, 0 % reconstruction.",
        )


def _raw_and_smooth(axes: Axes, series: Series, term: str) -> None:
    tint = colour(term)
    line(axes, series.step, series.value, color=tint, alpha=0.35, linewidth=0.9, label="each batch")
    smooth = moving_average(series.value, MOVING_AVERAGE)
    line(axes, series.step, smooth, color=tint, label=f"{MOVING_AVERAGE}-batch moving average")
