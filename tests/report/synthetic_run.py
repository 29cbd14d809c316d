"""Small run folders in the trainer's format, with numbers made by formulas."""

import io
import json
import math
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from jepalm.config import Config
from jepalm.report.read import read_run
from jepalm.report.summary import Summary, analyse


def term(name: str, unit: str = "", validation: str | None = None, **said: bool) -> dict[str, Any]:
    """A loss term as the session writes it into the manifest."""
    record = {"name": name, "label": f"{name} loss", "unit": unit, "divisor": "pair", "nats": False}
    return record | {"constant": False, "validation": validation and f"validation/{validation}", **said}


MANIFEST_TERMS = [
    term("reconstruction", "nats a token", "reconstruction_ce", nats=True),
    term("embedding", "squared distance, sum over dims", "embedding"),
    term("length", "squared positions", "length_mse"),
]

MANIFEST: dict[str, Any] = {
    "status": "finished",
    "preset": "shakespeare",
    "jepalm": "0.1.0",
    "python": "3.11",
    "torch": "2.9",
    "argv": ["train"],
    "started": "2026-01-02T03:04:05+00:00",
    "ended": "2026-01-02T03:09:05+00:00",
    "seconds": 200.0,
    "device": "cpu",
    "device_name": "a test",
    "precision": "fp32",
    "threads": 2,
    "seed": 0,
    "parameters": {"total": 10_100_000, "encoder": 3_000_000, "predictor": 4_000_000},
    "data": {"name": "lines", "corpus": "lines", "content_sha256": "ab" * 32, "canonical": True},
    "steps_per_epoch": 500,
    "terms": MANIFEST_TERMS,
    "error": None,
    "resumed": [],
}


def reconstruction(step: int) -> float:
    return 4.0 * math.exp(-step / 40) + 0.001


def embedding(step: int) -> float:
    return 160 + 80 * math.exp(-step / 600)


def length(step: int) -> float:
    return 150 + 120 * math.sin(step * 2.39996)


TERMS = {"reconstruction": reconstruction, "embedding": embedding, "length": length}


def train_row(step: int, every: int = 25, **extra: Any) -> dict[str, Any]:
    steps = range(step - every + 1, step + 1)
    batches = {term: [value(k) for k in steps] for term, value in TERMS.items()}
    means = {term: sum(values) / every for term, values in batches.items()}
    loss = sum(means.values())
    row: dict[str, Any] = {"kind": "train", "step": step, "epoch": step / 500, "time": step / 10}
    row["train/loss"] = loss
    for term, mean in means.items():
        row[f"train/term/{term}"] = mean
        row[f"train/share/{term}"] = mean / loss
        row[f"train/weight/{term}"] = 1.0
    row |= {"train/lr": 1e-3, "train/grad_norm": 5.0, "speed/steps_per_s": 10.0, "batches": batches}
    row["train/grad_norm_encoder/reconstruction"] = 0.1
    return row | extra


def validation_row(step: int, **extra: Any) -> dict[str, Any]:
    distance = embedding(step) + 10
    row = {
        "kind": "validation",
        "step": step,
        "epoch": step / 500,
        "time": step / 10,
        "validation/loss": distance + 150,
        "validation/reconstruction_ce": 0.004,
        "validation/reconstruction_accuracy": 0.99,
        "validation/embedding": distance,
        "validation/embedding_mean": 250.0,
        "validation/r2": 1 - distance / 250,
        "validation/embedding_copy": 450.0,  # R2 of the copy: -0.8
        "validation/r2_copy": 1 - distance / 450,
        "validation/generation_ce": 2.6,
        "validation/generation_accuracy": 0.2,
        "validation/length_mae": 12.0,
        "validation/embedding_std": 0.9,
        "validation/effective_rank": 150.0,
        "validation/predicted_std": 0.4,
        "validation/predicted_effective_rank": 40.0,
    }
    return row | extra


def sample(step: int, **extra: Any) -> dict[str, Any]:
    texts = {"source": "Before we proceed", "target": "Speak, speak.", "generated": f"And the {step}  "}
    return {"step": step, **texts, **extra}


def healthy_rows(steps: int = 2000) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for step in range(25, steps + 1, 25):
        rows.append(train_row(step))
        if step % 250 == 0:
            rows.append(validation_row(step))
    return rows


def laboratory_rows(steps: int = 2000) -> list[dict[str, Any]]:
    """Two phases, weights that move, and two terms that pull on the encoder against each other."""
    rows = healthy_rows(steps)
    for row in rows:
        if row["kind"] == "train":
            row["train/weight/reconstruction"] = math.exp(min(4.0, row["step"] / 200))
            row["train/grad_norm_encoder/embedding"] = 0.2
            row["train/grad_cosine/reconstruction/embedding"] = -0.3
    return [phase_event(0, "autoencoder", 0), *rows, phase_event(steps // 2, "predictor", 1)]


def phase_event(step: int, name: str, index: int) -> dict[str, Any]:
    return {"kind": "event", "step": step, "event": "phase", "phase": name, "index": index}


def evaluation(split: str = "validation", **extra: Any) -> dict[str, Any]:
    """What `jepalm evaluate` writes, with some figures."""

    def row(name: str, label: str, unit: str, **values: Any) -> dict[str, Any]:
        blank = {"model": None, "real": None, "ngram": None, "baseline": None, "interval": None}
        return {"name": name, "label": label, "unit": unit, **blank, "controls": {}, **values}

    rows = [
        row(
            "decoder/generation_ce",
            "CE on predicted embeddings",
            "nats/token",
            model=4.61,
            interval=[4.57, 4.64],
            controls={"training unigram": 3.33},
        ),
        row("scorer/nll", "NLL", "nats/char", model=6.5, real=1.57, ngram=1.31, interval=[6.44, 6.55]),
        row("scorer/gap", "NLL minus that of real text", "nats/char", model=4.93, real=0.0, ngram=-0.26),
        row("text/characters", "length", "chars/text", model=26.6, real=25.9, ngram=25.9),
        row("cost/passes", "forward passes", "passes/text", model=1.0, ngram=26.0),
        row("cost/latency", "time of a text by itself", "ms", model=9.1, ngram=2.5),
    ]
    return {
        "run": "one",
        "step": 500,
        "split": split,
        "n_prompts": 999,
        "n_samples": 2,
        "temperature": 1.0,
        "seed": 0,
        "scorer": "Witten-Bell 5-gram",
        "scored_by_ngram": True,
        "baseline": None,
        "training_tokens": 1_016_242,
        "rows": rows,
        "left_out": None,
        "task": None,
        "n_answers": 0,
        "passes": [],
        "order": None,
        "further": [],
        "verified": None,
        "length": None,
        "kept": [],
        "texts": [],
        "by_position": {"model": [3.7, 7.1, None], "real": [2.7, 2.0, 1.3], "ngram": [2.4, 1.4, 0.9]},
        **extra,
    }


def summary_of(folder: Path) -> Summary:
    return analyse(read_run(folder))


def shown(view: Any, width: int = 120) -> str:
    """What a terminal of a width shows."""
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(view)
    return console.file.getvalue()


def write_run(
    folder: Path,
    rows: list[dict[str, Any]] | None = None,
    samples: list[dict[str, Any]] | None = None,
    config: dict[str, Any] | str | None = None,
    tail: str = "",
    evaluations: dict[str, Any] | None = None,
    **manifest: Any,
) -> Path:
    folder.mkdir(parents=True)
    for split, tree in (evaluations or {}).items():
        (folder / "report").mkdir(exist_ok=True)
        text = tree if isinstance(tree, str) else json.dumps(tree)
        (folder / "report" / f"evaluation-{split}.json").write_text(text)
    reached = max((row["step"] for row in rows or []), default=0)
    fields = {**MANIFEST, "steps": reached, "step": reached, **manifest}
    fields = {key: value for key, value in fields.items() if value is not ...}
    (folder / "manifest.json").write_text(json.dumps(fields))
    tree = Config().model_dump() if config is None else config
    (folder / "config.yaml").write_text(tree if isinstance(tree, str) else yaml.safe_dump(tree))
    if rows is not None:
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + tail)
    if samples is not None:
        (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in samples))
    return folder
