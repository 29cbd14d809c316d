"""Pronunciations of unseen words: runs of jepalm beside DeepPhonemizer, trained on the very same split.

Makes an environment of its own for the peer (`pip install --no-deps deep-phonemizer`; torch, tqdm, PyYAML and
tensorboard are those of this Python), trains it for as much CPU time as is asked on the training words of the
prepared data, lets all answer the same test words, and scores them alike. Speed is measured batch by batch in
turns, one thread each, in seconds of CPU, so that other work on the machine counts little. What is trained is
not trained again. Writes `comparison.json` and `comparison.md`.

    python benchmarks/g2p_peer/compare.py runs/G2P runs/G2P-AR --minutes 15

Data and runs: jepalm prepare cmudict, jepalm train --preset g2p, jepalm train --preset g2p-ar
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import sysconfig
import time
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from jepalm.config import HardwareConfig
from jepalm.data.prepared import PreparedData
from jepalm.evaluation.answers.answering import Answerer
from jepalm.evaluation.answers.questions import Question, read_all_answers, training_questions
from jepalm.evaluation.answers.tasks.g2p import score_g2p
from jepalm.evaluation.answers.tasks.shares import Answered
from jepalm.generation.loading import load_trained
from jepalm.run import open_run

PEER = Path(__file__).parent / "deep_phonemizer.py"
PACKAGE = "deep-phonemizer==0.0.19"
AT_ONCE = 64
ROUNDS = 20
"""Batches of 64 words, and as many words alone, that are timed."""

Timed = Callable[[list[str]], tuple[list[str], tuple[float, float]]]
"""Words to pronunciations, and seconds of wall clock and of CPU."""


def main() -> None:
    """Make what is missing, measure, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, help="run folders trained on the task g2p")
    parser.add_argument("--out", type=Path, default=Path("g2p-peer"), help="folder of all files")
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--split", default="test")
    parser.add_argument("--minutes", type=float, default=15.0, help="CPU time of the peer's training steps")
    parser.add_argument("--kinds", default="forward", help="of the peer: forward, autoregressive, or both")
    args, settings = parser.parse_known_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    hardware = HardwareConfig(device="cpu", precision="fp32", threads=1)
    trained = [load_trained(open_run(path), "best", hardware) for path in args.runs]
    prepared = trained[0].data(args.data_dir)
    questions = read_all_answers(prepared.split(args.split), prepared.tokenizer, sys.maxsize)
    models: dict[str, Timed] = {}
    facts: dict[str, dict[str, Any]] = {}
    for one in trained:
        name = one.config.model.family if one.is_causal else "one pass"
        name = f"{one.run.name} ({name})"
        models[name] = timed_run(Answerer(one))
        parameters = sum(p.numel() for p in one.objective.parameters() if p.requires_grad)
        facts[name] = {"parameters": parameters, "steps": one.checkpoint.step}
    for kind in args.kinds.split(","):
        folder = trained_peer(kind, prepared, args, settings)
        name = f"DeepPhonemizer, {kind}"
        facts[name] = json.loads((folder / "trained.json").read_text(encoding="utf-8"))
        models[name] = served_peer(args.out, folder)
    known = frozenset(one.source for one in training_questions(prepared, sys.maxsize)[0])
    records = measure(models, facts, questions, known)
    text = table(records, len(questions))
    (args.out / "comparison.json").write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    (args.out / "comparison.md").write_text(text, encoding="utf-8")
    sys.stdout.write(text)


def timed_run(answerer: Answerer) -> Timed:
    """A run of jepalm that answers words."""

    def answer(words: list[str]) -> tuple[list[str], tuple[float, float]]:
        wall, cpu = time.perf_counter(), time.process_time()
        texts, _ = answerer.write([Question(word, "") for word in words])
        return texts, (time.perf_counter() - wall, time.process_time() - cpu)

    return answer


def environment(out: Path) -> Path:
    """The Python of the peer's environment, which is made if it is missing."""
    folder = (out / "venv").resolve()
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        ours = sysconfig.get_path("purelib")
        theirs = next((folder / "lib").glob("python*/site-packages"))
        (theirs / "torch-of-jepalm.pth").write_text(f"{ours}\n", encoding="utf-8")
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", PACKAGE], check=True)
    return python


def trained_peer(kind: str, prepared: PreparedData, args: argparse.Namespace, settings: list[str]) -> Path:
    """The folder of the trained peer; trains it if it is missing."""
    folder: Path = args.out / kind
    if (folder / "trained.json").exists():
        return folder
    pairs = {}
    for name in ("train", "validation"):
        split = prepared.split(name)
        rows = (split.pair(place) for place in range(split.n_pairs))
        pairs[name] = [tuple(map(prepared.tokenizer.decode, row)) for row in rows]
    file = args.out / "pairs.json"
    file.write_text(json.dumps(pairs), encoding="utf-8")
    asked = ["--kind", kind, "--seconds", str(60 * args.minutes), *settings]
    command = [environment(args.out), PEER, "train", file, folder, *asked]
    subprocess.run([str(part) for part in command], check=True, env=one_thread())
    return folder


def served_peer(out: Path, folder: Path) -> Timed:
    """The trained peer in a process of its own, which answers words."""
    command = [str(part) for part in (environment(out), PEER, "serve", folder)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=one_thread()
    )

    def answer(words: list[str]) -> tuple[list[str], tuple[float, float]]:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(words) + "\n")
        process.stdin.flush()
        made = json.loads(process.stdout.readline())
        return made["texts"], tuple(made["seconds"])

    return answer


def one_thread() -> dict[str, str]:
    """The environment of a process that computes on one thread."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def measure(
    models: dict[str, Timed], facts: dict[str, Any], questions: list[Question], known: frozenset[str]
) -> list[dict[str, Any]]:
    """Errors of all words and speed, a record a model."""
    words = [question.source for question in questions]
    seconds: dict[str, dict[int, list[tuple[float, ...]]]] = {name: {AT_ONCE: [], 1: []} for name in models}
    for answer in models.values():  # untimed, as the first batch warms up
        answer(words[:AT_ONCE])
        answer(words[:1])
    step = max(1, (len(words) - AT_ONCE) // ROUNDS)
    for at in range(0, step * min(ROUNDS, len(words)), step):
        for size in (AT_ONCE, 1):
            for name, answer in models.items():
                part = words[at : at + size]
                seconds[name][size].append(tuple(x / len(part) for x in answer(part)[1]))
    records = []
    for name, answer in models.items():
        texts = [text for at in range(0, len(words), AT_ONCE) for text in answer(words[at : at + AT_ONCE])[0]]
        shares = score_g2p(Answered(words, [question.gold for question in questions], texts), known)
        alone = statistics.median(cpu for _, cpu in seconds[name][1])
        together = statistics.median(cpu for _, cpu in seconds[name][AT_ONCE])
        record = {"model": name, **facts[name], **{share.name: share.value for share in shares}}
        record |= {"words_per_s_1": 1 / alone, "words_per_s_64": 1 / together, "latency_ms": 1000 * alone}
        record["wall_latency_ms"] = 1000 * statistics.median(wall for wall, _ in seconds[name][1])
        records.append(record)
    return records


def table(records: list[dict[str, Any]], n_words: int) -> str:
    """The records as a Markdown table."""
    columns = {
        "parameters, M": lambda r: f"{r['parameters'] / 1e6:.2f}",
        "word error": lambda r: f"{100 * r['word_error']:.1f} %",
        "phoneme error": lambda r: f"{100 * r['phoneme_error']:.2f} %",
        "word error without stress": lambda r: f"{100 * r['word_error_unstressed']:.1f} %",
        "no inflection of a training word": lambda r: f"{100 * r['word_error_uninflected']:.1f} %",
        "words/s, 64 at once": lambda r: f"{r['words_per_s_64']:,.0f}",
        "words/s, alone": lambda r: f"{r['words_per_s_1']:,.0f}",
        "ms a word, alone": lambda r: f"{r['latency_ms']:.2f}",
    }
    share = 100 * records[0]["inflected"]
    lines = [f"{n_words:,} test words, {share:.1f} % of them inflections of training words.\n"]
    lines += [f"| | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    for record in records:
        lines.append(f"| {record['model']} | {' | '.join(show(record) for show in columns.values())} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
