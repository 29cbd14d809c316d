"""What is shown of one run, as blocks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np

from jepalm.config import flatten
from jepalm.evaluation.rows import Evaluation
from jepalm.numbers import NOTHING, count, counted, duration, percent, three
from jepalm.report.analysis import evaluation as evaluations
from jepalm.report.analysis import frontier
from jepalm.report.analysis.article import ARTICLE_COMPOSITION, ARTICLE_DEVICE, ARTICLE_SECONDS, ARTICLE_STEPS
from jepalm.report.analysis.weighted_terms import gradient_cosines, why_no_cosines
from jepalm.report.plots.catalogue import ARTICLE_PLOTS, EVALUATION_PLOTS, RUN_PLOTS, draw
from jepalm.report.plots.draw import Plot
from jepalm.report.read import RunRecord, Sample, Series, number
from jepalm.report.render.blocks import (
    Block,
    Cell,
    Cells,
    Document,
    Facts,
    Fold,
    Heading,
    Paragraph,
    Table,
    Verdicts,
    Where,
)
from jepalm.report.render.csv_files import run_csv
from jepalm.report.summary import Summary, setting_text
from jepalm.run import data_of
from jepalm.shell import command, data_dir_of

SAMPLES_SHOWN = 8
"""Most samples of a source; the first and the last are among them."""
ARTICLE_TIME = f"article: {ARTICLE_STEPS:,} in {duration(ARTICLE_SECONDS)} on an {ARTICLE_DEVICE}"
FOOT = (
    "Rules of every verdict: docs/report.md. The data is beside this page: data/*.csv, plots in plots/*.png."
)
NO_PLOTS = Paragraph("Nothing to draw yet.", muted=True, where="files")
SPARK_WIDTH = 32
_SPARKS = "▁▂▃▄▅▆▇█"
_LEVELS: dict[str, Literal["good", "warning", "note"]] = {
    "reproduced": "good",
    "not reproduced": "warning",
    "cannot tell": "note",
}


def run_document(summary: Summary, drawn: bool = True) -> Document:
    """Return the report of one run; without its plots where they are not drawn."""
    record = summary.record
    plots = {name: draw(record, names) if drawn else [] for name, names in
             (("article", ARTICLE_PLOTS), ("run", RUN_PLOTS), ("evaluation", EVALUATION_PLOTS))}  # fmt: skip
    blocks = [
        *_facts(summary),
        *(_findings(summary) if summary.beside_article else []),
        Heading("Verdicts"),
        Verdicts(summary.verdicts),
        *_evaluations(summary),
        *plots["evaluation"],
        *(_drawn("The article's plots, on this run", plots["article"]) if summary.beside_article else []),
        *_drawn("Curves and embedding health", plots["run"]),
        *_sparklines(record),
        *_cosine_note(record),
        *_samples(record.samples),
        *_config(summary),
    ]
    return Document(record.name, headline(summary), blocks, FOOT, run_csv(summary))


def headline(summary: Summary) -> str:
    """Return status, size, steps, time and device in one line."""
    record, took = summary.record, summary.speed
    parts = [record.title, record.status]
    if summary.parameters.get("total"):
        parts.append(f"{count(summary.parameters['total'])} parameters")
    steps = counted(took.steps, "step")
    if took.seconds:
        steps += f" in {duration(took.seconds)}"
    device = record.manifest.get("device")
    if isinstance(device, str) and device:
        steps += f" on {device}"
    line = " · ".join([*parts, steps])
    return f"{line} ({ARTICLE_TIME})" if summary.beside_article else line


def evaluation_table(evaluation: Evaluation, main: bool = False, where: Where = "everywhere") -> Table:
    """Return the metrics of an evaluation, its controls beside them or under their names.

    Args:
        evaluation: what was measured.
        main: only the metrics of a summary, without titles of their groups.
        where: the table is shown.
    """
    model, *others = evaluations.columns(evaluation).items()
    beside = not evaluations.refined_columns(evaluation)  # many columns leave no room for the interval
    groups = {"": evaluations.main_rows(evaluation)} if main else evaluations.groups(evaluation)
    rows: list[Cells] = []
    for title, members in groups.items():
        if title:
            rows.append([title])
        for row in members:
            values = {name: three(value) for name, value in row.values.items()}
            interval = f"[{three(row.interval[0])}, {three(row.interval[1])}]" if row.interval else ""
            notes = [f"{name} {three(value)}" for name, value in row.controls.items()]
            notes += [interval] if interval and not beside else []
            cells = [values.get(name, "") for name, _ in (model, *others)]
            rows.append(
                [
                    Cell(evaluations.label(row), "\n".join(notes)),
                    cells[0],
                    *([interval] if beside else []),
                    *cells[1:],
                ]
            )
    header = ["metric", model[1], *(["interval"] if beside else []), *(title for _, title in others)]
    return Table(header, rows, where=where)


def sparkline(series: Series, width: int = SPARK_WIDTH) -> str:
    """Return a series as block characters, lowest to highest; `×` where it is not finite."""
    values = series.value
    if len(values) > width:
        with np.errstate(invalid="ignore"):
            values = np.array([stretch.mean() for stretch in np.array_split(values, width)])
    finite = values[np.isfinite(values)]
    if not len(finite):
        return "×" * len(values)
    low, top = float(finite.min()), (len(_SPARKS) - 1) / (float(np.ptp(finite)) or np.inf)
    return "".join("×" if not np.isfinite(v) else _SPARKS[round((v - low) * top)] for v in values)


def _facts(summary: Summary) -> list[Block]:
    manifest, record = summary.record.manifest, summary.record
    planned, epoch = number(manifest.get("steps")), record.steps_per_epoch
    steps = f"{record.step:,}" + (f" of {planned:,.0f}" if planned else "")
    if epoch:
        steps += f" ({three(record.step / epoch)} epochs of {epoch:,})"
    hardware = [manifest.get("device"), manifest.get("device_name"), manifest.get("precision")]
    if threads := number(manifest.get("threads")):
        hardware.append(counted(round(threads), "thread"))
    main = [
        ("run", record.name),
        ("steps", steps),
        ("speed", _pace(summary)),
        ("parameters", _sizes(summary.parameters)),
        ("device", _joined(hardware)),
        ("data", _data(manifest.get("data"))),
        ("resumed", _resumed(manifest.get("resumed"))),
    ]
    blocks: list[Block] = [Heading("The run"), Facts([(label, text) for label, text in main if text])]
    if summary.composition and summary.phase:
        terms = sorted(summary.composition, key=lambda term: -summary.composition[term])
        rows = [[term, percent(summary.composition[term])] for term in terms]
        header = ["share of the loss", "this run"]
        if summary.beside_article:
            article = {term: percent(share) for term, share in ARTICLE_COMPOSITION.items()}
            header, rows = [*header, "article"], [[*row, article.get(row[0], NOTHING)] for row in rows]
        blocks.append(Table(header, rows, f"Mean over {summary.phase.text}, {summary.phase.name} (train)"))
    if summary.phases:
        terms = [term for term in record.terms if any(term in shares for _, shares in summary.phases)]
        blocks.append(
            Table(
                ["phase", "steps", *terms],
                [
                    [phase.name, phase.text, *(percent(shares.get(term)) for term in terms)]
                    for phase, shares in summary.phases
                ],
                "Mean share of the loss in each phase (train)",
                text_columns=2,
            )
        )
    return blocks


def _findings(summary: Summary) -> list[Block]:
    if not summary.record.train:
        return []
    rows: list[Cells] = [
        [f"{one.number} {one.title}", one.measured, one.article, Cell(one.word, one.why, _LEVELS[one.word])]
        for one in summary.findings
    ]
    header = ["finding", "this run", "article", "verdict"]
    return [Heading("The article's three findings"), Table(header, rows, text_columns=4)]


def _evaluations(summary: Summary) -> list[Block]:
    record = summary.record
    blocks: list[Block] = [Heading("Quality on held-out prompts")]
    if not record.evaluations:
        family, paired = record.setting("model.family"), data_of(record.manifest).get("pairing") == "pairs"
        run, data_dir = record.run.path, data_dir_of(record.manifest)
        text = f"not evaluated yet: {command('evaluate', run, data_dir=data_dir)}"
        if family == "causal" and not paired:
            beside = command("evaluate", "RUN", baseline=run, scorer=run, data_dir=data_dir)
            text = f"a causal run scores and stands beside: {beside}"
        return [*blocks, Facts([("evaluation", text)])]
    for split, found in record.evaluations.items():
        main = evaluation_table(found, main=True, where="terminal")
        blocks += [Heading(split, 3), *(Paragraph(text, muted=True) for text in evaluations.header(found))]
        if record.step > found.step:
            blocks.append(Paragraph(f"The run has reached step {record.step:,} since."))
        blocks += [main, evaluation_table(found, where="files")]
        if len(main.rows) < len(found.rows):
            text = f"{len(found.rows) - len(main.rows)} more on the page"
            blocks.append(Paragraph(text, muted=True, where="terminal"))
        header, ways = frontier.table({frontier.ALONE: found})
        if ways:
            caption = "What each way to write costs, beside its quality"
            blocks.append(Table(header, ways, caption, where="files"))
        if found.texts:
            texts: list[Block] = [
                Table(
                    ["after", Cell(prompt, verbatim=True)],
                    [[name, Cell(text, verbatim=True)] for name, text in written],
                    text_columns=2,
                )
                for prompt, written in evaluations.texts(found)
            ]
            blocks.append(
                Fold(f"Texts after {counted(len(texts), 'prompt')} evenly spaced, none chosen", texts)
            )
    return blocks


def _drawn(title: str, plots: list[Plot]) -> list[Block]:
    return [Heading(title), *plots] if plots else [Heading(title), NO_PLOTS]


def _sparklines(record: RunRecord) -> list[Block]:
    """The shape of the loss, its terms and the main held-out metrics, for a terminal."""
    keys = [("loss", "train/loss"), *((term, f"train/term/{term}") for term in record.terms)]
    keys += [("R2", "validation/r2"), ("generation", "validation/generation_accuracy")]
    keys += [("nats/char", "validation/nats_per_character")]
    rows = []
    for label, key in keys:
        series = record.series(key)
        if len(series) > 1:
            where = key.split("/")[0] + (" accuracy" if key.endswith("accuracy") else "")
            rows.append([label, sparkline(series), f"{three(series.first)} → {three(series.last)} ({where})"])
    return [Table([], rows, text_columns=3, where="terminal")] if rows else []


def _cosine_note(record: RunRecord) -> list[Block]:
    """Why there is no cosine between gradients, where one would be looked for."""
    if not record.train or len(record.terms) < 2 or gradient_cosines(record):
        return []
    return [Paragraph(f"Cosine between gradients: {why_no_cosines(record)}", muted=True, where="files")]


def _samples(samples: list[Sample]) -> list[Block]:
    """What each source gave as training went on, in the order in which the sources first came."""
    by_source: dict[str, list[Sample]] = {}
    for sample in samples:
        by_source.setdefault(sample.source, []).append(sample)
    note = "Generated from held-out sources; blanks and line ends are shown as marks."
    most = max(map(len, by_source.values()), default=0)
    if most > SAMPLES_SHOWN:
        note += f" {SAMPLES_SHOWN} of {most} steps are shown; data/samples.csv has all."
    text = note if samples else "No samples were written yet."
    blocks: list[Block] = [Heading("Samples as they evolved"), Paragraph(text, muted=True, where="files")]
    for source, group in by_source.items():
        places = np.linspace(0, len(group) - 1, min(len(group), SAMPLES_SHOWN)).round().astype(int)
        given = [("source", Cell(source, verbatim=True)), ("target", Cell(group[0].target, verbatim=True))]
        rows: list[Cells] = [[f"{group[k].step:,}", Cell(group[k].generated, verbatim=True)] for k in places]
        blocks += [Facts(given, where="files")]
        blocks += [Table(["step", "generated"], rows, text_columns=2, where="files")]
    return blocks


def _config(summary: Summary) -> list[Block]:
    """What else identifies the run, and its settings."""
    manifest, record = summary.record.manifest, summary.record
    names = [name for name in ("jepalm", "torch", "python") if manifest.get(name)]
    time, argv = duration(summary.speed.seconds), manifest.get("argv")
    facts = [
        ("status", record.status),
        ("time", f"{time} ({ARTICLE_TIME})" if summary.beside_article else time),
        ("phases", " · ".join(f"{phase.name}: {phase.text}" for phase, _ in summary.phases)),
        ("seed", str(manifest.get("seed", record.setting("training.seed")))),
        ("started", str(manifest.get("started") or "")),
        ("ended", str(manifest.get("ended") or "")),
        ("best", _best(manifest.get("best"))),
        ("versions", " · ".join(f"{name} {manifest[name]}" for name in names)),
        ("commit", str(manifest.get("git_commit") or "")),
        ("command", " ".join(["jepalm", *map(str, argv)]) if isinstance(argv, list) else ""),
    ]
    shown = [(label, text) for label, text in facts if text not in ("", "None")]
    settings = [[key, setting_text(value)] for key, value in flatten(record.config)]
    if not settings:
        empty = Paragraph("The config is empty or cannot be read.", muted=True, where="files")
        return [Heading("Config"), Facts(shown, where="files"), empty]
    table = Table(["setting", "value"], settings, text_columns=2, where="files")
    return [Heading("Config"), Facts(shown, where="files"), table]


def _pace(summary: Summary) -> str:
    """Steps a second, and how that compares with the article's."""
    pace = summary.speed
    if not pace.steps_per_second:
        return ""
    words = f"{three(pace.steps_per_second)} steps/s"
    if pace.times_article and summary.beside_article:
        size = "" if pace.same_size else ", whose model has 10.1 M parameters"
        words += f", {three(pace.times_article)} times the article's ({ARTICLE_DEVICE}{size})"
    return words


def _sizes(parameters: Mapping[str, float]) -> str:
    if not parameters:
        return ""
    parts = [f"{name} {count(size)}" for name, size in parameters.items() if name != "total"]
    total = count(parameters.get("total", sum(parameters.values())))
    return f"{total} ({', '.join(parts)})" if parts else total


def _data(data: Any) -> str:
    if not isinstance(data, Mapping):
        return str(data) if data else ""
    parts = [data.get("name"), data.get("corpus")]
    if data.get("content_sha256"):
        parts.append(f"SHA-256 {str(data['content_sha256'])[:8]}")
    if data.get("canonical") is not None:
        parts.append("canonical" if data["canonical"] else "not the canonical text")
    return _joined(parts)


def _resumed(resumed: Any) -> str:
    if not isinstance(resumed, list) or not resumed:
        return ""
    return "at step " + ", ".join(f"{step:,.0f}" for value in resumed if (step := number(value)) is not None)


def _best(best: Any) -> str:
    if not isinstance(best, Mapping) or number(best.get("step")) is None:
        return ""
    return f"{best.get('metric', 'validation')} {three(number(best.get('value')))} at step {best['step']:,}"


def _joined(parts: Iterable[Any]) -> str:
    """What there is of the parts, each once."""
    return " · ".join(dict.fromkeys(str(part) for part in parts if part))
