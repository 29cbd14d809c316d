"""What is trained: one module that owns the model parts and turns a batch into named loss terms."""

from __future__ import annotations

from jepalm.config import ModelConfig, ObjectiveConfig
from jepalm.hardware import Hardware
from jepalm.objective.base import Objective, Scope
from jepalm.objective.causal import CausalObjective
from jepalm.objective.jepalm import JepalmObjective

__all__ = ["CausalObjective", "JepalmObjective", "Objective", "Scope", "build_objective"]


def build_objective(
    model: ModelConfig, objective: ObjectiveConfig, vocab_size: int, hardware: Hardware
) -> Objective:
    """Build the family's objective on the device, with weights drawn from torch's global generator."""
    built: Objective
    if model.family == "causal":
        built = CausalObjective(
            model,
            objective,
            vocab_size,
            packing=hardware.packing,
            attention=hardware.attention,
            half=hardware.precision == "bf16",
        )
    else:
        built = JepalmObjective(
            model, objective, vocab_size, packing=hardware.packing, attention=hardware.attention
        )
    return built.to(hardware.device)
