"""Curves of one run: terms, composition over time, R2, text quality, embedding health, optimisation."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from jepalm.numbers import three
from jepalm.report.analysis.phases import phase_marks
from jepalm.report.analysis.run import (
    CURVE_ROWS,
    choice,
    copy_control,
    moving_average,
    shares,
    stable_phase,
    weighting,
)
from jepalm.report.analysis.units import DISTANCES, LATENT_DISTANCES, UNITS
from jepalm.report.plots.draw import Art, canvas, colour, finish, line, panels_of, set_log, step_axis
from jepalm.report.read import RunRecord, Series


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
    units["latent"] = LATENT_DISTANCES.get(choice(record, "latent", "distance", "cosine"), "")
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
            step_axis(axes, marks=phase_marks(record))
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
        step_axis(axes, marks=phase_marks(record))
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
        step_axis(axes, marks=phase_marks(record))
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
            step_axis(axes, marks=phase_marks(record))
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
            step_axis(axes, marks=phase_marks(record))
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
    """Gradient norms, learning rate and speed."""
    encoder = {t: record.series(f"train/grad_norm_encoder/{t}").finite() for t in record.terms}
    panels: list[tuple[str, str, Mapping[str, Series]]] = [
        ("gradient of each weighted term on the encoder", "norm", encoder),
        ("gradient of the whole loss", "norm", {"": record.series("train/grad_norm").finite()}),
        ("learning rate", "", {"": record.series("train/lr").finite()}),
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
            step_axis(axes, marks=phase_marks(record))
            if any(lines):
                axes.legend()
        return finish(
            figure,
            "optimisation",
            "Gradients, learning rate and speed (train)",
            "Who trains the encoder: a term may be most of the loss and give the encoder nothing, "
            "where its gradient is cut. Such a term has no line here.",
        )
