"""The JEPALM: TextEncoder, Predictor, TextDecoder.

source text -> TextEncoder -> source embeddings
                                   |
                               Predictor  -> predicted embeddings -> TextDecoder -> target text
                               (one shot)

The predictor of transitions also reads an action, by itself encoded.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jepalm.config import LatentConfig, ModelConfig
from jepalm.model.causal_encoder import CausalEncoder
from jepalm.model.conditioning import ActionView, Conditioning
from jepalm.model.intermediate_logits import IntermediateLogits
from jepalm.model.latents import LatentHead, LatentReader, Posterior
from jepalm.model.layers import Block, Modulation, init_weights
from jepalm.model.layout import Layout, at_least_float32
from jepalm.model.queries import UnmaskedTokens
from jepalm.model.token_shift import TokenShift

CARRIED = 0.25
"""Share of a source's embedding that its query starts from, where likeness counts."""


class TextEncoder(nn.Module):
    """Bidirectional Transformer, or a causal one's layers: token ids to one embedding a position.

    With `layernorm` normalisation every embedding has mean 0 and variance 1 over its dimensions, so
    predicting zero costs exactly `dim` in summed squared error. A bottleneck makes latents of a target's
    embeddings; a source keeps one embedding a position.
    """

    def __init__(
        self, config: ModelConfig, vocab_size: int, attention: str = "auto", *, variational: bool = False
    ) -> None:
        super().__init__()
        self.normalisation = config.encoder.normalisation
        causal, token_shift = config.encoder.kind == "causal", config.encoder.token_shift
        self.causal_encoder = CausalEncoder(config, vocab_size, attention) if causal else None
        self.token_shift = TokenShift(config.dim, token_shift) if token_shift else None
        if not causal:
            self.tokens = nn.Embedding(vocab_size, config.dim)
            self.blocks = nn.ModuleList(
                Block(config.dim, config.n_heads, config.ffn_mult, config.dropout, attention=attention)
                for _ in range(config.encoder.n_layers)
            )
            init_weights(self, max(1, config.encoder.n_layers), mimetic_init=config.mimetic_init)
        self.latents = LatentHead(config, variational) if has_bottleneck(config, variational) else None

    def forward(self, ids: Tensor, layout: Layout) -> Tensor:
        """(B, T) token ids to (..., D) embeddings, packed as the layout says."""
        if self.causal_encoder is not None:
            return self.embedded(self.causal_encoder(ids, layout))
        if self.token_shift is None:
            x = self.tokens(layout.pack(ids))  # (..., D)
        else:
            x = layout.pack(self.token_shift(self.tokens(ids)))  # (..., D)
        for block in self.blocks:
            x = block(x, layout)
        return self.embedded(x)

    def embedded(self, x: Tensor) -> Tensor:
        """What the last layer made (..., D) as embeddings (..., D)."""
        if self.normalisation == "layernorm":
            x = F.layer_norm(at_least_float32(x), x.shape[-1:])
        return x

    def posterior(self, ids: Tensor, layout: Layout) -> Posterior:
        """(B, T) token ids to the target embeddings, packed as `layout.latents` says."""
        return self.squeeze(self(ids, layout), layout)

    def squeeze(self, embeddings: Tensor, layout: Layout) -> Posterior:
        """One embedding a position (..., D) to those of a target (..., D')."""
        return Posterior(embeddings) if self.latents is None else self.latents(embeddings, layout)


class Predictor(nn.Module):
    """Cross-attention Transformer: source embeddings to all target embeddings in one pass.

    One learned query a target embedding, or a place in the text where the target's are given; where sources
    are aligned one for all, to which the source's own embedding at the place is added. Width and depth are
    its own, with projections in and out. An action's embeddings are keys beside the source's, told apart by a
    learned vector; or their mean modulates every block; or both. Queries of unmasked positions carry the
    token that is decided there.

    Where the layers guess, each position sees those before it alone, and hears, before each layer, what was
    guessed at the one before it; the first hears the source's last embedding. A token that is unmasked is
    told in place of a guess: no position knows its own, so that all may be learned. What the last layer
    intermediate logits is part of the prediction. Gumbel noise is part of every guess.
    """

    def __init__(self, config: ModelConfig, attention: str = "auto", *, vocab_size: int = 0) -> None:
        super().__init__()
        own = config.predictor
        dim, heads = own.dim or config.dim, own.n_heads or config.n_heads
        aligned = config.source_positions == "aligned"
        n_queries = 1 if aligned else -(-config.target_len // config.latent.tokens)
        self.queries = nn.Parameter(torch.empty(n_queries, dim))
        self.carry = nn.Linear(config.dim, dim, bias=False) if aligned else None
        conditioning = config.action.conditioning
        self.modulated = conditioning in ("adaln", "both")
        self.blocks = nn.ModuleList(
            Block(
                dim,
                heads,
                config.ffn_mult,
                config.dropout,
                source_dim=config.dim,
                attention=attention,
                condition_dim=config.dim if self.modulated else None,
                causal=own.intermediate_logits,
            )
            for _ in range(own.n_layers)
        )
        self.norm = nn.LayerNorm(dim, bias=False)
        self.project = nn.Linear(dim, config.target_dim, bias=False)
        crossed = conditioning in ("cross", "both")
        self.action_mark = nn.Parameter(torch.empty(1, config.dim)) if crossed else None
        self.unmasked = (
            UnmaskedTokens(dim, vocab_size) if own.unmasked and not own.intermediate_logits else None
        )
        widths, noisy = (dim, config.dim, config.target_dim), own.noise == "gumbel"
        self.intermediate_logits = (
            IntermediateLogits(*widths, vocab_size, noisy=noisy) if own.intermediate_logits else None
        )
        init_weights(self, own.n_layers, mimetic_init=config.mimetic_init)
        if self.intermediate_logits is not None:
            self.intermediate_logits.reset()
        nn.init.zeros_(self.project.weight)
        if config.mimetic_init and self.carry is not None and dim == config.dim:
            nn.init.eye_(self.carry.weight).data.mul_(CARRIED)  # else queries are not like what they match
        for module in self.modules():
            if isinstance(module, Modulation):
                module.reset()

    def forward(
        self, layout: Layout, source: Tensor, source_layout: Layout, conditioning: Conditioning | None = None
    ) -> Tensor:
        """Predict the target embeddings in `layout`.

        Args:
            layout: those of the target's positions or latents, (B, N) wide.
            source: source embeddings (..., D), packed as `source_layout` says.
            source_layout: the source's positions.
            conditioning: what else is known; None is nothing.

        Returns:
            predicted embeddings (..., D'), packed as `layout` says.
        """
        conditioning = conditioning or Conditioning()
        x = self._queries(layout, source, source_layout, conditioning)  # (..., its own dim)
        memory, condition = (source, source_layout), None
        if conditioning.action is not None:
            embeddings, places = conditioning.action
            if self.action_mark is not None:
                marked = embeddings + self.action_mark  # (..., D)
                memory = source_layout.join(source, marked), source_layout.beside(places)
            if self.modulated:
                condition = places.mean(embeddings)  # (B, D)
        if self.intermediate_logits is not None:
            first = self.intermediate_logits.first(source, source_layout)  # (B, 1, its own dim)
            return self._with_intermediate_logits(
                self.intermediate_logits, x, first, layout, memory, condition, conditioning
            )
        for block in self.blocks:
            x = block(x, layout, memory, condition)
        return self.project(self.norm(x))

    def _with_intermediate_logits(
        self,
        intermediate_logits: IntermediateLogits,
        x: Tensor,
        first: Tensor,
        layout: Layout,
        memory: tuple[Tensor, Layout],
        condition: Tensor | None,
        conditioning: Conditioning,
    ) -> Tensor:
        """Queries (..., its own dim) to embeddings (..., D'), with a guess before and after each layer."""
        kept = [] if conditioning.intermediate_logits is None else conditioning.intermediate_logits
        gumbel = intermediate_logits.packed(conditioning.noise, layout)
        if gumbel is not None:
            x = x + intermediate_logits.carried(gumbel)
        heard = intermediate_logits.nothing(first, layout)
        x = x + heard
        for block in self.blocks:
            kept.append(intermediate_logits(x, gumbel))
            passed_on = intermediate_logits.conditioning(
                intermediate_logits.probabilities(kept[-1], layout, conditioning.known), first, layout
            )
            x = block(x + passed_on - heard, layout, memory, condition)  # the newest guess alone
            heard = passed_on
        kept.append(intermediate_logits(x, gumbel))
        return self.project(self.norm(x)) + intermediate_logits.own(kept[-1].softmax(-1))

    def _queries(
        self, layout: Layout, source: Tensor, source_layout: Layout, conditioning: Conditioning
    ) -> Tensor:
        """What the queries carry: their place, what is unmasked there; (..., its own dim)."""
        x = self._places(layout, source, source_layout)
        if conditioning.known is not None and self.intermediate_logits is None:
            assert self.unmasked is not None
            x = x + self.unmasked(conditioning.known, layout)
        return x

    def _places(self, layout: Layout, source: Tensor, source_layout: Layout) -> Tensor:
        """What the queries are by their place alone, (..., its own dim)."""
        batch, width = layout.mask.shape
        if self.carry is not None:
            there = source_layout.pad(self.carry(source)) * source_layout.mask[..., None]  # (B, Ts, own dim)
            there = F.pad(there, (0, 0, 0, width - there.shape[1]))  # (B, T, own dim)
            return layout.pack(self.queries + there)
        if layout.given:
            return F.embedding(layout.pack(layout.positions), self.queries)
        return layout.pack(self.queries[:width].expand(batch, -1, -1))


class TextDecoder(nn.Module):
    """Bidirectional Transformer: embeddings of a passage to one token distribution a position."""

    def __init__(
        self, config: ModelConfig, vocab_size: int, attention: str = "auto", *, variational: bool = False
    ) -> None:
        super().__init__()
        n_layers = config.decoder.n_layers
        self.latents = LatentReader(config) if has_bottleneck(config, variational) else None
        self.blocks = nn.ModuleList(
            Block(config.dim, config.n_heads, config.ffn_mult, config.dropout, attention=attention)
            for _ in range(n_layers)
        )
        self.norm = nn.LayerNorm(config.dim, bias=False)
        self.vocabulary = nn.Linear(config.dim, vocab_size, bias=False)
        init_weights(self, max(1, n_layers), mimetic_init=config.mimetic_init)

    def forward(self, embeddings: Tensor, layout: Layout) -> Tensor:
        """(..., D') embeddings, packed as `layout.latents` says, to (..., V) logits of the positions."""
        x = embeddings if self.latents is None else self.latents(embeddings, layout)  # (..., D)
        for block in self.blocks:
            x = block(x, layout)
        return self.vocabulary(self.norm(x))


def action_encoder(config: ModelConfig, vocab_size: int, attention: str = "auto") -> TextEncoder:
    """An encoder of actions alone: of the same width, with its own depth."""
    encoder = config.encoder.model_copy(update={"n_layers": config.action.n_layers})
    own = {"encoder": encoder, "latent": LatentConfig()}
    return TextEncoder(config.model_copy(update=own), vocab_size, attention)


def has_bottleneck(config: ModelConfig, variational: bool) -> bool:
    """Whether latents stand between encoder and decoder, or the embeddings themselves."""
    return variational or config.latent != LatentConfig()


class LengthHead(nn.Module):
    """Length of the target from the mean embeddings of source and action: one number, or a logit a length."""

    def __init__(self, config: ModelConfig, n_bins: int = 1) -> None:
        super().__init__()
        self.hidden = nn.Linear(config.dim, config.dim)
        self.out = nn.Linear(config.dim, n_bins)
        conditioned = config.action.conditioning != "none"
        self.action = nn.Linear(config.dim, config.dim, bias=False) if conditioned else None

    def forward(self, source: Tensor, layout: Layout, action: ActionView | None = None) -> Tensor:
        """Source embeddings (..., D) to (B,) predicted lengths, or to (B, n_bins) logits."""
        hidden = self.hidden(layout.mean(source))  # (B, D)
        if self.action is not None:
            assert action is not None
            embeddings, places = action
            hidden = hidden + self.action(places.mean(embeddings))
        return self.out(F.silu(hidden)).squeeze(-1)


class LocalHead(nn.Module):
    """A hidden token from the source's own embedding at its place, without predictor and decoder."""

    def __init__(self, config: ModelConfig, vocab_size: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(config.dim, config.dim)
        self.vocabulary = nn.Linear(config.dim, vocab_size, bias=False)

    def forward(self, source: Tensor) -> Tensor:
        """Source embeddings (..., D) to (..., V) logits."""
        return self.vocabulary(F.silu(self.hidden(source)))


class JEPALM(nn.Module):
    """The model parts together; the objective says how they are trained."""

    def __init__(
        self,
        config: ModelConfig,
        vocab_size: int,
        *,
        length_head: bool,
        length_bins: int = 1,
        local_head: bool = False,
        variational: bool = False,
        attention: str = "auto",
    ) -> None:
        super().__init__()
        self.config = config
        self.encoder = TextEncoder(config, vocab_size, attention, variational=variational)
        self.predictor = Predictor(config, attention, vocab_size=vocab_size)
        self.decoder = TextDecoder(config, vocab_size, attention, variational=variational)
        self.length = LengthHead(config, length_bins) if length_head else None
        self.local = LocalHead(config, vocab_size) if local_head else None
        own = config.action.conditioning != "none" and config.action.encoder == "own"
        self.action = action_encoder(config, vocab_size, attention) if own else None

    def parameters_by_part(self) -> dict[str, int]:
        """Number of parameters of each part."""
        return {name: sum(p.numel() for p in part.parameters()) for name, part in self.named_children()}
