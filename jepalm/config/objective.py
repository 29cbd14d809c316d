"""Settings of the objective: the loss terms, their weighting, where gradients flow."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from jepalm.config.base import Section, kept


class ReconstructionConfig(Section):
    """Cross-entropy of the decoder on target embeddings."""

    weight: float = Field(1.0, ge=0)


class AutoencoderConfig(Section):
    """What makes the decoder tolerate noise, in training alone (CALM, arXiv 2510.27688)."""

    token_dropout: float = Field(0.0, ge=0, lt=1)
    """Share of the tokens that the encoder does not see of what the decoder has to write."""
    latent_dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout on the embeddings that the decoder reads."""
    noise: float = Field(0.0, ge=0, le=100)
    """Standard deviation of Gaussian noise on the embeddings that the decoder reads."""


class KLConfig(Section):
    """Divergence of each latent's Gaussian from the standard normal, which makes the encoder variational."""

    weight: float = Field(0.0, ge=0)
    floor: float = Field(0.5, ge=0)
    """Nats a dimension that cost no more when they shrink: without it dimensions collapse."""


class EmbeddingConfig(Section):
    """Distance of predicted to target embeddings, mean over positions or latents."""

    weight: float = Field(1.0, ge=0)
    distance: Literal["mse", "smooth_l1", "cosine"] = "mse"
    """Squared or smooth L1 differences, summed over dims; or 1 - cosine, which leaves the length free."""
    smooth_l1_beta: float = Field(1.0, gt=0)
    """Difference at which smooth L1 turns from square to straight."""
    detach_source: bool = True
    """The predictor reads detached source embeddings, so the encoder does not learn from this term."""
    detach_target: bool = True
    """Stop-gradient on the target embeddings."""


class GenerationConfig(Section):
    """Cross-entropy of the decoder on predicted embeddings."""

    weight: float = Field(0.0, ge=0)
    train_decoder: bool = True
    """Whether the decoder learns from this term, or only what made the embeddings."""


class UnmaskingConfig(Section):
    """How much of each target is unmasked for the predictor in training, where it reads unmasked tokens.

    `embedding` and `generation` then count the tokens that stay hidden.
    """

    share_from: float = Field(0.0, ge=0, le=1)
    """The share of a text is drawn evenly between this and the next."""
    share_to: float = Field(1.0, ge=0, le=1)
    """At 1 all numbers of unmasked tokens are equally likely, from none to all but one."""
    order: Literal["random", "prefix"] = "random"
    """Which tokens: any, or the first ones."""
    until: int | None = Field(None, ge=1)
    """Steps over which the shares fall to 0 in a straight line; empty keeps them."""

    @model_validator(mode="after")
    def _from_is_below_to(self) -> UnmaskingConfig:
        if self.share_from > self.share_to:
            raise ValueError(f"share_from {self.share_from:g} is above share_to {self.share_to:g}")
        return self


class IntermediateLogitsConfig(Section):
    """Deep supervision: cross-entropy of the predictor's intermediate logits, mean over layers; off at 0."""

    weight: float = Field(0.0, ge=0)


class CouplingConfig(Section):
    """A causal model whose texts are a function of source and noise, for the predictor to learn."""

    teacher: str | None = Field(None, min_length=1)
    """A run of windows: its folder, or the name of one in the folder of runs, the newest that is finished.
    It is read in training alone."""
    teacher_share: float = Field(0.0, ge=0, le=1)
    """Share of the targets that the teacher generates anew at every visit; the others are the data's."""
    temperature_from: float = Field(1.0, ge=0, le=1)
    """Generated targets are drawn at temperatures even between this and 1, the noise scaled by it."""

    @model_validator(mode="after")
    def _teacher_generates(self) -> CouplingConfig:
        for name in ("teacher_share", "temperature_from"):
            if self.teacher is None and not kept(self, name):
                raise ValueError(f"objective.coupling.{name} does nothing without objective.coupling.teacher")
        if self.teacher_share == 0 and not kept(self, "temperature_from"):
            raise ValueError("objective.coupling.temperature_from does nothing with teacher_share=0")
        return self


class LocalConfig(Section):
    """Cross-entropy of a small head on the encoder at the hidden places of its source; off at weight 0."""

    weight: float = Field(0.0, ge=0)


class EncoderLMConfig(Section):
    """Cross-entropy of each next token of the source by a causal encoder; off at weight 0."""

    weight: float = Field(0.0, ge=0)


class DecoderLMConfig(Section):
    """Cross-entropy of a light decoder on the source, as a language model: with embeddings of 0. Off at 0."""

    weight: float = Field(0.0, ge=0)


class LengthConfig(Section):
    """Length of the target: its squared error in positions, or the cross-entropy over all lengths."""

    kind: Literal["mse", "classification", "none"] = "mse"
    """`classification`: one bin a length from 0 to `target_len`, the term in nats a pair."""
    weight: float = Field(1.0, ge=0)
    relative: bool = False
    """Predict how much longer than its source the target is, instead of how long."""
    detach_source: bool = True
    """The length head reads detached source embeddings."""


class NextTokenConfig(Section):
    """Cross-entropy of the causal model's next token."""

    weight: float = Field(1.0, gt=0)
    loss_on: Literal["all", "target"] = "all"
    """Which tokens of a pair are learned: source and target, or the target alone."""


class LatentPredictionConfig(Section):
    """Latent prediction of one view of a pair from the other by a causal model (LLM-JEPA)."""

    weight: float = Field(0.0, ge=0)
    """The lambda of the paper; 0 leaves the term out."""
    distance: Literal["cosine", "mse", "l2", "infonce"] = "cosine"
    """1 - cosine; squared difference, mean over dims; length of the difference; or the cross-entropy of
    finding the pair's own embedding among those of the batch."""
    temperature: float = Field(0.07, gt=0, le=10)
    """InfoNCE: what cosines are divided by."""
    predictor_tokens: int = Field(1, ge=0, le=10)
    """Learned tokens behind the view that predicts: the model itself is the predictor."""
    predictor: Literal["tied", "linear"] = "tied"
    """`linear`: the embedding passes a linear map, too."""
    pooling: Literal["last", "mean"] = "last"
    """A view's embedding: the state at its last token, or the mean over its tokens."""
    reverse: bool = False
    """The target predicts the source."""
    stop_gradient: bool = False
    """The view that is predicted does not learn from this term."""
    target: Literal["shared", "ema"] = "shared"
    """Who embeds the view that is predicted: the model, or an exponential moving average of it."""
    ema_start: float = Field(0.996, ge=0, le=1)
    """Momentum of the moving average at the first step; it rises in a straight line to 1."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of the steps that leave the term out and do not compute it."""
    rescale: bool = False
    """Weigh the term by 1 / (1 - dropout) where it counts, so that its weight is the same on average."""


class TubeConfig(Section):
    """Semantic Tube Prediction: the states of a text move in a straight line."""

    weight: float = Field(0.0, ge=0)
    """0 leaves the term out; the paper takes about 0.02."""


class TargetsConfig(Section):
    """The embeddings that the predictor must match."""

    encoder: Literal["shared", "ema"] = "shared"
    """The trained encoder itself, or an exponential moving average of it."""
    ema_start: float = Field(0.996, ge=0, le=1)
    """Momentum of the moving average at the first step; it rises in a straight line to 1."""
    normalisation: Literal["none", "layernorm", "instance"] = "none"
    """On top of the encoder's own: over dims, or over the positions of a text."""


class RegularizerConfig(Section):
    """A term on the trained encoder's embeddings of the target that keeps them from collapsing."""

    kind: Literal["none", "vicreg", "sigreg"] = "none"
    weight: float = Field(1.0, ge=0)
    variance: float = Field(25.0, ge=0)
    """VICReg: weight of the variance term."""
    covariance: float = Field(1.0, ge=0)
    """VICReg: weight of the covariance term."""
    gamma: float = Field(1.0, gt=0)
    """VICReg: standard deviation below which a dimension costs."""
    eps: float = Field(1e-4, gt=0)
    """VICReg: added to each variance."""
    slices: int = Field(256, ge=1)
    """SIGReg: random directions a step."""
    knots: int = Field(17, ge=2, le=1001)
    """SIGReg: points at which characteristic functions are compared."""
    knots_to: float = Field(3.0, gt=0)
    """SIGReg: the last of them; the first is 0."""
    unit_norm: bool = False
    """SIGReg: bring embeddings to norm sqrt(dim) first, for those whose norm means nothing."""


class UncertaintyConfig(Section):
    """Uncertainty weighting: a learned log variance s for each term."""

    clamp: float | None = Field(4.0, gt=0, le=50)
    """Keeps every s within plus and minus this; empty lets the weight of a term near 0 explode."""
    lr_factor: float = Field(10.0, gt=0, le=1000)
    """Learning rate of s over that of the model."""


class RunningMeanConfig(Section):
    """EMA weighting: each term over its running mean."""

    decay: float = Field(0.99, ge=0, lt=1)
    """Share of the running mean that stays each step."""
    floor: float = Field(0.01, gt=0)
    """Smallest mean a term is divided by, so that a term near 0 is left alone."""


class ObjectiveConfig(Section):
    """The loss terms: what is trained and where its gradient flows."""

    reconstruction: ReconstructionConfig = ReconstructionConfig()
    autoencoder: AutoencoderConfig = AutoencoderConfig()
    kl: KLConfig = KLConfig()
    embedding: EmbeddingConfig = EmbeddingConfig()
    generation: GenerationConfig = GenerationConfig()
    unmasking: UnmaskingConfig = UnmaskingConfig()
    intermediate_logits: IntermediateLogitsConfig = IntermediateLogitsConfig()
    coupling: CouplingConfig = CouplingConfig()
    local: LocalConfig = LocalConfig()
    encoder_lm: EncoderLMConfig = EncoderLMConfig()
    decoder_lm: DecoderLMConfig = DecoderLMConfig()
    length: LengthConfig = LengthConfig()
    next_token: NextTokenConfig = NextTokenConfig()
    latent: LatentPredictionConfig = LatentPredictionConfig()
    tube: TubeConfig = TubeConfig()
    regularizer: RegularizerConfig = RegularizerConfig()
    targets: TargetsConfig = TargetsConfig()
    weighting: Literal["fixed", "uncertainty", "ema"] = "fixed"
    """How the terms become one loss: what each one's own `weight` is multiplied by."""
    uncertainty: UncertaintyConfig = UncertaintyConfig()
    ema: RunningMeanConfig = RunningMeanConfig()

    @model_validator(mode="after")
    def _averages_take_no_gradient(self) -> ObjectiveConfig:
        if self.targets.encoder == "ema" and not self.embedding.detach_target:
            raise ValueError("objective.embedding.detach_target=false needs objective.targets.encoder=shared")
        return self

    @model_validator(mode="after")
    def _balances_need_every_term(self) -> ObjectiveConfig:
        if self.latent.dropout > 0 and self.weighting != "fixed":
            kind = f"objective.weighting={self.weighting}"
            raise ValueError(f"objective.latent.dropout does not go with {kind}")
        return self
