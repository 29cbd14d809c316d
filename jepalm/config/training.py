"""Settings of a training: optimizer, phases, length, hardware."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from jepalm.config.base import Section, kept


class OptimizerConfig(Section):
    """The optimizer and the learning-rate schedule, a pure function of the step."""

    kind: Literal["adamw", "muon"] = "adamw"
    """`muon`: Muon for the matrices of hidden layers, AdamW for all else. Needs torch 2.9 or newer."""
    muon_lr: float = Field(0.02, gt=0, le=10)
    """Peak learning rate of Muon; it rises and falls as `lr` does."""
    lr: float = Field(1e-3, gt=0, le=10)
    """Peak learning rate."""
    min_lr: float = Field(0.0, ge=0)
    """Learning rate at the last step."""
    warmup_steps: int = Field(100, ge=0)
    """Steps over which the rate rises linearly to `lr`."""
    schedule: Literal["cosine", "constant"] = "cosine"
    weight_decay: float = Field(0.01, ge=0, le=10)
    """Applied to matrices only."""
    beta1: float = Field(0.9, ge=0, lt=1)
    """Of AdamW."""
    beta2: float = Field(0.95, ge=0, lt=1)
    """Of AdamW."""
    grad_clip: float | None = Field(None, gt=0)
    """Largest norm of the whole gradient; empty does not clip."""

    @model_validator(mode="after")
    def _muon_lr_is_muons(self) -> OptimizerConfig:
        if self.kind != "muon" and not kept(self, "muon_lr"):
            raise ValueError(f"optimizer.muon_lr does nothing with optimizer.kind={self.kind}")
        return self


class PhaseConfig(Section):
    """A part of a run, with its own trained parts, terms and learning rate; an item of `training.phases`."""

    name: str = Field(min_length=1, max_length=40)
    """What it is called."""
    share: float = Field(1.0, gt=0)
    """Its part of the steps that no phase fixes: shares 1 and 4 are a fifth and four fifths."""
    steps: int | None = Field(None, ge=1)
    """Fixes its steps in place of a share. The last phase takes what is left and has none."""
    train: tuple[str, ...] | None = None
    """Parts of the model that learn, the others stand still; all when empty."""
    terms: tuple[str, ...] | dict[str, Annotated[float, Field(ge=0)]] | None = None
    """Terms that count: names, or `name: weight` to replace the configured weights; all when empty."""
    lr: float | None = Field(None, gt=0, le=10)
    """Peak learning rate; as in `optimizer` when empty, and so the next three."""
    min_lr: float | None = Field(None, ge=0)
    """Learning rate at the last step of the phase."""
    warmup_steps: int | None = Field(None, ge=0)
    """Steps over which the rate rises at the beginning of the phase."""
    schedule: Literal["cosine", "constant"] | None = None
    """Over the steps of the phase."""


class TrainingConfig(Section):
    """How long to train, on how much at a time, and what to record."""

    epochs: int = Field(10, ge=1)
    steps_per_epoch: int | None = Field(None, ge=1)
    """Steps that count as an epoch; one pass over the training pairs when empty."""
    steps: int | None = Field(None, ge=1)
    """Steps in all; overrides `epochs`."""
    batch_size: int = Field(16, ge=1)
    """Pairs an optimizer step, over all devices and accumulation."""
    micro_batch_size: int | None = Field(None, ge=1)
    """Pairs a forward pass on one device; as many as the batch gives when empty."""
    seed: int = Field(0, ge=0, le=2**31 - 1)
    log_every: int = Field(25, ge=1)
    """Steps between rows of `metrics.jsonl`."""
    validate_every: int | None = Field(None, ge=1)
    """Steps between validations; a twentieth of the run when empty."""
    patience: int | None = Field(None, ge=1)
    """Validations in a row without a lower `validation/loss` after which training ends early, in the last
    phase; empty: never."""
    validation_batches: int = Field(16, ge=1)
    samples: int = Field(4, ge=0, le=64)
    """Held-out sources whose one-shot text is written down at each validation."""
    checkpoint_every: int | None = Field(None, ge=1)
    """Steps between checkpoints; as validation when empty."""
    encoder_gradients_every: int | None = Field(None, ge=0)
    """Steps between measurements of each term's gradient on the encoder, in the next row of `metrics.jsonl`;
    a twentieth of the run, or as validation if that is more often, when empty; 0: never."""
    keep: int = Field(2, ge=1)
    """Newest checkpoints to keep, beside the best."""
    on_nonfinite: Literal["stop", "rollback"] = "stop"
    """A loss that is not finite: `stop` ends the run; `rollback` goes back to the newest checkpoint and
    leaves out the batches from there to the step it happened in, at most three times a run."""
    phases: tuple[PhaseConfig, ...] = ()
    """One after the other; empty: all parts and terms from the first step to the last."""

    @model_validator(mode="after")
    def _phases_make_a_run(self) -> TrainingConfig:
        names = [phase.name for phase in self.phases]
        for phase in self.phases:
            if names.count(phase.name) > 1:
                raise ValueError(f"training.phases has two phases called {phase.name}")
            for key in ("train", "terms"):
                if getattr(phase, key) is not None and not getattr(phase, key):
                    raise ValueError(f"phase {phase.name} of training.phases has no {key}; null means all")
        if self.phases and self.phases[-1].steps is not None:
            raise ValueError(f"phase {names[-1]} is last and takes the steps that are left: give it none")
        return self


class HardwareConfig(Section):
    """Where and how to compute; changes speed, never what is learned."""

    device: str = Field("auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """`auto`: bf16 on a GPU that has it; on a CPU the faster one in some timed steps."""
    compile: bool | Literal["auto"] = "auto"
    threads: int | None = Field(None, ge=1, le=1024)
    """CPU threads; when empty, one or as many as torch takes, whichever is faster in some timed steps."""
    packing: bool | Literal["auto"] = "auto"
    """Compute only the positions that hold text; `auto`: on a CPU."""
    attention: Literal["auto", "sdpa", "matmul"] = "auto"
    """`auto`: plain matrix products for short texts on a CPU, else the fused kernel."""
