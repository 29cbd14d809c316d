"""The bottleneck: embeddings of K tokens squeezed into one latent, and spread over K positions again.

CALM, arXiv 2510.27688, section 3. Its autoencoder reads every K tokens by themselves, with feed-forward
layers alone; here encoder and decoder around the bottleneck see the whole passage.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from jepalm.config import LatentConfig, ModelConfig
from jepalm.model.blocks import FeedForward, init_weights
from jepalm.model.layout import Layout, at_least_float32

FIRST_LOG_STD = -1.0


@dataclass(frozen=True)
class Posterior:
    """Where the target embeddings lie: points, or a diagonal Gaussian around each.

    Attributes:
        mean: (..., D'), what the predictor must match.
        log_std: (..., D') of the Gaussian; None where the embeddings are points.
    """

    mean: Tensor
    log_std: Tensor | None = None

    def map(self, change: Callable[[Tensor], Tensor]) -> Posterior:
        """The same of changed rows."""
        return Posterior(change(self.mean), None if self.log_std is None else change(self.log_std))


def has_bottleneck(config: ModelConfig, variational: bool) -> bool:
    """Whether latents stand between encoder and decoder, or the embeddings themselves."""
    return variational or config.latent != LatentConfig()


class LatentHead(nn.Module):
    """Embeddings of K positions to one latent: squeeze, feed-forward, mean and log standard deviation.

    Points are normalised as the encoder's embeddings are. Gaussians are not: their scale decides how much
    information a latent carries, which the divergence penalises. Their means begin with variance 1 and their
    deviations at 1 / e; from means near 0 under deviations of 1 the decoder would first learn to do without.
    """

    def __init__(self, config: ModelConfig, variational: bool) -> None:
        super().__init__()
        self.tokens, self.variational = config.latent.tokens, variational
        self.normalised = config.encoder.normalisation == "layernorm" and not variational
        self.squeeze = nn.Linear(self.tokens * config.dim, config.dim, bias=False)
        self.ffn_norm = nn.LayerNorm(config.dim, bias=False)
        self.ffn = FeedForward(config.dim, config.ffn_mult)
        self.norm = nn.LayerNorm(config.dim, bias=False)
        self.moments = nn.Linear(config.dim, config.target_dim * (2 if variational else 1))
        init_weights(self, 1)
        nn.init.normal_(self.moments.weight[: config.target_dim], std=config.dim**-0.5)
        nn.init.zeros_(self.moments.bias[: config.target_dim])
        if variational:
            nn.init.constant_(self.moments.bias[config.target_dim :], FIRST_LOG_STD)

    def forward(self, embeddings: Tensor, layout: Layout) -> Posterior:
        """(..., D) embeddings, packed as the layout says, to latents (..., D') as `layout.latents` says."""
        x = self.squeeze(side_by_side(embeddings, layout, self.tokens))  # (..., D)
        x = x + self.ffn(self.ffn_norm(x))
        x = at_least_float32(self.moments(self.norm(x)))  # (..., D') or (..., 2 D')
        if self.variational:
            mean, log_std = x.chunk(2, dim=-1)
            return Posterior(mean, log_std)
        return Posterior(F.layer_norm(x, x.shape[-1:]) if self.normalised else x)


class LatentReader(nn.Module):
    """One latent to what the decoder reads at each of its K positions: the head's mirror image."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.tokens = config.latent.tokens
        self.widen = nn.Linear(config.target_dim, config.dim, bias=False)
        self.ffn_norm = nn.LayerNorm(config.dim, bias=False)
        self.ffn = FeedForward(config.dim, config.ffn_mult)
        self.spread = nn.Linear(config.dim, self.tokens * config.dim, bias=False)

    def forward(self, latents: Tensor, layout: Layout) -> Tensor:
        """(..., D') latents, packed as `layout.latents` says, to (..., D) as the layout says."""
        x = self.widen(latents)  # (..., D)
        x = x + self.ffn(self.ffn_norm(x))
        return one_below_the_other(self.spread(x), layout, self.tokens)


def side_by_side(x: Tensor, layout: Layout, tokens: int) -> Tensor:
    """(..., D) a position to (..., K * D) a latent, zeros where the last latent has no position left."""
    if tokens == 1:
        return x
    padded = layout.pad(x).masked_fill(~layout.mask[..., None], 0)  # (B, T, D)
    padded = F.pad(padded, (0, 0, 0, -padded.shape[1] % tokens))  # (B, T' * K, D)
    return layout.latents(tokens).pack(padded.unflatten(1, (-1, tokens)).flatten(2))


def one_below_the_other(x: Tensor, layout: Layout, tokens: int) -> Tensor:
    """Inverse of `side_by_side`: (..., K * D) a latent to (..., D) a position."""
    if tokens == 1:
        return x
    padded = layout.latents(tokens).pad(x).unflatten(-1, (tokens, -1)).flatten(1, 2)  # (B, T' * K, D)
    return layout.pack(padded[:, : layout.mask.shape[1]])
