"""A report as rich renderables, for terminals of any width."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from jepalm.evaluation.rows import Evaluation, MetricRow
from jepalm.numbers import three
from jepalm.report.analysis import evaluation as evaluations
from jepalm.report.analysis.compare import OVER_SEEDS, Comparison
from jepalm.report.analysis.summary import ARTICLE_TIME, Summary
from jepalm.report.read import Series
from jepalm.report.rules.findings import Finding
from jepalm.report.rules.verdict import Verdict

_BLOCKS = "▁▂▃▄▅▆▇█"
_MOST_COLUMNS = 5
"""Columns of texts that fit beside the names of figures, at 80 characters."""
_SPARK_WIDTH = 32
_WORD_STYLE = {"reproduced": "green", "not reproduced": "yellow", "cannot tell": "dim"}
_VERDICT_STYLE = {"warning": "yellow", "note": "cyan", "good": "green"}


def run_view(summary: Summary) -> RenderableType:
    """Return header, composition, findings, verdicts and sparklines of one run."""
    parts: list[RenderableType] = [header(summary)]
    if summary.composition:
        parts += [Text(), composition_table(summary)]
    if summary.phases:
        parts += [Text(), phase_table(summary)]
    if summary.record.train and summary.beside_article:
        parts += [findings_table(summary.findings)]
    parts += [Text(), verdict_table(summary.verdicts)]
    if sparks := sparklines(summary):
        parts += [Text(), sparks]
    parts += [Text(), evaluation_view(summary)]
    return Group(*parts)


def evaluation_table(evaluation: Evaluation, chosen: list[MetricRow] | None = None) -> RenderableType:
    """Return the figures of an evaluation beside their controls, a section a group.

    Columns that a terminal has no room for beside the names stand in further tables.

    Args:
        evaluation: what was measured.
        chosen: the rows to show, without sections; all when empty.
    """
    columns = evaluations.columns(evaluation)
    sections = {"": chosen} if chosen is not None else evaluations.groups(evaluation)
    names = list(columns)
    parts = [names[at : at + _MOST_COLUMNS] for at in range(0, len(names), _MOST_COLUMNS)]
    tables = [_columns_table(evaluation, sections, {name: columns[name] for name in part}) for part in parts]
    return tables[0] if len(tables) == 1 else Group(*tables)


def _columns_table(
    evaluation: Evaluation, sections: dict[str, list[MetricRow]], columns: dict[str, str]
) -> Table:
    """A table of some columns; the controls stand where the model does."""
    main = "model" in columns
    # Many columns leave no room for one of intervals.
    beside = main and not evaluations.refined_columns(evaluation)
    shown = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    shown.add_column("", overflow="fold")
    for name, title in columns.items():
        shown.add_column(title, justify="right", no_wrap=True, style="bold" if name == "model" else None)
        if name == "model" and beside:
            shown.add_column("", justify="right", no_wrap=True, style="dim")
    for title, rows in sections.items():
        rows = [row for row in rows if main or any(name in row.values for name in columns)]
        if not rows:
            continue
        if shown.row_count:
            shown.add_row()
        if title:
            shown.add_row(Text(title, style="bold"))
        for row in rows:
            label = Text(evaluations.label(row))
            for control in evaluations.controls(row) if main else []:
                label.append(f"\n  {control}", style="dim")
            interval = evaluations.interval(row) if main else ""
            if interval and not beside:
                label.append(f"\n  {interval}", style="dim")
            values = [evaluations.cell(row, name) for name in columns]
            shown.add_row(label, *([values[0], interval, *values[1:]] if beside else values))
    return shown


def header(summary: Summary) -> RenderableType:
    """Return status, size, steps, time, device and speed."""
    head = Text(summary.headline, style="bold", overflow="fold")
    if summary.beside_article:
        head.append(f" ({ARTICLE_TIME})", style="not bold dim")
    shown = {"run", "steps", "speed", "parameters", "device", "data", "resumed"}
    facts = [(label, Text(value)) for label, value in summary.facts if label in shown and value != "–"]
    return Group(head, _labelled(facts))


def composition_table(summary: Summary) -> RenderableType:
    """Return the article's composition table, measured on this run."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("share of the loss")
    table.add_column("this run", justify="right")
    table.add_column("article", justify="right", style="dim")
    for row in summary.composition_rows:
        table.add_row(*row)
    return Group(Text(f"mean over {summary.phase_text} (train)"), table)


def phase_table(summary: Summary) -> RenderableType:
    """Return the share of each term in each phase of the training."""
    header, rows = summary.phase_table
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for index, name in enumerate(header):
        table.add_column(Text(name), justify="right" if index > 1 else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return Group(Text("mean share of the loss in each phase (train)"), table)


def evaluation_view(summary: Summary) -> RenderableType:
    """Return the main figures of each evaluation beside their controls, or how to get one."""
    if not summary.record.evaluations:
        return _labelled([("evaluation", Text(summary.evaluation_note))])
    parts: list[RenderableType] = []
    for found in summary.record.evaluations.values():
        chosen = evaluations.main_rows(found)
        parts += [Text(line) for line in evaluations.header(found)]
        parts.append(evaluation_table(found, chosen))
        if len(chosen) < len(found.rows):
            parts.append(Text(f"{len(found.rows) - len(chosen)} more on the page", style="dim"))
    return Group(*parts)


def findings_table(findings: list[Finding]) -> RenderableType:
    """Return the three findings as numbers beside the article's, with their verdict words."""
    rows = []
    for finding in findings:
        text = Text(f"{finding.title}: ")
        text.append(finding.verdict, style=_WORD_STYLE[finding.word])
        if finding.word != "cannot tell":
            text.append(f", {finding.why}")
        text.append(f"\nthis run  {finding.measured}")
        text.append(f"\narticle   {finding.article}", style="dim")
        rows.append((f"finding {finding.number}", text))
    return _labelled(rows)


def verdict_table(verdicts: list[Verdict]) -> RenderableType:
    """Return one line a verdict."""
    rows = []
    for index, verdict in enumerate(verdicts):
        text = Text(f"{verdict.sign} ", style=_VERDICT_STYLE[verdict.level])
        text.append(verdict.text, style="default")
        rows.append(("verdicts" if index == 0 else "", text))
    return _labelled(rows)


def sparklines(summary: Summary) -> RenderableType | None:
    """Return the shape of the loss, its terms and the main held-out figures."""
    record = summary.record
    names = [("loss", "train/loss"), *((term, f"train/term/{term}") for term in record.terms)]
    names += [("R2", "validation/r2"), ("generation", "validation/generation_accuracy")]
    names += [("nats/char", "validation/nats_per_character")]
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, overflow="crop", ratio=None)
    table.add_column(overflow="fold")
    for label, key in names:
        series = record.series(key)
        if len(series) < 2:
            continue
        where = key.split("/")[0] + (" accuracy" if key.endswith("accuracy") else "")
        ends = f"{three(series.first)} → {three(series.last)}"
        table.add_row(label, sparkline(series), Text(f"{ends} ({where})"))
    return table if table.row_count else None


def sparkline(series: Series, width: int = _SPARK_WIDTH) -> str:
    """Return a series as block characters, lowest to highest; `×` where it is not finite."""
    values = _buckets(series.value, width)
    finite = values[np.isfinite(values)]
    if not len(finite):
        return "×" * len(values)
    low, spread = float(finite.min()), float(np.ptp(finite))
    top = len(_BLOCKS) - 1
    return "".join(
        "×" if not np.isfinite(v) else _BLOCKS[round((v - low) / spread * top) if spread else 0]
        for v in values
    )


def comparison_view(comparison: Comparison) -> RenderableType:
    """Return the table of several runs, their config differences and each one's warnings."""
    groups = [group.name for group in comparison.groups]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("")
    repetitions = comparison.names if comparison.repeated and len(groups) == 1 else []
    for name in [*repetitions, *groups]:
        table.add_column(Text(name), justify="right", overflow="fold")
    for row in comparison.rows:
        table.add_row(row.label, *(row.texts if repetitions else []), *row.spread_texts)
    differences = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    differences.add_column("setting", overflow="fold")
    for name in groups:
        differences.add_column(Text(name), justify="right", overflow="fold")
    for key, values in comparison.group_differences.items():
        differences.add_row(Text(key), *(Text(value) for value in values))
    parts: list[RenderableType] = [table]
    if comparison.repeated:
        parts += [
            Text(OVER_SEEDS + ("" if repetitions else " Each run's own: on the page, data/table.csv")),
            Text(),
        ]
    parts.append(differences if comparison.differences else Text("the configs are the same"))
    for name, summary in zip(comparison.names, comparison.summaries, strict=True):
        parts += [Text(), Text(name, style="bold"), Padding(verdict_table(summary.verdicts), (0, 0, 0, 2))]
    return Group(*parts)


def _labelled(rows: list[tuple[str, Text]]) -> RenderableType:
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(width=10, no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for label, text in rows:
        table.add_row(label, text)
    return table


def _buckets(values: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Means of at most `width` stretches; a stretch with a value that is not finite is not either."""
    if len(values) <= width:
        return values
    with np.errstate(invalid="ignore"):
        return np.array([bucket.mean() for bucket in np.array_split(values, width)])
