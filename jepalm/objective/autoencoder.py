"""The autoencoder's side of the objective: noise on what the decoder learns to read, and its divergence.

After CALM (arXiv 2510.27688, section 3.2), so that the decoder reads what is only near a target embedding,
as predictions are. All noise is drawn in training alone, from the generator that the step seeds, and in the
padded form, so that packing changes no draw.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from jepalm.config import AutoencoderConfig
from jepalm.data.tokenizer import TextTokenizer
from jepalm.model.latents import Posterior
from jepalm.model.layout import Layout


class Draw(Protocol):
    """`torch.rand` or `torch.randn`."""

    def __call__(self, *size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Draw a tensor of this size."""


def drop_tokens(ids: Tensor, share: float) -> Tensor:
    """Replace a random share of token ids (B, T) by the one of padding, which no text has."""
    dropped = torch.rand(ids.shape, device=ids.device) < share
    return ids.masked_fill(dropped, TextTokenizer.PAD)


def sample(posterior: Posterior, layout: Layout) -> Tensor:
    """Draw embeddings (..., D'), mean + std * e, with a gradient to both; points are what they are.

    Kingma and Welling 2014, arXiv 1312.6114, section 2.4.
    """
    if posterior.log_std is None:
        return posterior.mean
    return posterior.mean + posterior.log_std.exp() * drawn(torch.randn, posterior.mean, layout)


def disturb(embeddings: Tensor, layout: Layout, config: AutoencoderConfig) -> Tensor:
    """Add Gaussian noise to embeddings (..., D'), then drop some of their dimensions."""
    if config.noise > 0:
        embeddings = embeddings + config.noise * drawn(torch.randn, embeddings, layout)
    if config.latent_dropout > 0:
        kept = drawn(torch.rand, embeddings, layout) >= config.latent_dropout
        embeddings = embeddings * kept / (1 - config.latent_dropout)
    return embeddings


def drawn(draw: Draw, like: Tensor, layout: Layout) -> Tensor:
    """Random numbers for embeddings (..., D'), the same packed as padded."""
    return layout.pack(draw(*layout.mask.shape, like.shape[-1], dtype=like.dtype, device=like.device))


def divergence(posterior: Posterior, floor: float) -> Tensor:
    """KL divergence of each embedding's Gaussian from the standard normal, in nats: (..., D') to (...).

    `(mean^2 + std^2 - 1) / 2 - log std` of each dimension, at least the floor, summed over dimensions
    (CALM, arXiv 2510.27688, section 3.2).
    """
    assert posterior.log_std is not None
    mean, log_std = posterior.mean, posterior.log_std
    nats = (mean.square() + (2 * log_std).exp() - 1) / 2 - log_std  # (..., D')
    return nats.clamp(min=floor).sum(-1)
