"""The config tree: one frozen section a part, its types, ranges and checks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

DEFAULT_PRESET = "shakespeare"


class Section(BaseModel):
    """A frozen group of settings; unknown keys and non-finite numbers are errors."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        validate_default=True,
    )


def _kept(section: Section, name: str) -> bool:
    """Whether a setting has its default."""
    return bool(getattr(section, name) == type(section).model_fields[name].default)


class SpansConfig(Section):
    """What is hidden of a text, of data prepared with `--pairing spans`."""

    share: float = Field(0.3, gt=0, lt=1)
    """Share of a text's tokens; at least one is hidden and one left."""
    mean_length: float = Field(6.0, ge=1)
    """Mean tokens of a hidden run; their lengths are close to geometric."""


class DataConfig(Section):
    """Which prepared data to train on."""

    name: str = Field("shakespeare", min_length=1)
    """Name of a folder under the data folder, or a path to one."""
    spans: SpansConfig = SpansConfig()


class EncoderConfig(Section):
    """The TextEncoder."""

    n_layers: int = Field(4, ge=0, le=128)
    """With 0 a token's embedding knows nothing of its neighbours."""
    normalisation: Literal["layernorm", "none"] = "layernorm"
    """What makes embeddings of the last layer's output: LayerNorm without affine, or nothing."""


class PredictorConfig(Section):
    """The cross-attention Predictor; depth and width are its own."""

    n_layers: int = Field(4, ge=1, le=128)
    dim: int | None = Field(None, ge=8, le=16384)
    """Width; the model's own when empty."""
    n_heads: int | None = Field(None, ge=1, le=256)
    """Heads; the model's own when empty."""


class DecoderConfig(Section):
    """The TextDecoder."""

    n_layers: int = Field(4, ge=0, le=128)


class LatentConfig(Section):
    """The bottleneck between encoder and decoder (CALM, arXiv 2510.27688).

    There is one as soon as a setting here is not its default, or `objective.kl.weight` is not 0.
    """

    tokens: int = Field(1, ge=1, le=64)
    """Tokens a latent, K: a target of T tokens becomes ceil(T / K) latents."""
    dim: int | None = Field(None, ge=1, le=16384)
    """Width of a latent; the model's own when empty."""


class ActionConfig(Section):
    """How the action of a transition conditions the Predictor."""

    conditioning: Literal["none", "cross", "adaln", "both"] = "none"
    """`cross`: keys beside the source's. `adaln`: shift, scale and gate of every branch (AdaLN-zero)."""
    encoder: Literal["shared", "own"] = "shared"
    """What reads the action: the TextEncoder, or one of its own."""
    n_layers: int = Field(2, ge=0, le=128)
    """Layers of its own encoder."""


class CausalConfig(Section):
    """The CausalLM; width, heads and dropout are the model's."""

    n_layers: int = Field(6, ge=1, le=128)
    context_len: int = Field(256, ge=2, le=65536)
    """Most positions that a token is predicted from. Windows are drawn this long; pairs have
    `source_len + target_len`, and `action_len` where there are actions, which must fit in."""
    tied: bool = True
    """One table of tokens for reading and writing."""


class LoraConfig(Section):
    """Low-rank adapters of a backbone (LoRA, arXiv 2106.09685): they learn, the backbone stands still."""

    r: int = Field(0, ge=0, le=4096)
    """Rank of the adapters, one for each linear layer but the output; 0: the whole backbone learns."""
    alpha: float | None = Field(None, gt=0)
    """What an adapter adds is scaled by alpha / r; 2 r when empty."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout on what the adapters read."""


class ModelConfig(Section):
    """Sizes of the model parts."""

    family: Literal["jepalm", "causal"] = "jepalm"
    """`jepalm`: encoder, predictor, decoder, one pass a passage. `causal`: one pass a token."""
    dim: int = Field(256, ge=8, le=16384)
    """Width of the embeddings."""
    n_heads: int = Field(4, ge=1, le=256)
    ffn_mult: float = Field(3.625, gt=0, le=16)
    """Inner width of the feed-forward layers over `dim`, rounded to a multiple of 16."""
    source_len: int = Field(64, ge=1, le=65536)
    """Most positions of a source; longer ones keep their last ones."""
    target_len: int = Field(64, ge=1, le=65536)
    """Most positions of a target; longer ones keep their first ones."""
    action_len: int | None = Field(None, ge=1, le=65536)
    """Most positions of an action; longer ones keep their last ones. `source_len` when empty."""
    source_positions: Literal["before", "aligned"] = "before"
    """`before`: they count down to -1, where the target begins. `aligned`: from 0, as the target's, and the
    predictor starts from the source's embeddings, for targets that are their source with some changes."""
    dropout: float = Field(0.0, ge=0, lt=1)
    encoder: EncoderConfig = EncoderConfig()
    predictor: PredictorConfig = PredictorConfig()
    decoder: DecoderConfig = DecoderConfig()
    latent: LatentConfig = LatentConfig()
    action: ActionConfig = ActionConfig()
    causal: CausalConfig = CausalConfig()
    backbone: str | None = Field(None, min_length=1)
    """A Hugging Face causal language model in place of the CausalLM: a folder, a `.gguf` file, or a name on
    the hub. It brings its own sizes and its own tokenizer, which the data must be prepared with."""
    lora: LoraConfig = LoraConfig()
    gradient_checkpointing: bool = False
    """Compute the backbone's layers again in the backward pass instead of keeping their activations."""

    @property
    def target_dim(self) -> int:
        """Width of the target's embeddings, D'."""
        return self.latent.dim or self.dim

    @property
    def longest_action(self) -> int:
        """Most positions of an action."""
        return self.action_len or self.source_len

    @model_validator(mode="after")
    def _aligned_places_are_tokens(self) -> ModelConfig:
        if self.source_positions == "aligned" and self.latent.tokens > 1:
            raise ValueError("model.source_positions=aligned needs model.latent.tokens=1")
        return self

    @model_validator(mode="after")
    def _heads_divide_width(self) -> ModelConfig:
        widths = [("model", self.dim, self.n_heads)]
        predictor = self.predictor
        widths.append(("model.predictor", predictor.dim or self.dim, predictor.n_heads or self.n_heads))
        for where, dim, heads in widths:
            if dim % heads or (dim // heads) % 2:
                raise ValueError(f"{where}.dim {dim} over n_heads {heads} is not an even whole number")
        return self

    @model_validator(mode="after")
    def _a_backbone_has_sizes_of_its_own(self) -> ModelConfig:
        if self.lora.r == 0 and self.lora != LoraConfig():
            raise ValueError("model.lora does nothing with model.lora.r=0")
        if self.backbone is None:
            for name in ("lora", "gradient_checkpointing"):
                if not _kept(self, name):
                    raise ValueError(f"model.{name} does nothing without model.backbone")
            return self
        for where, section, names in (
            ("model", self, ("dim", "n_heads", "ffn_mult", "dropout")),
            ("model.causal", self.causal, ("n_layers", "tied")),
        ):
            for name in names:
                if not _kept(section, name):
                    raise ValueError(f"{where}.{name} does nothing with model.backbone, which brings its own")
        return self


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


class LocalConfig(Section):
    """Cross-entropy of a small head on the encoder at the hidden places of its source; off at weight 0."""

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


class GradNormConfig(Section):
    """GradNorm: weights that make the terms train at like rates."""

    alpha: float = Field(1.5, ge=0, le=10)
    """How strongly slow terms are favoured; 0 makes all gradients equally long."""
    lr: float = Field(0.025, gt=0, le=1)
    """Learning rate of the weights."""
    every: int = Field(10, ge=1)
    """Steps between updates; each costs a forward pass and one backward pass a term."""
    floor: float = Field(1e-4, gt=0, lt=1)
    """Smallest weight before they are scaled to their fixed sum."""


class ObjectiveConfig(Section):
    """The loss terms: what is trained and where its gradient flows."""

    reconstruction: ReconstructionConfig = ReconstructionConfig()
    autoencoder: AutoencoderConfig = AutoencoderConfig()
    kl: KLConfig = KLConfig()
    embedding: EmbeddingConfig = EmbeddingConfig()
    generation: GenerationConfig = GenerationConfig()
    local: LocalConfig = LocalConfig()
    length: LengthConfig = LengthConfig()
    next_token: NextTokenConfig = NextTokenConfig()
    latent: LatentPredictionConfig = LatentPredictionConfig()
    tube: TubeConfig = TubeConfig()
    regularizer: RegularizerConfig = RegularizerConfig()
    targets: TargetsConfig = TargetsConfig()
    weighting: Literal["fixed", "uncertainty", "ema", "gradnorm"] = "fixed"
    """How the terms become one loss: what each one's own `weight` is multiplied by."""
    uncertainty: UncertaintyConfig = UncertaintyConfig()
    ema: RunningMeanConfig = RunningMeanConfig()
    gradnorm: GradNormConfig = GradNormConfig()

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


class OptimizerConfig(Section):
    """AdamW and the learning-rate schedule, a pure function of the step."""

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
    beta2: float = Field(0.95, ge=0, lt=1)
    grad_clip: float | None = Field(None, gt=0)
    """Largest norm of the whole gradient; empty does not clip."""


class PhaseConfig(Section):
    """A stretch of a run with its own trained parts, terms and schedule; an item of `training.phases`."""

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
    """How long to train, on how much at a time, and what to write down on the way."""

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
    validation_batches: int = Field(16, ge=1)
    samples: int = Field(4, ge=0, le=64)
    """Held-out sources whose one-shot text is written down at each validation."""
    checkpoint_every: int | None = Field(None, ge=1)
    """Steps between checkpoints; as validation when empty."""
    keep: int = Field(2, ge=1)
    """Newest checkpoints to keep, beside the best."""
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
    compile: bool | Literal["auto"] = "auto"
    threads: int | None = Field(None, ge=1, le=1024)
    """CPU threads; all physical cores when empty."""
    packing: bool | Literal["auto"] = "auto"
    """Compute only the positions that hold text; `auto`: on a CPU."""
    attention: Literal["auto", "sdpa", "matmul"] = "auto"
    """`auto`: plain matrix products for short texts on a CPU, else the fused kernel."""


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
    def _sections_are_the_familys(self) -> Config:
        for family, sections in FAMILY_SECTIONS.items():
            for dotted in sections:
                part, name = dotted.split(".")
                if family != self.model.family and not _kept(getattr(self, part), name):
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
        "objective.local",
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
