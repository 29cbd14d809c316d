"""Settings of the model: the sizes and kinds of its parts."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from jepalm.config.base import Section, kept


class EncoderConfig(Section):
    """The TextEncoder."""

    kind: Literal["bidirectional", "causal"] = "bidirectional"
    """`causal`: the layers of a causal language model. Those of `objective.coupling.teacher` are copied where
    the run has one."""
    n_layers: int = Field(4, ge=0, le=128)
    """With 0 a token's embedding knows nothing of its neighbours."""
    normalisation: Literal["layernorm", "none"] = "layernorm"
    """What makes embeddings of the last layer's output: LayerNorm without affine, or nothing."""
    token_shift: int = Field(0, ge=0, le=16)
    """Tokens before each one whose embeddings are added to its own, by a learned weight a dimension."""

    @model_validator(mode="after")
    def _a_causal_encoder_reads_as_it_was_taught(self) -> EncoderConfig:
        if self.kind == "causal" and self.token_shift:
            raise ValueError("model.encoder.token_shift does nothing with model.encoder.kind=causal")
        return self


class PredictorConfig(Section):
    """The cross-attention Predictor; depth and width are its own."""

    n_layers: int = Field(4, ge=1, le=128)
    dim: int | None = Field(None, ge=8, le=16384)
    """Width; the model's own when empty."""
    n_heads: int | None = Field(None, ge=1, le=256)
    """Heads; the model's own when empty."""
    unmasked: bool = False
    """Queries may carry tokens that are already decided, so that a passage is refined in several passes."""
    noise: Literal["none", "gumbel"] = "none"
    """`gumbel`: a number for each token of the vocabulary at each position is added to the intermediate
    logits, so that the text is a function of source and noise, and one source has many texts."""
    intermediate_logits: bool = False
    """Each layer predicts the tokens; the prediction for position i - 1 is fed to position i of the next.
    Self-attention is then causal."""


class DecoderConfig(Section):
    """The TextDecoder: how embeddings become text."""

    kind: Literal["parallel", "local", "recurrent"] = "parallel"
    """`parallel`: a Transformer that gives all tokens at once. `local` and `recurrent` are light and
    autoregressive: each token depends on its embedding and on the tokens before it, and an end token ends the
    text. `local` reads the last `context` tokens, `recurrent` is a GRU."""
    n_layers: int = Field(4, ge=0, le=128)
    """Layers of a `parallel` decoder."""
    context: int = Field(8, ge=0, le=16)
    """Tokens before the position that a `local` decoder reads; 0: the embedding alone. A `recurrent` one
    reads so many before the first position, at least 1."""
    dim: int | None = Field(None, ge=8, le=16384)
    """Hidden width of a `local` or `recurrent` decoder; `model.dim` when empty."""
    ngram: int = Field(0, ge=0, le=8)
    """Order of an n-gram model of the training text. Its log-probabilities, times a learned weight, are added
    to the logits of a `local` or `recurrent` decoder; 0: none."""
    embeddings: Literal["predicted", "positions"] = "predicted"
    """`positions`: a `local` or `recurrent` decoder reads a learned vector a position in place of the
    embeddings, as the control that shows what predicted embeddings are worth."""

    @property
    def autoregressive(self) -> bool:
        """Whether a token depends on the tokens before it, and the decoder ends a text itself."""
        return self.kind != "parallel"

    @property
    def n_previous(self) -> int:
        """How many tokens before a position the decoder reads there, or a recurrent one before the first."""
        return {"parallel": 0, "local": self.context, "recurrent": max(1, self.context)}[self.kind]

    @model_validator(mode="after")
    def _has_what_its_kind_reads(self) -> DecoderConfig:
        for name in ("context", "dim", "ngram", "embeddings"):
            if not self.autoregressive and not kept(self, name):
                raise ValueError(f"model.decoder.{name} does nothing with model.decoder.kind={self.kind}")
        return self


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
    """Most positions that a token is predicted from. Windows are drawn this long; of pairs the source, the
    action where there is one, and the target must fit in, with an end between one and the next."""
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
    mimetic_init: bool = False
    """Queries and keys of attention start alike, so that a token first attends to tokens like it: for targets
    that follow from where the same name stands twice. Of a JEPALM."""
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
    """Compute the layers again in the backward pass instead of keeping their activations."""

    @property
    def target_dim(self) -> int:
        """Width of the target's embeddings, D'."""
        return self.latent.dim or self.dim

    @property
    def n_target_positions(self) -> int:
        """Most positions of a target with the end token, where the decoder ends a text itself."""
        return self.target_len + int(self.decoder.autoregressive)

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
    def _unmasked_places_are_tokens(self) -> ModelConfig:
        if self.predictor.unmasked and self.latent.tokens > 1:
            raise ValueError("model.predictor.unmasked needs model.latent.tokens=1")
        return self

    @model_validator(mode="after")
    def _intermediate_logits_are_of_tokens_that_follow(self) -> ModelConfig:
        if self.predictor.noise == "gumbel" and not self.predictor.intermediate_logits:
            raise ValueError("model.predictor.noise=gumbel needs model.predictor.intermediate_logits=true")
        if self.predictor.intermediate_logits and self.latent.tokens > 1:
            raise ValueError("model.predictor.intermediate_logits needs model.latent.tokens=1")
        if self.predictor.intermediate_logits and self.source_positions == "aligned":
            raise ValueError("model.predictor.intermediate_logits needs model.source_positions=before")
        return self

    @model_validator(mode="after")
    def _a_light_decoder_reads_tokens(self) -> ModelConfig:
        kind = self.decoder.kind
        if not self.decoder.autoregressive:
            return self
        if self.latent != LatentConfig():
            raise ValueError(f"model.latent does nothing with model.decoder.kind={kind}: it reads no latents")
        for name in ("unmasked", "intermediate_logits"):
            if getattr(self.predictor, name):
                raise ValueError(f"model.predictor.{name} does not go with model.decoder.kind={kind}")
        if self.decoder.n_previous > self.source_len:
            raise ValueError(
                f"model.decoder.context {self.decoder.n_previous} is longer than "
                f"model.source_len {self.source_len}"
            )
        if self.decoder.ngram > self.source_len:
            raise ValueError(
                f"model.decoder.ngram {self.decoder.ngram} is longer than model.source_len {self.source_len}"
            )
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
            if not kept(self, "lora"):
                raise ValueError("model.lora does nothing without model.backbone")
            return self
        for where, section, names in (
            ("model", self, ("dim", "n_heads", "ffn_mult", "dropout")),
            ("model.causal", self.causal, ("n_layers", "tied")),
        ):
            for name in names:
                if not kept(section, name):
                    raise ValueError(f"{where}.{name} does nothing with model.backbone, which brings its own")
        return self
