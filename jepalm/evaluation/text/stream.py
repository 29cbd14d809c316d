"""How well a causal model predicts a text: nats of every token of a stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from jepalm.errors import UsageError
from jepalm.objective.causal import CausalObjective


@dataclass(frozen=True)
class StreamScore:
    """What a stretch of a text costs.

    Attributes:
        nats: (N,) float64, minus the log probability of each scored token.
        stride: tokens scored by each pass.
        context_len: most tokens that a token was predicted from.
    """

    nats: NDArray[np.float64]
    stride: int
    context_len: int

    @property
    def mean(self) -> float:
        """Nats a token."""
        return float(self.nats.mean())


@torch.no_grad()
def score_stream(
    objective: CausalObjective,
    ids: Sequence[int] | NDArray[np.integer],
    *,
    first: int = 1,
    stride: int | None = None,
    batch_size: int = 64,
) -> StreamScore:
    """Score the tokens `first`, `first + 1`, ... of a stream, each exactly once.

    A pass reads `context_len` tokens and scores the last `stride` of their next tokens. With
    `stride` equal to the context, its default, these are blocks side by side: a token has from 1 to
    `context_len` tokens before it, as when training and in nanoGPT's validation loss. With a smaller
    one the window slides, and each token has at least `context_len - stride + 1` before it where
    the text has them.

    Args:
        objective: in evaluation mode; the caller sets the precision.
        ids: (M,) the whole text, so that the first tokens scored have what stands before them.
        first: the first token to score, at least 1.
        stride: tokens scored by each pass.
        batch_size: windows of a forward pass.

    Raises:
        UsageError: there is nothing to score, or the stride is outside 1 to the context's length.
    """
    model = objective.model
    stream = torch.as_tensor(np.asarray(ids, dtype=np.int64))  # (M,)
    n_tokens = len(stream)
    stride = model.context_len if stride is None else stride
    if not 1 <= stride <= model.context_len:
        raise UsageError(f"stride {stride} is out of range", f"1 to {model.context_len} for this model")
    if not 1 <= first < n_tokens:
        raise UsageError(f"nothing to score from token {first} of {n_tokens}", "give a longer text")
    width = min(model.context_len, n_tokens - 1)
    device = next(model.parameters()).device
    starts = torch.arange(first, n_tokens, stride)  # (W,) first token that each window scores
    ends = (starts + stride).clamp(max=n_tokens)  # (W,)
    begins = (ends - 1 - width).clamp(min=0)  # (W,) first token that each window reads
    columns = torch.arange(width)
    nats = []
    for part in torch.arange(len(starts)).split(batch_size):
        places = begins[part, None] + columns  # (B, T)
        labels = stream[places + 1].to(device)  # (B, T)
        logits = model(stream[places].to(device)).float()  # (B, T, V)
        costs = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
        scored = (places + 1 >= starts[part, None]) & (places + 1 < ends[part, None])  # (B, T)
        nats.append(costs.view_as(labels).cpu()[scored].double())
    return StreamScore(torch.cat(nats).numpy(), stride, model.context_len)
