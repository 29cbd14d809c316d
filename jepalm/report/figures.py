"""The figures of one run: the article's own plots, then curves, composition, R2, embedding health."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from jepalm.errors import JepalmError
from jepalm.numbers import three
from jepalm.report.analysis import (
    ARTICLE_COMPOSITION,
    CE_STEP,
    MOVING_AVERAGE,
    choice,
    composition,
    copy_control,
    moving_average,
    shares,
    stable_phase,
    term_series,
    weighting,
)
from jepalm.report.draw import DPI, Art, canvas, colour, finish, line, ramp, set_log, step_axis
from jepalm.report.numbers import percent
from jepalm.report.read import RunRecord, Series

UNITS = {
    "reconstruction": "nats a character or token",
    "generation": "nats a character or token",
    "embedding": "squared distance, sum over dims",
    "length": "squared positions",
    "kl": "nats a latent",
    "next_token": "nats a token",
}
DISTANCES = {
    "mse": UNITS["embedding"],
    "smooth_l1": "smooth L1 distance, sum over dims",
    "cosine": "1 - cosine",
}

RUN_FIGURES = (
    "reconstruction",
    "embedding",
    "length",
    "composition",
    "curves",
    "composition_over_time",
    "r2",
    "text_quality",
    "embedding_health",
    "optimisation",
)
"""Names of the figures that a run can have."""
CURVE_ROWS = 60
"""Smoothed curves average about this fraction of the run's rows."""


def article_figures(record: RunRecord) -> list[Art]:
    """Draw the article's plots in its own form; those without data are left out."""
    return _drawn(record, [reconstruction, embedding_by_epoch, length, composition_bars])


def run_figures(record: RunRecord) -> list[Art]:
    """Draw the rest: curves, composition over time, R2, accuracy, embedding health, optimisation."""
    return _drawn(record, [curves, composition_over_time, r2, text_quality, embedding_health, optimisation])


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
        set_log(right, series.value)
        for axes in (left, right):
            if series.step[-1] >= CE_STEP:
                axes.axvline(CE_STEP, color=colour("control"), linestyle=":", label=f"batch {CE_STEP}")
            axes.set_ylabel("cross-entropy (nats)")
            step_axis(axes, "batch")
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
        for k in epochs:
            inside = index == k
            batch = series.step[inside] - k * epoch
            label = f"epoch {k + 1}" if k in labelled else None
            smooth = moving_average(series.value[inside], window)[min(window, int(inside.sum())) - 1 :]
            line(axes, batch[-len(smooth) :], smooth, color=ramp(k, len(epochs)), label=label)
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
        step_axis(axes, "batch")
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


def curves(record: RunRecord) -> Art | None:
    """Loss and each term: raw, smoothed, and validation."""
    names = [("loss", "train/loss", "validation/loss")]
    held_out = {"reconstruction": "reconstruction_ce", "generation": "generation_ce", "length": "length_mse"}
    held_out["next_token"] = "next_token_ce"
    units = dict(UNITS)
    if choice(record, "length", "kind", "mse") == "classification":
        held_out["length"], units["length"] = "length_ce", "nats a pair"
    whole = "loss, weighted sum of its terms"
    if weighting(record) != "fixed":
        whole += " (validation: configured weights)"
    distance = choice(record, "embedding", "distance", "mse")
    if distance != "mse":
        held_out["embedding"], units["embedding"] = "embedding_distance", DISTANCES.get(distance, "")
    for term in record.terms:
        names.append((term, f"train/term/{term}", f"validation/{held_out.get(term, term)}"))
    panels = [
        (name, train, validation)
        for name, key, other in names
        if len(train := record.series(key).finite()) + len(validation := record.series(other).finite())
    ]
    if not panels:
        return None
    with canvas(9.6, 2.7 * -(-len(panels) // 2) + 0.3) as figure:
        for axes, (name, train, validation) in zip(panels_of(figure, len(panels)), panels, strict=False):
            tint = colour("ink") if name == "loss" else colour(name)
            if len(train):
                smooth = moving_average(train.value, max(1, len(train) // CURVE_ROWS))
                line(axes, train.step, train.value, color=tint, alpha=0.3, linewidth=0.8, label="train, raw")
                line(axes, train.step, smooth, color=tint, label="train, smoothed")
            if len(validation):
                axes.plot(
                    validation.step,
                    validation.value,
                    color=colour("control"),
                    linestyle="--",
                    marker="o",
                    label="validation",
                )
            axes.set_title(whole if name == "loss" else name)
            axes.set_ylabel(units.get(name, ""))
            set_log(axes, train.value, validation.value)
            step_axis(axes)
            axes.legend()
        return finish(
            figure,
            "curves",
            "Loss terms over steps (train and validation)",
            "Each term before its weight. Raw is the mean since the last log point; a log axis where a term "
            "spans more than a decade.",
        )


def composition_over_time(record: RunRecord) -> Art | None:
    """Stacked areas of each term's share."""
    found = shares(record)
    steps = sorted({int(step) for series in found.values() for step in series.step})
    if len(steps) < 2:
        return None
    layers = []
    for series in found.values():
        known = dict(zip(series.step.tolist(), series.value.tolist(), strict=True))
        layers.append([known.get(step, 0.0) for step in steps])
    stack = np.array(layers)  # (terms, steps)
    with canvas() as figure:
        axes = figure.subplots()
        thinned = np.unique(np.linspace(0, len(steps) - 1, min(len(steps), 400)).round().astype(int))
        axes.stackplot(
            np.array(steps)[thinned],
            100 * stack[:, thinned],
            labels=list(found),
            colors=[colour(term) for term in found],
            linewidth=0,
        )
        axes.set_ylabel("share of the loss (%)")
        axes.set_ylim(0, 100)
        axes.set_xlim(steps[0], steps[-1])
        step_axis(axes)
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), reverse=True)
        phase = stable_phase(record)
        if phase is not None and phase.first > steps[0]:
            axes.axvline(phase.first, color=colour("ink"), linestyle=":")
        return finish(
            figure,
            "composition_over_time",
            "Composition of the loss over time (train)",
            "Share of each weighted term at each log point; the dotted line is where the stable phase "
            "begins. A share says what the number is made of, not what the encoder learns from.",
        )


def r2(record: RunRecord) -> Art | None:
    """R2 of the predicted embeddings beside its controls."""
    measured, copied = record.series("validation/r2").finite(), copy_control(record)
    if not len(measured):
        return None
    bottom = max(min(float(measured.value.min()), 0.0), -1.0) - 0.05
    with canvas() as figure:
        axes = figure.subplots()
        line(axes, measured.step, measured.value, color=colour("embedding"), label="predicted embeddings")
        if len(copied):
            label = "control: copy of the source"
            if copied.value.max() < bottom:
                label += f" (below: {three(copied.last)})"
            line(axes, copied.step, copied.value, color=colour("control"), linestyle="--", label=label)
        axes.axhline(0, color=colour("ink"), linewidth=1, linestyle=":", label="control: the mean target")
        axes.set_ylabel("R2 (1 = exact)")
        axes.set_ylim(bottom, max(float(measured.value.max()) * 1.15, 0.1))
        step_axis(axes)
        axes.legend()
        return finish(
            figure,
            "r2",
            "R2 of the predicted embeddings (validation)",
            "How much of the targets' variance is predicted: 0 is what the mean target scores. The "
            "article's distances stand for about 0.05 to 0.29 on train.",
        )


def text_quality(record: RunRecord) -> Art | None:
    """Accuracy and CE of the decoder on target and on predicted embeddings."""
    found = {
        f"{term}_{what}": record.series(f"validation/{term}_{what}").finite()
        for term in ("reconstruction", "generation")
        for what in ("accuracy", "ce")
    }
    if not any(len(series) for series in found.values()):
        return None
    words = {"reconstruction": "on target embeddings", "generation": "on predicted embeddings"}
    with canvas() as figure:
        left, right = figure.subplots(1, 2)
        for term, label in words.items():
            for axes, what in ((left, "accuracy"), (right, "ce")):
                series = found[f"{term}_{what}"]
                scale = 100.0 if what == "accuracy" else 1.0
                if len(series):
                    line(axes, series.step, scale * series.value, color=colour(term), label=label)
        left.set_ylabel("characters or tokens right (%)")
        left.set_ylim(0, 103)
        right.set_ylabel("cross-entropy (nats)")
        set_log(right, *(found[f"{term}_ce"].value for term in words))
        for axes in (left, right):
            step_axis(axes)
            if axes.lines:
                axes.legend()
        return finish(
            figure,
            "text_quality",
            "What the decoder reads back (validation)",
            "The same decoder on target embeddings (reconstruction) and on predicted ones (generation). "
            "The gap between the two is what the predictor loses.",
        )


def embedding_health(record: RunRecord) -> Art | None:
    """Effective rank and standard deviation of target and predicted embeddings."""
    found = {
        key: record.series(f"validation/{key}").finite()
        for key in ("effective_rank", "predicted_effective_rank", "embedding_std", "predicted_std")
    }
    if not any(len(series) for series in found.values()):
        return None
    with canvas() as figure:
        left, right = figure.subplots(1, 2)
        for axes, target, predicted in (
            (left, "effective_rank", "predicted_effective_rank"),
            (right, "embedding_std", "predicted_std"),
        ):
            for key, label, tint in ((target, "target", "other"), (predicted, "predicted", "embedding")):
                series = found[key]
                if len(series):
                    line(axes, series.step, series.value, color=colour(tint), label=f"{label} embeddings")
        left.set_ylabel("effective rank (dims)")
        right.set_ylabel("standard deviation, mean over dims")
        if record.dim and left.lines:
            left.axhline(record.dim, color=colour("control"), linestyle=":", label=f"most: {record.dim}")
        for axes in (left, right):
            axes.set_ylim(bottom=0)
            step_axis(axes)
            if axes.lines:
                axes.legend()
        return finish(
            figure,
            "embedding_health",
            "Embedding health (validation)",
            "Target embeddings collapse when their rank or spread goes to zero. Predicted embeddings of "
            "lower rank and spread than their targets are means over what could follow.",
        )


def optimisation(record: RunRecord) -> Art | None:
    """Gradient norms, learning rate, weights and speed."""
    encoder = {t: record.series(f"train/grad_norm_encoder/{t}").finite() for t in record.terms}
    weights = {t: record.series(f"train/weight/{t}").finite() for t in record.terms}
    if all(len(s) == 0 or np.ptp(s.value) == 0 for s in weights.values()):
        weights = {}
    panels: list[tuple[str, str, Mapping[str, Series]]] = [
        ("gradient of each weighted term on the encoder", "norm", encoder),
        ("gradient of the whole loss", "norm", {"": record.series("train/grad_norm").finite()}),
        ("learning rate", "", {"": record.series("train/lr").finite()}),
        ("weight of each term", "", weights),
        ("speed", "steps / s", {"": record.series("speed/steps_per_s").finite()}),
    ]
    kept = [panel for panel in panels if any(len(series) for series in panel[2].values())]
    if not kept:
        return None
    with canvas(9.6, 2.5 * -(-len(kept) // 2) + 0.3) as figure:
        for axes, (title, unit, lines) in zip(panels_of(figure, len(kept)), kept, strict=False):
            for term, series in lines.items():
                if len(series):
                    tint = colour(term or "ink")
                    shown = (
                        np.where(series.value > 0, series.value, np.nan) if unit == "norm" else series.value
                    )
                    line(axes, series.step, shown, color=tint, label=term or None)
            axes.set_title(title)
            axes.set_ylabel(unit)
            if unit == "norm":
                set_log(axes, *(series.value[series.value > 0] for series in lines.values()))
            else:
                axes.set_ylim(bottom=0)
            step_axis(axes)
            if any(lines):
                axes.legend()
        return finish(
            figure,
            "optimisation",
            "Gradients, learning rate and speed (train)",
            "Who trains the encoder: a term may be most of the loss and give the encoder nothing, "
            "where its gradient is cut. Such a term has no line here.",
        )


def embedding_heatmap(values: NDArray[np.floating], labels: list[str], path: Path, title: str) -> None:
    """Draw embeddings as a heat map, one row a position.

    Args:
        values: embeddings, (T, D).
        labels: the character or token of each position, T of them.
        path: where to write; its suffix chooses SVG, PNG or PDF.
        title: what these are and of which run.

    Raises:
        JepalmError: the file cannot be written.
        ValueError: values are not (T, D), are empty, or labels are not T.
    """
    matrix = np.asarray(values, dtype=np.float64)
    if matrix.ndim != 2 or not matrix.size or len(labels) != len(matrix):
        raise ValueError(f"embeddings of shape {matrix.shape} with {len(labels)} labels")
    finite = np.abs(matrix[np.isfinite(matrix)])
    limit = (float(np.percentile(finite, 99)) if len(finite) else 0.0) or 1.0
    with canvas(9.6, min(14.0, 1.6 + 0.17 * len(matrix))) as figure:
        axes = figure.subplots()
        axes.grid(False)
        picture = axes.imshow(
            matrix, aspect="auto", cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest"
        )
        shown = range(0, len(labels), -(-len(labels) // 80))
        axes.set_yticks(list(shown), [repr(labels[k])[1:-1].replace(" ", "␣") for k in shown])
        axes.tick_params(axis="y", labelsize=7, length=0)
        axes.set_xlabel("dim")
        axes.set_ylabel("position")
        axes.set_title(title, fontweight="bold")
        figure.colorbar(picture, ax=axes, label="value", pad=0.01)
        try:
            figure.savefig(path, dpi=DPI, facecolor="white")
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise JepalmError(f"cannot write {path}: {reason}", "name a .png, .svg or .pdf file") from None


def _drawn(record: RunRecord, painters: list[Callable[[RunRecord], Art | None]]) -> list[Art]:
    return [art for paint in painters if (art := paint(record)) is not None]


def _raw_and_smooth(axes: Axes, series: Series, term: str) -> None:
    tint = colour(term)
    line(axes, series.step, series.value, color=tint, alpha=0.35, linewidth=0.9, label="each batch")
    smooth = moving_average(series.value, MOVING_AVERAGE)
    line(axes, series.step, smooth, color=tint, label=f"{MOVING_AVERAGE}-batch moving average")


def panels_of(figure: Figure, panels: int) -> list[Axes]:
    """Two columns of axes, of which the unused last is hidden."""
    columns = 1 if panels == 1 else 2
    grid = figure.subplots(-(-panels // columns), columns, squeeze=False)
    cells = list(grid.flat)
    for cell in cells[panels:]:
        cell.set_visible(False)
    return cells[:panels]


def stacked_bars(axes: Axes, bars: Mapping[str, Mapping[str, float]], terms: list[str]) -> None:
    """One horizontal bar of shares for each name, the first on top."""
    names = list(bars)
    left = np.zeros(len(names))
    for term in terms:
        width = np.array([100 * bars[name].get(term, 0.0) for name in names])
        drawn = axes.barh(names, width, left=left, color=colour(term), label=term, height=0.62)
        text = [percent(value / 100) if value >= 8 else "" for value in width]
        axes.bar_label(drawn, text, label_type="center", color=colour("paper"), fontsize=8.5)
        left += width
    axes.invert_yaxis()
    axes.grid(False)
    axes.set_xlim(0, 100)
    axes.set_xlabel("share of the loss (%)")
    axes.tick_params(axis="y", length=0, labelcolor=colour("ink"))
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
