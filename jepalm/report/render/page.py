"""The self-contained HTML page of one run, or of several."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

import jepalm
from jepalm.numbers import three
from jepalm.report.analysis import evaluation as evaluations
from jepalm.report.analysis import frontier
from jepalm.report.analysis.compare import OVER_SEEDS, Comparison
from jepalm.report.analysis.numbers import mark_whitespace
from jepalm.report.analysis.summary import ARTICLE_TIME, Summary
from jepalm.report.analysis.sweep import SweepTable
from jepalm.report.plots.draw import Art, theme_css
from jepalm.report.read import Sample

SAMPLES_SHOWN = 8
"""Most samples of a source on the page; the first and the last are among them."""

RUN_SECTIONS = [
    ("verdicts", "Verdicts"),
    ("run", "The run"),
    ("evaluation", "Quality on held-out prompts"),
    ("findings", "The article's three findings"),
    ("article", "The article's figures, on this run"),
    ("curves", "Curves and embedding health"),
    ("samples", "Samples as they evolved"),
    ("config", "Config"),
]
ARTICLE_SECTIONS = {"findings", "article"}
"""Left out of a run that trains none of the article's terms."""
COMPARISON_SECTIONS = [
    ("table", "Figures side by side"),
    ("differences", "Config difference"),
    ("overlays", "Overlaid curves"),
    ("verdicts", "Verdicts of each run"),
]
SWEEP_SECTIONS = [
    ("table", "Mean over seeds"),
    ("differences", "Difference from the first row"),
    ("figures", "Figure by figure"),
    ("rows", "The rows"),
]
BESIDE = "The data is beside this page: <code>data/*.csv</code>, figures in <code>figures/*.png</code>."


@dataclass(frozen=True)
class SampleGroup:
    """What one source gave as training went on."""

    source: str
    target: str
    samples: list[Sample]


def run_page(
    summary: Summary, article_figures: list[Art], figures: list[Art], evaluation_figures: list[Art]
) -> str:
    """Return the page of one run."""
    sources = sample_groups(summary.record.samples)
    most = max((len(group.samples) for group in sources), default=0)
    note = (
        f"{SAMPLES_SHOWN} of {most} steps are shown; data/samples.csv has all."
        if most > SAMPLES_SHOWN
        else ""
    )
    for group in sources:
        group.samples[:] = evenly(group.samples, SAMPLES_SHOWN)
    argv = summary.record.manifest.get("argv")
    return _render(
        "run.html",
        title=summary.record.name,
        sections=[
            section
            for section in RUN_SECTIONS
            if summary.beside_article or section[0] not in ARTICLE_SECTIONS
        ],
        summary=summary,
        article_figures=article_figures,
        figures=figures,
        evaluation_figures=evaluation_figures,
        evaluations=evaluations,
        frontier=frontier,
        sources=sources,
        sample_note=note,
        article_time=ARTICLE_TIME,
        argv=" ".join(str(word) for word in argv) if isinstance(argv, list) else "",
        foot="Rules of every verdict: docs/report.md.",
    )


def comparison_page(comparison: Comparison, figures: list[Art]) -> str:
    """Return the page of several runs."""
    return _render(
        "comparison.html",
        title=f"{len(comparison.names)} runs compared",
        sections=COMPARISON_SECTIONS,
        comparison=comparison,
        over_seeds=OVER_SEEDS,
        figures=figures,
        foot="Each run's own page has more: jepalm report RUN.",
    )


def sweep_page(table: SweepTable, means: Art | None, differences: Art | None) -> str:
    """Return the page of a sweep."""
    return _render(
        "sweep.html",
        title=f"sweep {table.name}",
        sections=[section for section in SWEEP_SECTIONS if differences or section[0] != "differences"],
        table=table,
        means=means,
        differences=differences,
        foot="How to read it: docs/sweep.md.",
        beside="The data is beside this page: <code>sweep.csv</code>, <code>.json</code>, <code>.svg</code>.",
    )


def sample_groups(samples: list[Sample]) -> list[SampleGroup]:
    """Gather samples by source, in the order in which the sources first came."""
    groups: dict[str, SampleGroup] = {}
    for sample in samples:
        group = groups.setdefault(sample.source, SampleGroup(sample.source, sample.target, []))
        group.samples.append(sample)
    return list(groups.values())


def evenly(samples: list[Sample], most: int) -> list[Sample]:
    """Choose at most `most` samples, evenly, with the first and the last."""
    if len(samples) <= most:
        return samples
    return [samples[int(index)] for index in np.linspace(0, len(samples) - 1, most).round()]


def marked(text: str) -> Markup:
    """Return text as HTML in which blanks and control characters are seen."""
    return Markup("").join(
        Markup('<span class="ws">{}</span>').format(piece) if is_mark else escape(piece)
        for piece, is_mark in mark_whitespace(text)
    )


def _render(template: str, **values: object) -> str:
    environment = Environment(
        loader=PackageLoader("jepalm.report.render"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["marked"] = marked
    environment.filters["three"] = three
    light, dark = theme_css()
    return environment.get_template(template).render(
        theme_light=Markup(light),
        theme_dark=Markup(dark),
        version=jepalm.__version__,
        **{"beside": BESIDE, **values},
    )
