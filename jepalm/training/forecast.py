"""What a run would take on machines that are not here: counted on tensors without numbers, over given rates.

Counted are parameters, operations, activations and bytes on disk. Rates are given, or assumed and said so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from jepalm.config import Config
from jepalm.data.batches import Batch, Tokens
from jepalm.errors import UsageError
from jepalm.hardware import PEAK_BF16_FLOPS, Hardware
from jepalm.model.recomputing import transformer_blocks
from jepalm.objective import Objective, build_objective
from jepalm.training.checkpoint import checkpoint_bytes
from jepalm.training.flops import count_flops
from jepalm.training.schedule import Schedule

PAIRS = 4
"""Of the batch on which operations and activations are counted; both grow with the pairs."""
STATE_BYTES = 16
"""A parameter, its gradient and two moments, each in float32."""
HALF = 0.5
"""Share of the activations' float32 bytes in bf16, assumed: nearly all are read by matrix products."""
PREPARED_TOKENS_A_S = 1.0e6
"""Tokens that `jepalm prepare` writes a second on a few cores, assumed."""
KNOWN_TOKENS = {"openwebtext": 9.0e9}
"""Training tokens of data that need not be here, as published (GPT-2's tokens of OpenWebText)."""
KNOWN_VOCABULARY = {"openwebtext": 16384}


@dataclass(frozen=True)
class Rates:
    """What is not counted.

    Attributes:
        gpu: part of a GPU's name in `PEAK_BF16_FLOPS`.
        mfu: share of its bf16 peak that training reaches.
        price: of one GPU for an hour; None: no cost is told.
        prepared_tokens_per_s: of `jepalm prepare`.
    """

    gpu: str = "H100"
    mfu: float = 0.4
    price: float | None = None
    prepared_tokens_per_s: float = PREPARED_TOKENS_A_S

    @property
    def flops_per_s(self) -> float:
        """Of one GPU.

        Raises:
            UsageError: its peak is not known.
        """
        if self.gpu not in PEAK_BF16_FLOPS:
            known = ", ".join(PEAK_BF16_FLOPS)
            raise UsageError(f"the peak of {self.gpu} is not known", f"known are {known}")
        return PEAK_BF16_FLOPS[self.gpu] * self.mfu


@dataclass(frozen=True)
class Forecast:
    """A run on some devices.

    Attributes:
        devices: how many.
        parameters: of the model.
        steps: optimizer steps.
        tokens_per_step: source and target tokens of a global batch, all of full length.
        data_tokens: of the training split; None where nobody knows.
        flops_per_step: of all devices together.
        state_bytes: weights, gradients, moments and what exchanges them, a device.
        activation_bytes: of one micro batch, a device.
        data_bytes: of the prepared tokens.
        checkpoint_bytes: of all checkpoints that are kept at most.
        prepare_seconds: to prepare the data.
        seconds: of training.
        cost: in the currency of the price.
    """

    devices: int
    parameters: int
    steps: int
    tokens_per_step: int
    data_tokens: float | None
    flops_per_step: float
    state_bytes: float
    activation_bytes: float
    data_bytes: float | None
    checkpoint_bytes: int
    prepare_seconds: float | None
    seconds: float
    cost: float | None

    @property
    def passes(self) -> float | None:
        """Passes over the training tokens."""
        seen = self.steps * self.tokens_per_step
        return seen / self.data_tokens if self.data_tokens else None


def forecast(
    config: Config, devices: int, rates: Rates, *, vocab_size: int | None = None, tokens: float | None = None
) -> Forecast:
    """Count what a run takes, without its data and without memory for its model.

    Args:
        config: the run's.
        devices: how many GPUs share it.
        rates: what is not counted.
        vocab_size: of its tokenizer; that of known data when None.
        tokens: of its training split; those of known data when None.

    Raises:
        UsageError: the batch does not divide, the vocabulary is not known, or the model is a pretrained one.
    """
    training, name = config.training, config.data.name
    vocab_size = vocab_size or KNOWN_VOCABULARY.get(name)
    tokens = tokens or KNOWN_TOKENS.get(name)
    if config.model.backbone is not None or vocab_size is None:
        what = "of a pretrained model" if config.model.backbone is not None else f"without the data {name}"
        raise UsageError(
            f"no plan for several devices {what}", "prepare the data first, or leave --devices out"
        )
    if training.batch_size % devices:
        message = f"batch size {training.batch_size} does not divide over {devices} devices"
        raise UsageError(message, f"set training.batch_size to a multiple of {devices}")
    objective = _on_meta(config, vocab_size)
    flops, activations = _counted(objective, config)
    n_parameters = sum(p.numel() for p in objective.parameters() if p.requires_grad)
    share = training.batch_size // devices
    micro = min(training.micro_batch_size or share, share)
    steps = Schedule.of(training, max(1, round((tokens or 1) / _pair(config) / training.batch_size))).steps
    flops_per_step = flops * training.batch_size / PAIRS
    seconds = steps * flops_per_step / (devices * rates.flops_per_s)
    id_bytes = 2 if vocab_size <= 1 << 16 else 4
    return Forecast(
        devices=devices,
        parameters=n_parameters,
        steps=steps,
        tokens_per_step=training.batch_size * _pair(config),
        data_tokens=tokens,
        flops_per_step=flops_per_step,
        state_bytes=_state_bytes(objective, config, devices),
        activation_bytes=HALF * activations * micro / PAIRS,
        data_bytes=tokens and tokens * id_bytes,
        checkpoint_bytes=(training.keep + 2) * checkpoint_bytes(objective),
        prepare_seconds=tokens and tokens / rates.prepared_tokens_per_s,
        seconds=seconds,
        cost=None if rates.price is None else seconds / 3600 * devices * rates.price,
    )


def _pair(config: Config) -> int:
    return config.model.source_len + config.model.target_len


def _on_meta(config: Config, vocab_size: int) -> Objective:
    """The objective on a device without memory, and without counts of a text, which are not here."""
    decoder = config.model.decoder.model_copy(update={"ngram": 0})
    model = config.model.model_copy(update={"decoder": decoder})
    meta = Hardware(torch.device("meta"), "fp32", 1, False, "matmul", False, "meta")
    with meta.device:
        return build_objective(model, config.objective, vocab_size, meta).train()


def _counted(objective: Objective, config: Config) -> tuple[float, float]:
    """Operations of a step, and bytes in float32 that wait for its backward pass, of `PAIRS` pairs."""
    model = config.model
    kept: dict[int, int] = {}
    weights = {_storage(p) for p in objective.parameters()}
    inputs: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        if _storage(tensor) not in weights:
            kept[_storage(tensor)] = tensor.untyped_storage().nbytes()
        return tensor

    def note(block: nn.Module, given: Any) -> None:
        inputs.append(given[0].numel() * given[0].element_size())

    def text(length: int) -> Tokens:
        ids = torch.zeros(PAIRS, length, dtype=torch.long, device="meta")
        return Tokens(ids, torch.zeros(PAIRS, dtype=torch.long, device="meta"))

    action = text(model.longest_action) if model.action.conditioning != "none" else None
    batch = Batch(text(model.source_len), text(model.target_len), action, PAIRS, PAIRS * model.target_len)

    def step() -> None:
        total.append(objective(batch).total)

    total: list[Tensor] = []
    hooks = [block.register_forward_pre_hook(note) for block in transformer_blocks(objective)]
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        forward = count_flops(step)
    backward = count_flops(total[0].backward)
    for hook in hooks:
        hook.remove()
    if not model.gradient_checkpointing:
        return forward + backward, sum(kept.values())
    return 2 * forward + backward, sum(inputs) + sum(kept.values()) / max(1, len(inputs))


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _state_bytes(objective: Objective, config: Config, devices: int) -> float:
    """Bytes a device holds beside activations; under `ddp` a second copy of the gradients is exchanged.

    Under `fsdp` each device holds its part, and whole what stands outside of blocks and two blocks; the first
    one also a copy of the weights for validation, which is counted.
    """
    numbers = [p.numel() for p in objective.parameters()]
    if config.hardware.parallel == "ddp" or devices == 1:
        return (STATE_BYTES + 4 * (devices > 1)) * sum(numbers)
    blocks = [sum(p.numel() for p in block.parameters()) for block in transformer_blocks(objective)]
    whole = sum(numbers) - sum(blocks) + 2 * max(blocks, default=0)
    return STATE_BYTES * sum(numbers) / devices + 8 * whole + 4 * sum(numbers)
