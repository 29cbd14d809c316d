"""What is shown of several runs side by side, and of a sweep, as blocks."""

from __future__ import annotations

from jepalm.numbers import NOTHING, counted, signed, three
from jepalm.report.analysis.frontier import table as frontier_table
from jepalm.report.analysis.paired import MeanStd
from jepalm.report.analysis.sweep import MetricTable, SweepLine, SweepTable
from jepalm.report.comparison import Comparison
from jepalm.report.plots.compare import comparison_plots
from jepalm.report.plots.sweep import differences, means
from jepalm.report.read import SPLITS
from jepalm.report.render.blocks import (
    Block,
    Cell,
    Document,
    Fold,
    Heading,
    Paragraph,
    Table,
    Verdicts,
    Where,
)
from jepalm.report.render.csv_files import comparison_csv
from jepalm.report.render.run import NO_PLOTS, headline

OVER_SEEDS = "Mean ± sample standard deviation over the seeds of a recipe; a single run has its value."


def comparison_document(comparison: Comparison, drawn: bool = True) -> Document:
    """Return the report of several runs; without its plots where they are not drawn."""
    groups, names = [group.name for group in comparison.groups], comparison.names
    metrics = comparison.metrics
    each = Table(["metric", *names], [[one.label, *one.texts] for one in metrics])
    over = Table(["metric", *groups], [[one.label, *one.over_seeds_texts] for one in metrics], OVER_SEEDS)
    changed = [[key, *values] for key, values in comparison.group_differences.items()]
    blocks: list[Block] = [Heading("Metrics side by side")]
    blocks += [over, Fold("Each run", [each])] if comparison.repeated else [each]
    if comparison.repeated:
        note = "Each run's own: on the page, data/table.csv"
        blocks.append(Paragraph(note, muted=True, where="terminal"))
    for split in SPLITS:
        records = comparison.by_short_name.items()
        header, ways = frontier_table(
            {name: record.evaluations[split] for name, record in records if split in record.evaluations}
        )
        if ways:
            caption = f"What each way to write costs, beside its quality, on {split}"
            blocks.append(Table(header, ways, caption, where="files"))
    blocks.append(Heading("Config difference"))
    if changed:
        blocks.append(Table(["setting", *groups], changed, text_columns=1 + len(groups)))
    else:
        blocks.append(Paragraph("The configs are the same."))
    plots = comparison_plots(comparison) if drawn else []
    blocks += [Heading("Overlaid curves"), *plots, *([] if plots else [NO_PLOTS])]
    blocks.append(Heading("Verdicts of each run"))
    for name, summary in zip(names, comparison.summaries, strict=True):
        blocks += [Heading(name, 3), Paragraph(headline(summary), muted=True, where="files")]
        blocks.append(Verdicts(summary.verdicts))
    return Document(
        f"{len(names)} runs compared",
        " · ".join(names),
        blocks,
        "Each run's own page has more: jepalm report RUN. The data is beside this page: data/*.csv, plots in "
        "plots/*.png.",
        comparison_csv(comparison),
    )


def sweep_document(table: SweepTable, drawn: bool = True) -> Document:
    """Return the report of a sweep; without its plots where they are not drawn."""
    rows, compared = table.rows, [one for one in table.metrics if any(line.difference for line in one.lines)]
    overview = Table(
        ["row", *(one.metric.title for one in table.metrics)],
        [
            [row.name, *(_starred(one.lines[place]) for one in table.metrics)]
            for place, row in enumerate(rows)
        ],
        f"mean ± standard deviation over seeds; * where the difference from {table.reference} is clear of 0",
        where="files",
    )
    every, difference = (means(table), differences(table)) if drawn else (None, None)
    blocks: list[Block] = [Heading("Mean over seeds"), overview, _metrics(table, "terminal")]
    blocks += [Paragraph(note, muted=True) for note in table.notes]
    blocks += [every] if every else []
    if compared and difference:
        blocks += [Heading(f"Difference from {table.reference}"), difference]
    changes = [[row.name, row.changes or NOTHING, ", ".join(row.runs.values())] for row in rows]
    blocks += [
        Heading("Metric by metric"),
        _metrics(table, "files"),
        Heading("The rows"),
        Paragraph("Runs are folders beside this page.", muted=True, where="files"),
        Table(["row", "changes", "runs"], changes, text_columns=3, where="files"),
    ]
    return Document(
        f"sweep {table.name}",
        f"{counted(len(rows), 'row')}, seeds {', '.join(map(str, table.seeds))};"
        f" the reference is {table.reference}",
        blocks,
        "How to read it: docs/sweep.md. The data is beside this page: sweep.csv, sweep.json, sweep.svg.",
    )


def _metrics(table: SweepTable, where: Where) -> Table:
    """Every metric of every row with its difference; files have Holm's p and the value of each seed too."""
    full, several = where == "files", len(table.rows) > 1
    uneven = any(line.values.keys() != {*table.seeds} for one in table.metrics for line in one.lines)
    header = ["row", "mean ± sd", *(["n"] if full or uneven else [])]
    header += ["difference", "[low, high]", "p"] if full or several else []
    header += ["Holm's p", *(f"seed {seed}" for seed in table.seeds)] if full else []
    rows: list[list[str | Cell]] = []
    for one in table.metrics:
        rows.append([one.metric.title])
        for line in one.lines:
            cells = [line.row, _mean(line.spread)]
            cells += [str(line.spread.n if line.spread else 0)] if full or uneven else []
            cells += _tested(line) if full or several else []
            cells += (
                [_p(line.p_holm), *(three(line.values.get(seed)) for seed in table.seeds)] if full else []
            )
            rows.append([*cells])
        rows += _controls(one, len(header))
    return Table(header, rows, where=where)


def _controls(one: MetricTable, width: int) -> list[list[str | Cell]]:
    named = one.metric.controls.items()
    return [[f"({name})", three(value), *[""] * (width - 2)] for name, value in named]


def _starred(line: SweepLine) -> str:
    return _mean(line.spread) + (" *" if line.difference and line.difference.clear else "")


def _mean(over: MeanStd | None) -> str:
    if over is None:
        return NOTHING
    return three(over.mean) + (f" ± {three(over.sd)}" if over.sd is not None else "")


def _tested(line: SweepLine) -> list[str]:
    """The difference, with a star where its interval leaves 0 out, the interval, and p."""
    found = line.difference
    if found is None:
        return ["", "", ""]
    interval = f"[{signed(found.low)}, {signed(found.high)}]" if found.low is not None else ""
    return [signed(found.mean) + (" *" if found.clear else ""), interval, _p(found.p)]


def _p(p: float | None) -> str:
    if p is None:
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
