"""A report as rich renderables, for terminals of any width."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from jepalm.numbers import three
from jepalm.report.analysis import Finding
from jepalm.report.compare import Comparison
from jepalm.report.read import Series
from jepalm.report.summary import ARTICLE_TIME, Summary
from jepalm.report.verdicts import Verdict

_BLOCKS = "▁▂▃▄▅▆▇█"
_SPARK_WIDTH = 32
_WORD_STYLE = {"reproduced": "green", "not reproduced": "yellow", "cannot tell": "dim"}
_VERDICT_STYLE = {"warning": "yellow", "note": "cyan", "good": "green"}


def run_view(summary: Summary) -> RenderableType:
    """Return header, composition, findings, verdicts and sparklines of one run."""
    parts: list[RenderableType] = [header(summary)]
    if summary.composition:
        parts += [Text(), composition_table(summary)]
    if summary.record.train and summary.beside_article:
        parts += [findings_table(summary.findings)]
    parts += [Text(), verdict_table(summary.verdicts)]
    if sparks := sparklines(summary):
        parts += [Text(), sparks]
    return Group(*parts)


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
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("")
    for name in comparison.names:
        table.add_column(name, justify="right", overflow="fold")
    spread = comparison.same_but_for_seed
    if spread:
        table.add_column("mean ± sd", justify="right")
    for row in comparison.rows:
        table.add_row(row.label, *row.texts, *([row.spread] if spread else []))
    differences = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    differences.add_column("setting", overflow="fold")
    for name in comparison.names:
        differences.add_column(name, justify="right", overflow="fold")
    for key, values in comparison.differences.items():
        differences.add_row(Text(key), *(Text(value) for value in values))
    parts: list[RenderableType] = [table]
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
