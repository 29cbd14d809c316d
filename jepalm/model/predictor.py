"""What is predicted from a source in one pass: all target embeddings, the length, hidden tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jepalm.config import ModelConfig
from jepalm.model.blocks import Block, Modulation, init_weights
from jepalm.model.conditioning import ActionView, Conditioning, UnmaskedTokens
from jepalm.model.intermediate_logits import IntermediateLogits
from jepalm.model.layout import Layout

SOURCE_IN_QUERY = 0.25
"""Share of a source's embedding that its query starts from under mimetic initialisation."""


@dataclass(frozen=True)
class Prediction:
    """What the predictor makes of a source.

    Attributes:
        embeddings: (..., D') predicted target embeddings, packed or padded as the target's layout says.
        intermediate_logits: (..., V) logits before each layer and after the last, of a predictor with them.
    """

    embeddings: Tensor
    intermediate_logits: tuple[Tensor, ...] = ()


class Predictor(nn.Module):
    """Cross-attention Transformer with one learned query a target embedding.

    Width and depth are its own, with projections in and out. Where sources are aligned with their targets one
    learned query serves all positions, to which the source's own embedding at the position is added. An
    action's embeddings are keys beside the source's, marked by a learned vector; or their mean modulates
    every block; or both. Queries of unmasked positions get the vector of the token that is decided there.

    Where the decoder ends a text itself, self-attention is causal: how many positions there are would tell
    where the text ends.

    With intermediate logits self-attention is causal. Each layer predicts the tokens; the prediction for
    position i - 1 is fed to position i of the next layer, and position 0 is fed the source's last embedding.
    An unmasked token is fed in place of its prediction, so no position is fed its own token and all may be
    learned. The last logits are also part of the predicted embeddings.
    """

    def __init__(self, config: ModelConfig, attention: str = "auto", *, vocab_size: int = 0) -> None:
        super().__init__()
        own = config.predictor
        dim, heads = own.dim or config.dim, own.n_heads or config.n_heads
        aligned = config.source_positions == "aligned"
        n_queries = 1 if aligned else -(-config.n_target_positions // config.latent.tokens)
        self.queries = nn.Parameter(torch.empty(n_queries, dim))
        self.source_in_query = nn.Linear(config.dim, dim, bias=False) if aligned else None
        begins = config.decoder.autoregressive and not aligned
        self.last_in_query = nn.Linear(config.dim, dim, bias=False) if begins else None
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
                causal=own.intermediate_logits or config.decoder.autoregressive,
            )
            for _ in range(own.n_layers)
        )
        self.norm = nn.LayerNorm(dim, bias=False)
        self.project = nn.Linear(dim, config.target_dim, bias=False)
        crossed = conditioning in ("cross", "both")
        self.action_mark = nn.Parameter(torch.empty(1, config.dim)) if crossed else None
        reads_unmasked = own.unmasked and not own.intermediate_logits
        self.unmasked = UnmaskedTokens(dim, vocab_size) if reads_unmasked else None
        widths, noisy = (dim, config.dim, config.target_dim), own.noise == "gumbel"
        self.intermediate_logits = (
            IntermediateLogits(*widths, vocab_size, noisy=noisy) if own.intermediate_logits else None
        )
        self._reset(config)

    def _reset(self, config: ModelConfig) -> None:
        init_weights(self, config.predictor.n_layers, mimetic_init=config.mimetic_init)
        if self.intermediate_logits is not None:
            self.intermediate_logits.reset()
        if config.decoder.autoregressive:  # else it would learn to do without embeddings that say nothing yet
            nn.init.normal_(self.project.weight, std=self.project.in_features**-0.5)
            nn.init.normal_(self.queries, std=0.25)
        else:
            nn.init.zeros_(self.project.weight)
        carry = self.source_in_query
        if config.mimetic_init and carry is not None and carry.in_features == carry.out_features:
            nn.init.eye_(carry.weight).data.mul_(SOURCE_IN_QUERY)  # else queries are unlike the source's keys
        for module in self.modules():
            if isinstance(module, Modulation):
                module.reset()

    def forward(
        self, layout: Layout, source: Tensor, source_layout: Layout, conditioning: Conditioning | None = None
    ) -> Prediction:
        """Predict the target embeddings in `layout`.

        Args:
            layout: of the target's positions or latents, (B, N) wide.
            source: source embeddings (..., D), packed as `source_layout` says.
            source_layout: the source's positions.
            conditioning: what else is known; None is nothing.
        """
        conditioning = conditioning or Conditioning()
        x = self._queries(layout, source, source_layout)  # (..., predictor dim)
        memory, condition = (source, source_layout), None
        if conditioning.action is not None:
            action, action_layout = conditioning.action
            if self.action_mark is not None:
                keys = source_layout.join(source, action + self.action_mark)  # (..., D)
                memory = keys, source_layout.beside(action_layout)
            if self.modulated:
                condition = action_layout.mean(action)  # (B, D)
        if self.intermediate_logits is not None:
            return self._with_intermediate_logits(
                self.intermediate_logits, x, layout, (source, source_layout), memory, condition, conditioning
            )
        if conditioning.known is not None:
            assert self.unmasked is not None
            x = x + self.unmasked(conditioning.known, layout)
        for block in self.blocks:
            x = block(x, layout, memory, condition)
        return Prediction(self.project(self.norm(x)))

    def _queries(self, layout: Layout, source: Tensor, source_layout: Layout) -> Tensor:
        """The query of each target embedding, (..., predictor dim)."""
        batch, width = layout.mask.shape
        if self.source_in_query is not None:
            aligned = source_layout.pad(self.source_in_query(source)) * source_layout.mask[..., None]
            beyond = aligned.new_zeros(batch, width, aligned.shape[-1])  # a source may be shorter
            aligned = torch.cat((aligned, beyond), 1)[:, :width]  # (B, T, predictor dim)
            return layout.pack(self.queries + aligned)
        if layout.given:
            queries = F.embedding(layout.pack(layout.positions), self.queries)  # (..., predictor dim)
        else:
            queries = layout.pack(self.queries[:width].expand(batch, -1, -1))
        if self.last_in_query is None:
            return queries
        return queries + layout.spread(self.last_in_query(source_layout.last(source)))

    def _with_intermediate_logits(
        self,
        head: IntermediateLogits,
        x: Tensor,
        layout: Layout,
        source: tuple[Tensor, Layout],
        memory: tuple[Tensor, Layout],
        condition: Tensor | None,
        conditioning: Conditioning,
    ) -> Prediction:
        """Queries (..., predictor dim) to embeddings, with logits before each layer and after the last."""
        start = head.start(*source)  # (B, 1, predictor dim)
        noise = None
        if head.noise is not None:
            noise = head.pack_noise(conditioning.noise, layout)  # (..., V)
            x = x + head.noise_vectors(noise)
        fed = head.first_feedback(start, layout)  # (..., predictor dim)
        x = x + fed
        logits = []
        for block in self.blocks:
            logits.append(head(x, noise))
            probabilities = logits[-1].softmax(-1)  # (..., V)
            if conditioning.known is not None:
                probabilities = head.with_known(probabilities, conditioning.known, layout)
            previous, fed = fed, head.feedback(probabilities, start, layout)
            x = x + fed - previous  # the residual stream holds the newest prediction alone, not their sum
            x = block(x, layout, memory, condition)
        logits.append(head(x, noise))
        embeddings = self.project(self.norm(x)) + head.to_embedding(logits[-1].softmax(-1))
        return Prediction(embeddings, tuple(logits))


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
            embeddings, action_layout = action
            hidden = hidden + self.action(action_layout.mean(embeddings))
        found = self.out(F.silu(hidden))  # (B, n_bins)
        return found.squeeze(-1) if found.shape[-1] == 1 else found


class LocalHead(nn.Module):
    """A hidden token from the source's own embedding at its place, without predictor and decoder."""

    def __init__(self, config: ModelConfig, vocab_size: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(config.dim, config.dim)
        self.vocabulary = nn.Linear(config.dim, vocab_size, bias=False)

    def forward(self, source: Tensor) -> Tensor:
        """Source embeddings (..., D) to (..., V) logits."""
        return self.vocabulary(F.silu(self.hidden(source)))
