"""`report.md`: the report as a file for repositories and issues."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

from jepalm.report.analysis import evaluation as evaluations
from jepalm.report.analysis import frontier
from jepalm.report.analysis.compare import OVER_SEEDS, Comparison
from jepalm.report.analysis.numbers import visible
from jepalm.report.analysis.summary import ARTICLE_TIME, Summary
from jepalm.report.plots.draw import Art
from jepalm.report.render.page import SAMPLES_SHOWN, evenly, sample_groups


def run_markdown(summary: Summary, figures: list[Art]) -> str:
    """Return the report of one run as Markdown."""
    blocks = [
        f"# {cell(summary.record.name)}",
        cell(summary.headline) + (f" ({ARTICLE_TIME})" if summary.beside_article else ""),
        "## Verdicts",
        _verdicts(summary),
        "## The run",
        table(["", ""], summary.facts),
    ]
    if summary.phases:
        blocks += ["## Phases", "Mean share of the loss in each phase (train).", table(*summary.phase_table)]
    blocks += ["## Quality on held-out prompts", *_evaluations(summary)]
    if summary.record.train and summary.beside_article:
        blocks += [
            "## The article's three findings",
            table(
                ["finding", "this run", "article", "verdict"],
                [
                    [f"{f.number} {f.title}", f.measured, f.article, f"**{f.word}**: {f.why}"]
                    for f in summary.findings
                ],
            ),
        ]
    if summary.composition:
        blocks += [
            "## Composition of the loss",
            f"Mean share of each term (train, {summary.phase_text}).",
            table(["term", "this run", "article"], summary.composition_rows),
        ]
    blocks += _figures(figures)
    if summary.cosine_note:
        blocks.append(f"Cosine between gradients: {cell(summary.cosine_note)}")
    if summary.record.samples:
        blocks.append("## Samples as they evolved")
        for group in sample_groups(summary.record.samples):
            blocks.append(f"source {_text(group.source)}<br>target {_text(group.target)}")
            chosen = evenly(group.samples, SAMPLES_SHOWN)
            blocks.append(
                _raw_table(["step", "generated"], [[f"{s.step:,}", _text(s.generated)] for s in chosen])
            )
    blocks += ["## Config", table(["setting", "value"], summary.settings)]
    return "\n\n".join(blocks) + "\n"


def comparison_markdown(comparison: Comparison, figures: list[Art]) -> str:
    """Return the comparison of several runs as Markdown."""
    groups = [group.name for group in comparison.groups]
    over_seeds = [
        OVER_SEEDS,
        table(["figure", *groups], [[row.label, *row.spread_texts] for row in comparison.rows]),
        "### Each run",
    ]
    blocks = [
        f"# {len(comparison.names)} runs compared",
        "## Figures side by side",
        *(over_seeds if comparison.repeated else []),
        table(["figure", *comparison.names], [[row.label, *row.texts] for row in comparison.rows]),
        *(
            block
            for split, (header, ways) in comparison.frontiers.items()
            for block in (
                f"What each way to write costs, on {split}:",
                table(header, ways),
            )
        ),
        "## Config difference",
        table(
            ["setting", *groups],
            [[key, *values] for key, values in comparison.group_differences.items()],
        )
        if comparison.differences
        else "The configs are the same.",
        *_figures(figures),
        "## Verdicts of each run",
    ]
    for name, summary in zip(comparison.names, comparison.summaries, strict=True):
        blocks += [f"### {cell(name)}", _verdicts(summary)]
    return "\n\n".join(blocks) + "\n"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table of plain text."""
    return _raw_table([cell(name) for name in header], [[cell(value) for value in row] for row in rows])


def cell(text: str) -> str:
    """Escape what Markdown or HTML would act on; the `**` of our own words are kept."""
    safe = html.escape(text, quote=False).replace("\\", "\\\\").replace("\n", " ")
    return re.sub(r"([|`_\[\]])", r"\\\1", safe)


def _text(text: str) -> str:
    shown = html.escape(visible(text), quote=False)
    return "<code>" + re.sub(r"[\\`*_|~]", lambda found: f"&#{ord(found[0])};", shown) + "</code>"


def _raw_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _verdicts(summary: Summary) -> str:
    return "\n".join(f"- {verdict.sign} {cell(verdict.text)}" for verdict in summary.verdicts)


def _evaluations(summary: Summary) -> list[str]:
    if not summary.record.evaluations:
        return [cell(summary.evaluation_note)]
    blocks = []
    for split, found in summary.record.evaluations.items():
        shown = evaluations.columns(found)
        blocks += [f"### {split}", *map(cell, evaluations.header(found))]
        rows = []
        for row in found.rows:
            label = "<br>".join(map(cell, [evaluations.label(row), *evaluations.controls(row)]))
            model, *others = (cell(evaluations.cell(row, key)) for key in shown)
            rows.append([label, model, cell(evaluations.interval(row)), *others])
        model, *others = shown.values()
        blocks.append(_raw_table(["figure", model, "interval", *others], rows))
        header, ways = frontier.table(found)
        if ways:
            blocks += ["What each way to write costs, beside its quality:", table(header, ways)]
        for prompt, written in frontier.texts(found):
            blocks.append(f"after {_text(prompt)}")
            blocks.append(_raw_table(["", "text"], [[cell(name), _text(text)] for name, text in written]))
    return blocks


def _figures(figures: list[Art]) -> list[str]:
    if not figures:
        return []
    blocks = ["## Figures"]
    for art in figures:
        blocks += [f"![{cell(art.title)}](figures/{art.name}.png)", cell(art.caption)]
    return blocks
