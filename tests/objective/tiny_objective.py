"""A JEPALM of a few thousand weights, batches of random tokens, and a trainer without files to read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from jepalm.config import Config, ModelConfig, ObjectiveConfig, from_mapping
from jepalm.data.batches import Batch, Tokens
from jepalm.hardware import Hardware
from jepalm.objective.jepalm import JepalmObjective
from jepalm.run import RunFolder
from jepalm.training.checkpoint import find_checkpoint
from jepalm.training.distributed import Processes
from jepalm.training.trainer import HeldOutResult, Trainer

VOCABULARY, SOURCE_LEN, TARGET_LEN, DIM = 20, 12, 10, 16
MODEL: dict[str, Any] = {
    "dim": DIM,
    "n_heads": 2,
    "ffn_mult": 2,
    "source_len": SOURCE_LEN,
    "target_len": TARGET_LEN,
    "encoder": {"n_layers": 1},
    "predictor": {"n_layers": 1},
    "decoder": {"n_layers": 1},
}
CPU = Hardware(torch.device("cpu"), "fp32", 1, False, "auto", False, "cpu")


def tiny_objective(settings: Mapping[str, Any] | None = None, *, packing: bool = False) -> JepalmObjective:
    torch.manual_seed(0)
    model, objective = ModelConfig.model_validate(MODEL), ObjectiveConfig.model_validate(settings or {})
    return JepalmObjective(model, objective, VOCABULARY, packing=packing)


def tiny_batch(seed: int = 0, n_pairs: int = 8) -> Batch:
    generator = torch.Generator().manual_seed(seed)

    def tokens(width: int) -> Tokens:
        lengths = torch.randint(1, width + 1, (n_pairs,), generator=generator)
        lengths[0] = width
        ids = torch.randint(1, VOCABULARY, (n_pairs, width), generator=generator)
        return Tokens(ids * (torch.arange(width) < lengths[:, None]), lengths)

    source, target = tokens(SOURCE_LEN), tokens(TARGET_LEN)
    return Batch(source, target, None, n_pairs, int(target.lengths.sum()))


def split(batch: Batch, *sizes: int) -> list[Batch]:
    """Micro batches of a batch; their counts are those of the whole."""
    parts, start = [], 0
    for size in sizes:
        rows = slice(start, start + size)
        views = [Tokens(view.ids[rows], view.lengths[rows]) for view in (batch.source, batch.target)]
        parts.append(Batch(views[0], views[1], None, batch.n_pairs, batch.n_target_tokens))
        start += size
    return parts


class TinyBatches:
    """Batches of random tokens, a function of the step; `sizes` splits each into micro batches."""

    steps_per_pass = 100

    def __init__(self, *sizes: int) -> None:
        self.sizes = sizes or (8,)

    def at(self, step: int) -> list[Batch]:
        return split(tiny_batch(step, sum(self.sizes)), *self.sizes)


def tiny_config(objective: Mapping[str, Any] | None = None, **training: Any) -> Config:
    every = {"steps": 6, "log_every": 2, "validate_every": 6, "checkpoint_every": 3, "keep": 5}
    tree = {
        "model": MODEL,
        "objective": dict(objective or {}),
        "optimizer": {"lr": 1e-2, "warmup_steps": 0},
        "training": {**every, "batch_size": 8, **training},
    }
    return from_mapping(tree)


def tiny_trainer(folder: Path, config: Config, batches: TinyBatches | None = None) -> Trainer:
    folder.mkdir(exist_ok=True)
    settings = config.objective.model_dump()

    def validate(objective: object) -> HeldOutResult:
        names = ("loss", "r2", "generation_ce", "reconstruction_ce", "effective_rank")
        return HeldOutResult({f"validation/{name}": 1.0 for name in names}, [])

    objective = tiny_objective(settings)
    return Trainer(
        RunFolder(folder),
        config,
        objective,
        batches or TinyBatches(),  # type: ignore[arg-type]
        validate,
        CPU,
        Processes(),
        None,
    )


def assert_resuming_is_exact(folder: Path, config: Config) -> None:
    """Training straight through and going on from step 3 give the same state, bit for bit."""
    straight = tiny_trainer(folder, config)
    straight.train()
    resumed = tiny_trainer(folder, config)
    resumed.resume(find_checkpoint(resumed.run, "3"))
    resumed.train()
    for name, value in straight.objective.state_dict().items():
        assert torch.equal(resumed.objective.state_dict()[name], value), name


def terms_and_gradients(
    objective: Any, batch: Batch
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The terms of a batch and the gradients of their sum, with the same draws at every call."""
    torch.manual_seed(0)
    losses = objective(batch)
    losses.total.backward()
    gradients = {name: p.grad for name, p in objective.named_parameters() if p.grad is not None}
    return {"total": losses.total.detach(), **losses.terms}, gradients
