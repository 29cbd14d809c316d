"""A decoder that reads m tokens, on the embeddings of a model whose decoder reads none.

Trained from the start with the tokens before each position, a decoder ignores what the predictor does not
say well yet, and the predictor then learns nothing. Here encoder and predictor are those of the run with
m = 0; the decoder of a run with m tokens learns to read them, then predictor and decoder go on together.

    python benchmarks/one_pass_curve.py --out curve --steps 600 --only predicted-s0
    python benchmarks/one_pass_warm_start.py curve/runs/*curve-0-predicted-s0 curve/runs/*curve-1-predicted-s0

Data: jepalm prepare shakespeare --pairing windows --name shakespeare-windows
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from one_pass_curve import READ, nll_by_reading

from jepalm.config import HardwareConfig, OptimizerConfig, PhaseConfig
from jepalm.data.batches import Batches
from jepalm.evaluation.text.held_out import pick_pairs
from jepalm.generation.loading import load_trained
from jepalm.objective import JepalmObjective
from jepalm.run import open_run
from jepalm.training.optimizer import build_optimizer, set_learning_rate
from jepalm.training.phases import scope_of

PARTS = (("decoder",), ("predictor", "decoder"))
WARM_UP = 30


def train(
    objective: JepalmObjective, batches: Batches, parts: Sequence[str], steps: int, rate: OptimizerConfig
) -> None:
    """Some steps of the generation term on some parts; the rate falls as a cosine to 0."""
    phase = PhaseConfig(name="read", share=1, terms=("generation",), train=tuple(parts))
    objective.enter(scope_of(phase, objective))
    optimizer = build_optimizer(objective, rate)
    for step in range(steps):
        falls = 0.5 + 0.5 * math.cos(math.pi * step / steps)
        set_learning_rate(optimizer, rate.lr * min(1, (step + 1) / WARM_UP) * falls)
        objective.before_step(step)
        for batch in batches.at(step):
            objective(batch).total.backward()
        torch.nn.utils.clip_grad_norm_(objective.parameters(), rate.grad_clip or math.inf)
        optimizer.step()
        optimizer.zero_grad()


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, measure, print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("without", type=Path, help="folder of the run whose decoder reads no token")
    parser.add_argument("run", type=Path, help="folder of the run whose decoder reads m")
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument(
        "--steps", type=int, default=300, help="of the decoder alone, and again of both parts"
    )
    parser.add_argument("--pairs", type=int, default=400, help="held-out pairs")
    args = parser.parse_args(arguments)
    place = HardwareConfig(device="cpu", precision="fp32", threads=1)
    source, trained = (load_trained(open_run(path), hardware=place) for path in (args.without, args.run))
    config, model = trained.config, trained.jepalm.model
    prepared = trained.data(args.data_dir)
    pairs = pick_pairs(prepared.split("validation"), config.model, args.pairs).pairs
    columns = ["learns", "steps", *READ.values(), *(f"{read}, 1-8" for read in READ.values())]
    print(f"| {' | '.join(columns)} |")
    print("|---" * len(columns) + "|")

    def show(parts: str, steps: int) -> None:
        trained.jepalm.eval()
        nll = nll_by_reading(trained, pairs)
        trained.jepalm.train()
        values = [nll[read][where] for where in ("all", "1-8") for read in READ.values()]
        print(f"| {parts} | {steps} | {' | '.join(f'{value:.3f}' for value in values)} |", flush=True)

    show("as it was", 0)
    model.encoder.load_state_dict(source.jepalm.model.encoder.state_dict())
    model.predictor.load_state_dict(source.jepalm.model.predictor.state_dict())
    batches = Batches(
        prepared.split("train"),
        batch_size=config.training.batch_size,
        source_len=config.model.source_len,
        target_len=config.model.target_len,
        seed=5,
        device="cpu",
    )
    for parts in PARTS:
        train(trained.jepalm, batches, parts, args.steps, config.optimizer)
        show(" and ".join(parts), args.steps)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
