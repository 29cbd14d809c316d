"""The config tree: one frozen section a part, and what sections must not say together."""

from __future__ import annotations

from pydantic import model_validator

from jepalm.config.base import Section, kept
from jepalm.config.data import DataConfig
from jepalm.config.model import ModelConfig
from jepalm.config.objective import ObjectiveConfig, UnmaskingConfig
from jepalm.config.training import HardwareConfig, OptimizerConfig, TrainingConfig

DEFAULT_PRESET = "shakespeare"


class Config(Section):
    """The whole tree."""

    preset: str = DEFAULT_PRESET
    """The recipe this started from."""
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    training: TrainingConfig = TrainingConfig()
    hardware: HardwareConfig = HardwareConfig()

    @model_validator(mode="after")
    def _unmasks_what_can_be_read(self) -> Config:
        if self.objective.unmasking != UnmaskingConfig() and not self.model.predictor.unmasked:
            raise ValueError("objective.unmasking does nothing without model.predictor.unmasked=true")
        return self

    @model_validator(mode="after")
    def _predictor_is_taught(self) -> Config:
        predictor, objective = self.model.predictor, self.objective
        if predictor.noise == "gumbel" and objective.coupling.teacher is None:
            raise ValueError("model.predictor.noise=gumbel needs objective.coupling.teacher")
        if objective.intermediate_logits.weight > 0 and not predictor.intermediate_logits:
            raise ValueError(
                "objective.intermediate_logits.weight does nothing without "
                "model.predictor.intermediate_logits=true"
            )
        return self

    @model_validator(mode="after")
    def _a_light_decoder_ends_a_text_itself(self) -> Config:
        decoder, objective = self.model.decoder, self.objective
        if not decoder.autoregressive or self.model.family != "jepalm":
            return self
        off = {
            "length.kind=none": objective.length.kind == "none",
            "coupling.teacher=null": objective.coupling.teacher is None,
            "kl.weight=0": objective.kl.weight == 0,
        }
        for needed in (setting for setting, is_so in off.items() if not is_so):
            raise ValueError(f"model.decoder.kind={decoder.kind} needs objective.{needed}")
        return self

    @model_validator(mode="after")
    def _language_models_see_no_later_token(self) -> Config:
        model, objective = self.model, self.objective
        if objective.encoder_lm.weight > 0 and model.encoder.kind != "causal":
            raise ValueError("objective.encoder_lm.weight needs model.encoder.kind=causal")
        if objective.decoder_lm.weight > 0 and not model.decoder.autoregressive:
            raise ValueError("objective.decoder_lm.weight needs model.decoder.kind=local or recurrent")
        for name in ("encoder_lm", "decoder_lm"):
            if getattr(objective, name).weight > 0 and model.action.conditioning != "none":
                raise ValueError(f"objective.{name}.weight does not go with model.action.conditioning")
        return self

    @model_validator(mode="after")
    def _sections_are_the_familys(self) -> Config:
        for family, sections in FAMILY_SECTIONS.items():
            for dotted in sections:
                part, name = dotted.split(".")
                if family != self.model.family and not kept(getattr(self, part), name):
                    raise ValueError(f"{dotted} does nothing with model.family={self.model.family}")
        return self


FAMILY_SECTIONS = {
    "jepalm": (
        "model.encoder",
        "model.predictor",
        "model.decoder",
        "model.latent",
        "model.action",
        "model.source_positions",
        "objective.reconstruction",
        "objective.autoencoder",
        "objective.kl",
        "objective.embedding",
        "objective.generation",
        "objective.unmasking",
        "objective.intermediate_logits",
        "objective.coupling",
        "objective.local",
        "objective.encoder_lm",
        "objective.decoder_lm",
        "objective.length",
        "objective.regularizer",
        "objective.targets",
    ),
    "causal": (
        "model.causal",
        "model.backbone",
        "model.lora",
        "model.gradient_checkpointing",
        "objective.next_token",
        "objective.latent",
        "objective.tube",
    ),
}
"""Sections that only one family reads; elsewhere they keep their defaults."""
