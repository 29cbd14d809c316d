"""Views of one text: the source lacks the hidden tokens, the target is them, both keep their places.

The targets are made as in I-JEPA (arXiv 2301.08243, section 3) and data2vec (arXiv 2202.03555, section 3.2):
the encoder reads the whole text, and the embeddings at the hidden places are picked. They know the visible
text around them, which is what makes them predictable; the decoder that reads them back has that help too.
"""

from __future__ import annotations

import torch
from torch import Tensor

from jepalm.data.batches import Tokens
from jepalm.model.layout import Layout


def whole_text(source: Tokens, target: Tokens) -> Tokens:
    """Put the target's tokens where they were taken out of the source: (B, T)."""
    assert target.places is not None
    n, width = source.ids.shape
    room = torch.cat((source.ids, source.ids.new_zeros(n, 1)), 1)  # (B, T + 1): padding falls off the end
    places = target.places.masked_fill(~target.mask, width)  # (B, K)
    return Tokens(room.scatter(1, places, target.ids)[:, :-1], source.lengths, source.places, source.start)


def picked(x: Tensor, layout: Layout, places: Layout) -> Tensor:
    """Take the rows at some places of each text: (..., D) as `layout` says to (..., D) as `places` says."""
    rows = layout.pad(x).flatten(0, 1)  # (B * T, D)
    batch, width = layout.mask.shape
    starts = torch.arange(batch, device=rows.device)[:, None] * width  # (B, 1)
    flat = places.pack(starts + places.positions)  # (...)
    return rows.index_select(0, flat.flatten()).unflatten(0, flat.shape)
