"""A batch in embedding space: the targets as they are encoded, and all that can be measured of it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from jepalm.model.decoder import DecoderContext
from jepalm.model.latents import Posterior
from jepalm.model.layout import Layout


@dataclass(frozen=True)
class EncodedTarget:
    """Targets as the trained encoder embeds them; one embedding a position, or one a latent.

    Attributes:
        embeddings: (..., D') without noise.
        decodable: (..., D') what the decoder reads, in training with the autoencoder's noise.
        posterior: what `decodable` was drawn from.
    """

    embeddings: Tensor
    decodable: Tensor
    posterior: Posterior


@dataclass(frozen=True, kw_only=True)
class Views:
    """Everything that can be measured of a batch, packed or padded as the layouts say.

    Attributes:
        source: source embeddings (..., D).
        target: target embeddings (..., D'), what the predictor must match.
        encoded: embeddings of the target (..., D') by the trained encoder.
        decodable: those that the decoder reads (..., D'), in training with the autoencoder's noise.
        posterior: what `decodable` was drawn from.
        predicted: predicted embeddings (..., D'); of a predictor that reads noise, where none is given,
            from a draw in training and from noise of 0 in evaluation.
        intermediate_logits: (..., V) of each layer of a predictor with them.
        lengths: predicted lengths (B,), of a classification their expectation; None without a length head.
        length_logits: (B, L + 1) of a length classification, else None.
        local_logits: (..., V) of the local head at the target's places, else None.
        source_layout: positions of the sources.
        target_layout: positions of the targets.
        embedding_layout: positions of the targets' embeddings.
        context: what an autoregressive decoder reads beside; None for a parallel one.
    """

    source: Tensor
    target: Tensor
    encoded: Tensor
    decodable: Tensor
    posterior: Posterior
    predicted: Tensor
    intermediate_logits: tuple[Tensor, ...]
    lengths: Tensor | None
    length_logits: Tensor | None
    local_logits: Tensor | None
    source_layout: Layout
    target_layout: Layout
    embedding_layout: Layout
    context: DecoderContext | None = None
