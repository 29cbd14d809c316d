"""DeepPhonemizer (MIT) on given pairs: trained for so many CPU seconds, then read for answers and speed.

Runs in the environment that `compare.py` makes and imports nothing of jepalm:

    python deep_phonemizer.py train pairs.json FOLDER --kind forward --seconds 900
    python deep_phonemizer.py serve FOLDER

Its own preprocessing, models, losses, sampler and trainer, in float32 as shipped. Two things differ, both so
that it makes the most of a short training: the rate rises over the first twentieth of the time and falls as a
cosine to 0 at its end, in place of a rise over 10,000 steps; and its sizes are given, its own being far too
large for the time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import torch
import yaml
from dp.model.model import ModelType, create_model
from dp.model.predictor import Predictor
from dp.preprocess import preprocess
from dp.preprocessing.text import Preprocessor
from dp.training.trainer import Trainer

LANGUAGE = "en"
KINDS = {"forward": ModelType.TRANSFORMER, "autoregressive": ModelType.AUTOREG_TRANSFORMER}
NEVER = 1 << 40


class TimeUp(Exception):
    """The seconds are used up."""


class TimedTrainer(Trainer):
    """Its trainer, with a learning rate that is a function of the CPU time used."""

    seconds = 0.0
    started = 0.0

    def _set_warmup_lr(self, optimizer: torch.optim.Optimizer, step: int, config: dict[str, Any]) -> None:
        self.started = self.started or time.process_time()
        used = (time.process_time() - self.started) / self.seconds
        if used >= 1:
            raise TimeUp
        factor = min(used / 0.05, (1 + math.cos(math.pi * used)) / 2)
        for group in optimizer.param_groups:
            group["lr"] = config["training"]["learning_rate"] * max(factor, 1e-3)


def config_of(pairs: dict[str, list[list[str]]], folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Its config file for these pairs: its own settings but for sizes, symbols and rate."""
    return {
        "paths": {"checkpoint_dir": str(folder / "checkpoints"), "data_dir": str(folder / "data")},
        "preprocessing": {
            "languages": [LANGUAGE],
            "text_symbols": sorted({letter for word, _ in pairs["train"] for letter in word}),
            "phoneme_symbols": sorted({one for _, phonemes in pairs["train"] for one in phonemes.split()}),
            "char_repeats": 3 if args.kind == "forward" else 1,
            "lowercase": True,
            "n_val": 0,
        },
        "model": {
            "type": KINDS[args.kind].value,
            "d_model": args.dim,
            "d_fft": 2 * args.dim,
            "layers": args.layers,
            "dropout": 0.1,
            "heads": 4,
        },
        "training": {
            "learning_rate": args.lr,
            "warmup_steps": 0,
            "scheduler_plateau_factor": 0.5,
            "scheduler_plateau_patience": 10,
            "batch_size": args.batch_size,
            "batch_size_val": args.batch_size,
            "epochs": NEVER,
            "generate_steps": NEVER,
            "validate_steps": NEVER,
            "checkpoint_steps": NEVER,
            "n_generate_samples": 0,
            "store_phoneme_dict_in_model": False,
        },
    }


def train(args: argparse.Namespace) -> None:
    """Train until the time is used up; write `model.pt` and `trained.json`."""
    folder: Path = args.folder
    folder.mkdir(parents=True, exist_ok=True)
    pairs = json.loads(args.pairs.read_text(encoding="utf-8"))
    config = config_of(pairs, folder, args)
    (folder / "config.yaml").write_text(yaml.dump(config), encoding="utf-8")
    rows = {name: [(LANGUAGE, word, text.split()) for word, text in found] for name, found in pairs.items()}
    few = rows["validation"][: 8 * args.batch_size]  # it wants some, and reads them once
    preprocess(str(folder / "config.yaml"), rows["train"], few, deduplicate_train_data=False)
    torch.manual_seed(args.seed)
    model = create_model(KINDS[args.kind], config)
    loss = "ctc" if args.kind == "forward" else "cross_entropy"
    trainer = TimedTrainer(folder / "checkpoints", torch.device("cpu"), 0, False, loss)
    trainer.seconds = args.seconds
    state: dict[str, Any] = {"preprocessor": Preprocessor.from_config(config), "config": config}
    with contextlib.suppress(TimeUp):
        trainer.train(model, state, store_phoneme_dict_in_model=False)
    torch.save(model.state_dict(), folder / "model.pt")
    done = {
        "kind": args.kind,
        "dim": args.dim,
        "layers": args.layers,
        "lr": args.lr,
        "steps": state["step"] - 1,
        "batch_size": args.batch_size,
        "cpu_seconds": args.seconds,
        "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
    }
    (folder / "trained.json").write_text(json.dumps(done) + "\n", encoding="utf-8")


def predictor_of(folder: Path) -> Predictor:
    """The trained model of a folder, in its own class for answers."""
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    model = create_model(ModelType(config["model"]["type"]), config)
    model.load_state_dict(torch.load(folder / "model.pt", weights_only=True))
    return Predictor(model.eval(), Preprocessor.from_config(config))


def serve(args: argparse.Namespace) -> None:
    """Answer lists of words, a JSON line each, with the seconds of wall clock and of CPU that it took."""
    predictor = predictor_of(args.folder)
    special = predictor.phoneme_tokenizer.special_tokens
    for line in sys.stdin:
        words = json.loads(line)
        wall, cpu = time.perf_counter(), time.process_time()
        found = predictor(words, LANGUAGE, batch_size=len(words))
        seconds = time.perf_counter() - wall, time.process_time() - cpu
        texts = [" ".join(one for one in made.phoneme_tokens if one not in special) for made in found]
        sys.stdout.write(json.dumps({"texts": texts, "seconds": seconds}) + "\n")
        sys.stdout.flush()


def main() -> None:
    """Train, or serve what was trained."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    training = commands.add_parser("train")
    training.add_argument("pairs", type=Path, help="{split: [[word, phonemes], ...]}")
    training.add_argument("folder", type=Path)
    training.add_argument("--kind", choices=sorted(KINDS), default="forward")
    training.add_argument("--seconds", type=float, default=900.0, help="of CPU time, in training steps")
    training.add_argument("--dim", type=int, default=192)
    training.add_argument("--layers", type=int, default=4)
    training.add_argument("--lr", type=float, default=1e-3)
    training.add_argument("--batch-size", type=int, default=64)
    training.add_argument("--seed", type=int, default=0)
    training.set_defaults(run=train)
    serving = commands.add_parser("serve")
    serving.add_argument("folder", type=Path)
    serving.set_defaults(run=serve)
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.run(args)


if __name__ == "__main__":
    main()
