"""The model card of an exported run: data, licence, figures beside their controls, limits.

Every figure is from the run's own files. Nothing in it names a folder or a host of the machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jepalm.escaping import for_terminal
from jepalm.numbers import count, duration, three
from jepalm.report.analysis import evaluation as evaluations
from jepalm.report.read import LogPoint, RunRecord, number
from jepalm.report.render.blocks import Cell, Cells, Facts, Table, Verdicts
from jepalm.report.render.markdown import escaped, shown
from jepalm.report.render.run import evaluation_table
from jepalm.report.summary import Summary
from jepalm.run import data_of
from jepalm.shell import command

PROMPTS = {
    "lines": "To be, or not to be",
    "windows": "To be, or not to be",
    "spans": "To be, or ____ to be",
    "pairs": "a source",
}
"""What an example reads, by the pairing of the data."""
DECODERS = {
    "parallel": "a decoder writes all of its tokens at once",
    "local": "a light decoder writes them out token by token, from each embedding and the last tokens",
    "recurrent": "a light recurrent decoder writes them out token by token",
}
PAIRINGS = {
    "lines": "each line predicts the next",
    "windows": "a window of text predicts what follows",
    "spans": "a text with gaps predicts what stands in them",
    "pairs": "given pairs of source and target",
}


@dataclass(frozen=True)
class ExportFacts:
    """What the export knows beside the run's files.

    Attributes:
        name: of the folder.
        step: of the weights.
        n_parameters: written.
        precision: "fp32" or "bf16".
        tokenizer: `char`, `byte`, `bpe:SIZE` or `word:SIZE`.
        backbone: name of the pretrained model that was trained on, if one.
        onnx: each file's name, and its largest difference to torch.
    """

    name: str
    step: int
    n_parameters: int
    precision: str
    tokenizer: str
    backbone: str | None = None
    onnx: Sequence[tuple[str, float]] = ()


def model_card(summary: Summary, facts: ExportFacts) -> str:
    """The model card as Markdown, with the front matter that model hubs read."""
    record = summary.record
    sections = {
        "Use": _use(record, facts),
        "Data": _data(record, facts),
        "Training": _training(summary, facts),
        "Figures": _figures(record, facts),
        "Limits": _limits(summary, facts),
    }
    parts = [_front_matter(facts), f"# {escaped(facts.name)}", _what(record, facts)]
    for title, blocks in sections.items():
        parts += [f"## {title}", *blocks]
    return for_terminal("\n\n".join(parts) + "\n")


def _front_matter(facts: ExportFacts) -> str:
    lines = ["library_name: jepalm", "pipeline_tag: text-generation", "tags:", "- jepa"]
    lines += ["- onnx"] if facts.onnx else []
    if facts.backbone is not None and facts.backbone.count("/") == 1:
        lines.append(f"base_model: {facts.backbone}")
    return "\n".join(["---", *lines, "---"])


def _what(record: RunRecord, facts: ExportFacts) -> str:
    size = f"{count(facts.n_parameters)} parameters, {facts.precision}"
    if record.setting("model.family") == "causal":
        kind = "A causal language model: one forward pass a token"
        if facts.backbone is not None:
            kind = f"{escaped(facts.backbone)}, trained further: one forward pass a token"
        latent = number(record.setting("objective.latent.weight")) or 0
        return f"{kind}{', with a latent term (LLM-JEPA)' if latent else ''}. {size}."
    decoder = DECODERS.get(str(record.setting("model.decoder.kind")), "a decoder writes its tokens")
    world = record.setting("model.action.conditioning") not in (None, "none")
    read = "a state and an action" if world else "a source"
    made = "the next state" if world else "the whole target"
    predicts = f"from {read} it predicts the embeddings of {made} in one forward pass"
    return f"A JEPALM: {predicts}, and {decoder}. {size}."


def _use(record: RunRecord, facts: ExportFacts) -> list[str]:
    pairing = _of_data(record, "pairing")
    prompt = PROMPTS.get(str(pairing), PROMPTS["pairs"])
    acts = bool(_of_data(record, "has_action"))
    action = ', actions=["an action"]' if acts else ""
    call = f'model.generate(["{prompt}"]{action})'
    code = f'import jepalm\n\nmodel = jepalm.load("{facts.name}")\n{call}'
    example = command("generate", prompt, action="ACTION" if acts else None, run=facts.name)
    if pairing == "spans":
        code, example = "", command("infill", prompt, run=facts.name)
    parts = [f"```python\n{code}\n```"] if code else []
    parts.append(f"```sh\n{example}\n```")
    if facts.onnx:
        rows: list[Cells] = [[Cell(name, verbatim=True), f"{value:.1e}"] for name, value in facts.onnx]
        caption = "Without Python: each file's largest difference to torch, checked as it was written"
        parts.append(shown(Table(["file", "difference"], rows, caption)))
    return parts


def _data(record: RunRecord, facts: ExportFacts) -> list[str]:
    splits = _of_data(record, "splits")
    sizes = []
    for name, held in splits.items() if isinstance(splits, Mapping) else ():
        pairs, tokens = (number(held.get(key)) for key in ("pairs", "tokens"))
        sizes.append(f"{name} " + (f"{pairs:,.0f} pairs" if pairs else f"{tokens or 0:,.0f} tokens"))
    canonical = _of_data(record, "canonical")
    rows = [
        ("name", Path(str(_of_data(record, "name") or "")).name),
        ("corpus", _of_data(record, "corpus")),
        ("source", _of_data(record, "source")),
        ("licence", _of_data(record, "licence") or "not stated in the run's files"),
        ("canonical text", None if canonical is None else "yes" if canonical else "no"),
        ("pairs", PAIRINGS.get(str(_of_data(record, "pairing")))),
        ("splits", " · ".join(sizes)),
        ("tokenizer", facts.tokenizer),
        ("SHA-256", _of_data(record, "content_sha256")),
    ]
    licence = "The data's licence is as it was stated when the data was prepared."
    if facts.backbone is not None:
        licence += f" The weights are derived from {facts.backbone}, whose licence holds, too."
    return [_facts(rows), escaped(licence)]


def _training(summary: Summary, facts: ExportFacts) -> list[str]:
    record, manifest = summary.record, summary.record.manifest
    planned = number(manifest.get("steps"))
    names = [f"{name} {manifest[name]}" for name in ("jepalm", "torch") if manifest.get(name)]
    device = [manifest.get(key) for key in ("device", "device_name", "precision") if manifest.get(key)]
    rows = [
        ("run", record.name),
        ("preset", record.title),
        ("step", f"{facts.step:,}" + (f" of {planned:,.0f}" if planned else "")),
        ("time of the run", duration(summary.speed.seconds) if summary.speed.seconds else None),
        ("device", " · ".join(map(str, device))),
        ("seed", manifest.get("seed")),
        ("versions", " · ".join(names)),
        ("commit", manifest.get("git_commit")),
    ]
    return [_facts(rows)]


def _figures(record: RunRecord, facts: ExportFacts) -> list[str]:
    parts = []
    point = _validated(record, facts.step)
    if point is not None:
        metrics = {key: number(value) for key, value in point.items() if key.startswith("validation/")}
        rows = [[key.partition("/")[2], three(value)] for key, value in metrics.items() if value is not None]
        caption = f"On held-out pairs (validation) at step {point['step']:,}, as the run logged it"
        parts.append(shown(Table(["metric", "value"], rows, caption)))
    for split, found in record.evaluations.items():
        parts += [f"### {escaped(split)}", *map(escaped, evaluations.header(found))]
        if found.step != facts.step:
            parts.append(f"**Measured at step {found.step:,}; these weights are of step {facts.step:,}.**")
        parts.append(shown(evaluation_table(found)))
    if not record.evaluations:
        parts.append(
            "Not measured on held-out prompts beside controls: `jepalm evaluate` does, before the export."
        )
    return parts


def _limits(summary: Summary, facts: ExportFacts) -> list[str]:
    record = summary.record
    reads, writes = record.setting("model.source_len"), record.setting("model.target_len")
    context = record.setting("model.causal.context_len")
    causal = record.setting("model.family") == "causal"
    endless = causal and _of_data(record, "pairing") == "windows"
    lines = [
        f"- It reads the last {context:,} tokens of a text."
        if endless
        else f"- It reads the last {reads:,} tokens of a source; targets of training had {writes:,} at most.",
        "- It knows the data above and nothing else; nobody has checked what it writes."
        if facts.backbone is None
        else "- Nobody has checked what it writes.",
    ]
    if facts.tokenizer == "char":
        lines.append("- Characters outside its alphabet are refused.")
    found = [verdict for verdict in summary.verdicts if verdict.level == "warning"]
    if found:
        return ["\n".join(lines), "What the rules of `jepalm report` say of the run:", shown(Verdicts(found))]
    return ["\n".join(lines)]


def _validated(record: RunRecord, step: int) -> LogPoint | None:
    """The validation at a step, else the last before it."""
    before = [point for point in record.validation if point["step"] <= step]
    return before[-1] if before else None


def _of_data(record: RunRecord, key: str) -> Any:
    """What the manifest says of the data."""
    return data_of(record.manifest).get(key)


def _facts(rows: Sequence[tuple[str, Any]]) -> str:
    """Labels with what they stand for, those that stand for something."""
    return shown(Facts([(label, str(value)) for label, value in rows if value not in (None, "")]))
