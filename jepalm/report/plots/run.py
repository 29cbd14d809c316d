"""Plots of one run over its steps: terms, composition, weights, gradients, R2, text, embeddings, speed."""

from __future__ import annotations

from typing import Any

import numpy as np

from jepalm.numbers import three
from jepalm.report.analysis.phases import phase_marks, stable_phase
from jepalm.report.analysis.run import copy_control, shares, smooth
from jepalm.report.analysis.weighted_terms import (
    NORM,
    gradient_cosines,
    limit_reached,
    weight_limits,
    weighting,
    weights,
    weights_move,
)
from jepalm.report.plots.draw import Panel, Plot, canvas, colour, finish, run_style, step_axis, step_plot
from jepalm.report.read import RunRecord, Series


def curves(record: RunRecord) -> Plot | None:
    """Loss and each term: raw, smoothed, and validation."""
    whole = "loss, weighted sum of its terms"
    if weighting(record) != "fixed":
        whole += " (validation: configured weights)"
    found = [(whole, "", colour("ink"), "train/loss", record.series("validation/loss").finite())]
    for name, term in record.terms.items():
        found.append((term.label, term.unit, colour(name), f"train/term/{name}", record.held_out(name)))
    panels = []
    for title, unit, tint, key, held_out in found:
        train = record.series(key).finite()
        raw: dict[str, Any] = {"color": tint, "alpha": 0.3, "linewidth": 0.8, "label": "train, raw"}
        dashed = {"color": colour("control"), "linestyle": "--", "marker": "o", "label": "validation"}
        lines = [
            (train, raw),
            (smooth(train), {"color": tint, "label": "train, smoothed"}),
            (held_out, dashed),
        ]
        panels.append(Panel(lines, title, unit, log=True))
    return step_plot(
        "curves",
        "Loss terms over steps (train and validation)",
        "Each term before its weight. Raw is the mean since the last log point; a log axis where a term "
        "spans more than a decade.",
        panels,
        phase_marks(record),
    )


def composition_over_time(record: RunRecord) -> Plot | None:
    """Stacked areas of each term's share."""
    found = shares(record)
    steps = sorted({int(step) for series in found.values() for step in series.step})
    if len(steps) < 2:
        return None
    layers = []
    for series in found.values():
        known = dict(zip(series.step.tolist(), series.value.tolist(), strict=True))
        layers.append([known.get(step, 0.0) for step in steps])
    thinned = np.unique(np.linspace(0, len(steps) - 1, min(len(steps), 400)).round().astype(int))
    stack = 100 * np.array(layers)[:, thinned]  # (terms, steps)
    with canvas() as figure:
        axes = figure.subplots()
        tints = [colour(term) for term in found]
        axes.stackplot(np.array(steps)[thinned], stack, labels=list(found), colors=tints, linewidth=0)
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


def weights_over_time(record: RunRecord) -> Plot | None:
    """Weight of each term with the limits it reached, and the share of the loss it leads to."""
    if not weights_move(record):
        return None
    found, limits = weights(record), weight_limits(record)
    reached = {
        limit.value: limit.name
        for term, series in found.items()
        for limit in limits.get(term, [])
        if len(limit_reached(series, limit))
    }
    levels = [
        (value, {"linewidth": 1, "label": None if index else name})
        for index, (value, name) in enumerate(reached.items())
    ]
    left = [(series, {"color": colour(term), "label": term}) for term, series in found.items()]
    right = [
        (Series(series.step, 100 * series.value), {"color": colour(term)})
        for term, series in shares(record).items()
    ]
    title = "effective share: weighted term over the loss"
    return step_plot(
        "weights",
        f"Weights over time (train, weighting {weighting(record)})",
        "Left, what each term is multiplied by; dotted, the end of the range that the weighting leaves a "
        "weight, where it was reached. Right, what came of it: a weight that grows while the share falls "
        "only follows a term that goes to zero.",
        [
            Panel(left, "weight", log=True, limits=(0, None), levels=levels),
            Panel(right, title, "share of the loss (%)", limits=(0, 103)),
        ],
        phase_marks(record),
    )


def cosines_over_time(record: RunRecord) -> Plot | None:
    """Cosine between the gradients on the encoder of each pair of terms that both reach it."""
    lines = []
    for index, (pair, series) in enumerate(gradient_cosines(record).items()):
        style = run_style(index)
        lines.append((series, {"color": style["color"], "alpha": 0.3, "linewidth": 0.8}))
        lines.append((smooth(series), {"label": " and ".join(pair), **style}))
    zero = [(0.0, {"color": colour("ink"), "linewidth": 1})]
    unit = "cosine (1 same, -1 opposite)"
    return step_plot(
        "gradient_cosine",
        "Cosine between the terms' gradients on the encoder (train)",
        "Under 0, a step that lowers the one term raises the other (arXiv 2001.06782); about 0, they "
        "work on different things. Pairs of which one has no gradient there have no line.",
        [Panel(lines, unit=unit, limits=(-1.05, 1.05), levels=zero, outside=True)],
        phase_marks(record),
    )


def r2(record: RunRecord) -> Plot | None:
    """R2 of the predicted embeddings beside its controls."""
    measured, copied = record.series("validation/r2").finite(), copy_control(record)
    if not len(measured):
        return None
    bottom = max(min(float(measured.value.min()), 0.0), -1.0) - 0.05
    label = "control: copy of the source"
    if len(copied) and copied.value.max() < bottom:
        label += f" (below: {three(copied.last)})"
    lines = [
        (measured, {"color": colour("embedding"), "label": "predicted embeddings"}),
        (copied, {"color": colour("control"), "linestyle": "--", "label": label}),
    ]
    mean = [(0.0, {"color": colour("ink"), "linewidth": 1, "label": "control: the mean target"})]
    limits = (bottom, max(float(measured.value.max()) * 1.15, 0.1))
    return step_plot(
        "r2",
        "R2 of the predicted embeddings (validation)",
        "How much of the targets' variance is predicted: 0 is what the mean target scores. The "
        "article's distances stand for about 0.05 to 0.29 on train.",
        [Panel(lines, unit="R2 (1 = exact)", limits=limits, levels=mean)],
        phase_marks(record),
    )


def text_quality(record: RunRecord) -> Plot | None:
    """Accuracy and CE of the decoder on target and on predicted embeddings."""
    lines: dict[str, list[tuple[Series, dict[str, str]]]] = {"accuracy": [], "ce": []}
    for term, label in (
        ("reconstruction", "on target embeddings"),
        ("generation", "on predicted embeddings"),
    ):
        for what, scale in (("accuracy", 100.0), ("ce", 1.0)):
            series = record.series(f"validation/{term}_{what}").finite()
            style = {"color": colour(term), "label": label}
            lines[what].append((Series(series.step, scale * series.value), style))
    return step_plot(
        "text_quality",
        "What the decoder reads back (validation)",
        "The same decoder on target embeddings (reconstruction) and on predicted ones (generation). "
        "The gap between the two is what the predictor loses.",
        [
            Panel(lines["accuracy"], unit="characters or tokens right (%)", limits=(0, 103)),
            Panel(lines["ce"], unit="cross-entropy (nats)", log=True),
        ],
        phase_marks(record),
    )


def embedding_health(record: RunRecord) -> Plot | None:
    """Effective rank and standard deviation of target and predicted embeddings."""

    def both(target: str, predicted: str) -> list[tuple[Series, dict[str, str]]]:
        kinds = ((target, "target", "other"), (predicted, "predicted", "embedding"))
        return [
            (
                record.series(f"validation/{key}").finite(),
                {"color": colour(tint), "label": f"{label} embeddings"},
            )
            for key, label, tint in kinds
        ]

    most: list[tuple[float, dict[str, str]]] = []
    if record.dim:
        most.append((record.dim, {"label": f"most: {record.dim}"}))
    rank = both("effective_rank", "predicted_effective_rank")
    deviation = both("embedding_std", "predicted_std")
    return step_plot(
        "embedding_health",
        "Embedding health (validation)",
        "Target embeddings collapse when their rank or spread goes to zero. Predicted embeddings of "
        "lower rank and spread than their targets are means over what could follow.",
        [
            Panel(rank, unit="effective rank (dims)", limits=(0, None), levels=most),
            Panel(deviation, unit="standard deviation, mean over dims", limits=(0, None)),
        ],
        phase_marks(record),
    )


def optimisation(record: RunRecord) -> Plot | None:
    """Gradient norms, learning rate and speed."""

    def positive(series: Series) -> Series:
        return Series(series.step, np.where(series.value > 0, series.value, np.nan))

    encoder = [
        (positive(series), {"color": colour(term), "label": term})
        for term, series in record.by_term(NORM).items()
    ]
    ink = {"color": colour("ink")}
    whole = [(positive(record.series("train/grad_norm").finite()), ink)]
    rate = [(record.series("train/lr").finite(), ink)]
    pace = [(record.series("speed/steps_per_s").finite(), ink)]
    return step_plot(
        "optimisation",
        "Gradients, learning rate and speed (train)",
        "Who trains the encoder: a term may be most of the loss and give the encoder nothing, "
        "where its gradient is cut. Such a term has no line here.",
        [
            Panel(encoder, "gradient of each weighted term on the encoder", "norm", log=True),
            Panel(whole, "gradient of the whole loss", "norm", log=True),
            Panel(rate, "learning rate", limits=(0, None)),
            Panel(pace, "speed", "steps / s", limits=(0, None)),
        ],
        phase_marks(record),
    )
