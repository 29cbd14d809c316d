"""What predicted embeddings are worth to a decoder that reads m tokens before each position.

Trains a run a point with `jepalm train`, with predicted embeddings and with a learned vector a position in
their place, beside the causal model; measures all on the same held-out pairs, in nats a token, in all and by
position; writes `curve.json`, `curve.md` and `curve.svg`. What is finished is not trained again.

    python benchmarks/one_pass_curve.py --out one-pass-curve --steps 1500 --seeds 3 --jobs 2

Data: jepalm prepare shakespeare --pairing windows --name shakespeare-windows
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jepalm.evaluation.validation.exact_likelihood import RANGES

CONTEXTS = (0, 1, 2, 4, 8, 16)
RECURRENT = "gru"
KINDS = ("predicted", "positions")
CAUSAL = "causal"
READ = {"generation": "own", "other_source": "another source's", "mean_embedding": "their mean"}


@dataclass(frozen=True)
class Point:
    """One run of the curve: `m` is a number of tokens, `gru`, or `causal`."""

    m: str
    embeddings: str
    seed: int

    @property
    def name(self) -> str:
        """Of the run."""
        return f"curve-{self.m}-{self.embeddings}-s{self.seed}"

    def settings(self, steps: int) -> list[str]:
        """What `jepalm train` is told."""
        shared = ["--steps", str(steps), "--name", self.name, f"training.seed={self.seed}"]
        if self.m == CAUSAL:
            same = ["model.dim=128", "model.causal.n_layers=5", "model.causal.context_len=192"]
            kept = ["model.dropout=0.1", "training.batch_size=32", "training.patience=3"]
            rate = ["training.validate_every=150", "optimizer.lr=2e-3"]
            return ["--preset", "shakespeare-ar-small", *shared, *same, *kept, *rate]
        decoder = "recurrent" if self.m == RECURRENT else "local"
        own = [f"model.decoder.kind={decoder}", f"model.decoder.embeddings={self.embeddings}"]
        own += ["model.decoder.ngram=0"]
        own += ["model.encoder.n_layers=2", "model.predictor.n_layers=2"]
        if self.m != RECURRENT:
            own.append(f"model.decoder.context={self.m}")
        if self.embeddings == "positions":  # the predictor is not read, and the encoder by a GRU alone
            read = "encoder_lm, " if self.m == RECURRENT else ""
            parts = "encoder, decoder" if read else "decoder"
            language = f"{{name: language, share: 3, terms: [{read}decoder_lm], train: [{parts}]}}"
            passages = "{name: passages, share: 2, terms: [generation], train: [decoder]}"
            own.append(f"training.phases=[{language}, {passages}]")
            own.append(f"objective.encoder_lm.weight={int(bool(read))}")
        return ["--preset", "shakespeare-local-small", *shared, *own]


def points(seeds: int) -> Iterator[Point]:
    """All points, the first seed of each first."""
    for seed in range(seeds):
        for m in (*map(str, CONTEXTS), RECURRENT):
            for kind in KINDS:
                yield Point(m, kind, seed)
        yield Point(CAUSAL, "none", seed)


def finished(point: Point, runs: Path) -> Path | None:
    """The folder of a point's run, if it is finished."""
    for folder in sorted(runs.glob(f"*-{point.name}*"), reverse=True):
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        if manifest.get("status") == "finished":
            return folder
    return None


def train(point: Point, args: argparse.Namespace) -> None:
    """Train a point's run in a process of its own, unless there is one."""
    runs = args.out / "runs"
    if finished(point, runs) is not None:
        return
    command = [sys.executable, "-m", "jepalm", "train", *point.settings(args.steps), "--run-dir", str(runs)]
    command += ["--data-dir", str(args.data_dir), *args.settings]
    log = args.out / f"{point.name}.log"
    with log.open("w", encoding="utf-8") as file:
        code = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False).returncode
    sys.stderr.write(f"{point.name}: {'done' if code == 0 else f'failed with {code}, see {log}'}\n")


def measure(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """NLL of held-out targets by what is read, in all and by position, nats a token."""
    from jepalm.errors import JepalmError
    from jepalm.evaluation.text.held_out import pick_pairs
    from jepalm.evaluation.text.likelihood import CausalScorer
    from jepalm.generation.loading import load_trained
    from jepalm.run import open_run

    run = open_run(folder)
    try:
        trained = load_trained(run, "best")
    except JepalmError:
        trained = load_trained(run)
    sizes = trained.config.model.model_copy(update={"source_len": 128, "target_len": 64})
    prepared = trained.data(args.data_dir)
    pairs = pick_pairs(prepared.split("validation"), sizes, args.prompts).pairs
    found: dict[str, Any] = {"step": trained.checkpoint.step, "nll": {}, "pairs": len(pairs)}
    found["parameters"] = sum(trained.objective.parameters_by_part().values())
    if trained.is_causal:
        scorer = CausalScorer(run.name, trained.causal, trained.hardware, None)
        nats = scorer.nll([source for source, _ in pairs], [target for _, target in pairs])
        found["nll"]["own"] = by_position(nats)
        found["nll"] |= ngram_nll(prepared, pairs, nats)
        return found
    found["nll"] |= nll_by_reading(trained, pairs)
    return found


def nll_by_reading(trained: Any, pairs: list[Any]) -> dict[str, dict[str, float]]:
    """NLL of the pairs' targets under a light decoder: by what it reads, in all and by position."""
    import torch

    from jepalm.evaluation.text.embeddings import pair_batches, pair_sums
    from jepalm.evaluation.text.infilling import other_places

    batches, others = pair_batches(pairs, other_places(len(pairs), 0), trained.hardware)
    with torch.no_grad(), trained.hardware.autocast():
        sums = pair_sums(trained.jepalm, batches, others)
    found: dict[str, dict[str, float]] = {}
    for name, read in READ.items():
        parts = {"all": sums[f"{name}_ce"].sum() / sums["tokens"].sum()}
        for first, last in RANGES:
            where = f"{first}_{last}"
            parts[f"{first}-{last}"] = sums[f"{name}_ce_{where}"].sum() / sums[f"tokens_{where}"].sum()
        found[read] = {key: float(value) for key, value in parts.items()}
    return found


def ngram_nll(prepared: Any, pairs: list[Any], causal: list[Any]) -> dict[str, dict[str, float]]:
    """The 5-gram of the training text, and its even mixture with the causal model."""
    from jepalm.data.ngram import NGram
    from jepalm.evaluation.text.held_out import read_training_text

    training = read_training_text(prepared)
    ngram = NGram.fit(training.ids, prepared.meta.vocab_size, 5, training.starts)
    nats = ngram.nll([source for source, _ in pairs], [target for _, target in pairs])
    mixed = [np.log(2) - np.logaddexp(-one, -other) for one, other in zip(nats, causal, strict=True)]
    return {"5-gram": by_position(nats), "causal and 5-gram": by_position(mixed)}


def by_position(nats: list[Any]) -> dict[str, float]:
    """Mean nats a token, in all and by position."""
    found = {"all": float(np.concatenate(nats).mean())}
    for first, last in RANGES:
        found[f"{first}-{last}"] = float(np.concatenate([row[first - 1 : last] for row in nats]).mean())
    return found


def summary(records: list[dict[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """By line of the table, by range of positions: the values of all seeds."""
    lines: dict[str, dict[str, list[float]]] = {}
    for record in records:
        for read, parts in record["nll"].items():
            line = f"m = {record['m']}, {record['embeddings']} embeddings, {read}"
            if record["embeddings"] == "positions":
                if read != "own":
                    continue
                line = f"m = {record['m']}, trained without"
            if record["m"] == CAUSAL:
                line = CAUSAL if read == "own" else read
            for where, value in parts.items():
                lines.setdefault(line, {}).setdefault(where, []).append(value)
    return lines


def table(lines: dict[str, dict[str, list[float]]]) -> str:
    """The lines as Markdown, mean and spread over seeds."""
    columns = ["all", *(f"{first}-{last}" for first, last in RANGES)]
    rows = [f"| nats a token, held out | {' | '.join(columns)} |", "|---" * (1 + len(columns)) + "|"]
    for line, parts in lines.items():
        cells = []
        for column in columns:
            values = parts[column]
            spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.3f}{spread}")
        rows.append(f"| {line} | {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def draw(records: list[dict[str, Any]], path: Path) -> None:
    """Draw NLL against m by what is read; the causal model and the 5-gram as lines."""
    from jepalm.report.plots.draw import canvas, finish, svg_file

    places = [*map(str, CONTEXTS), RECURRENT]
    lines = {"own embeddings": ("predicted", "own"), "trained without": ("positions", "own")}
    lines |= {read: ("predicted", read) for read in READ.values() if read != "own"}
    with canvas(8.0, 4.2) as figure:
        axes = figure.subplots()
        for label, (kind, read) in lines.items():
            known = {
                m: [r["nll"][read]["all"] for r in records if r["m"] == m and r["embeddings"] == kind]
                for m in places
            }
            shown = [(place, statistics.mean(known[m])) for place, m in enumerate(places) if known[m]]
            if shown:
                axes.plot(*zip(*shown, strict=True), marker="o", label=label)
        causal = [record["nll"] for record in records if record["m"] == CAUSAL]
        for dashes, name in zip(("--", ":", "-."), ("own", "5-gram", "causal and 5-gram"), strict=True):
            if causal:
                level = statistics.mean(nll[name]["all"] for nll in causal)
                label = "causal model" if name == "own" else name
                axes.axhline(level, linestyle=dashes, linewidth=1.0, color="0.4", label=label)
        axes.set_xticks(range(len(places)), places)
        axes.set_xlabel("tokens before each position that the decoder reads, m")
        axes.set_ylabel("NLL, nats a character (held out)")
        axes.legend()
        caption = "Held-out windows of Tiny Shakespeare, 128 characters read, 64 predicted."
        plot = finish(figure, "one-pass-curve", "What predicted embeddings are worth", caption)
    path.write_text(svg_file(plot.svg), encoding="utf-8")


def main() -> None:
    """Train what is missing, measure, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("one-pass-curve"), help="folder of all files")
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--steps", type=int, default=1500, help="of each run, at most")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1, help="runs at once")
    parser.add_argument("--only", default="", help="points whose run's name has this in it")
    parser.add_argument("--prompts", type=int, default=400, help="held-out pairs")
    parser.add_argument("settings", nargs="*", help="further settings of every run: section.key=value")
    args = parser.parse_args()
    (args.out / "runs").mkdir(parents=True, exist_ok=True)
    wanted = [point for point in points(args.seeds) if args.only in point.name]
    with ThreadPoolExecutor(args.jobs) as pool:
        list(pool.map(lambda point: train(point, args), wanted))
    records = []
    for point in points(args.seeds):
        folder = finished(point, args.out / "runs")
        if folder is not None:
            records.append({**vars(point), "run": folder.name, **measure(folder, args)})
    (args.out / "curve.json").write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    text = table(summary(records))
    (args.out / "curve.md").write_text(text, encoding="utf-8")
    draw(records, args.out / "curve.svg")
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
