"""The model's own text in sources: what it wrote ends a source, as it does when a longer text is written.

Trained on real text alone, a model meets its own first when it writes a second passage. As in scheduled
sampling (arXiv 1506.03099) some of the sources are therefore made by the model as it is now; the target stays
what really follows.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from jepalm.data.batches import Batch, Tokens
from jepalm.data.tokenizer import SPECIALS
from jepalm.model.conditioning import Conditioning
from jepalm.model.layout import Layout

if TYPE_CHECKING:
    from jepalm.objective.jepalm import JepalmObjective


@torch.compiler.disable  # type: ignore[untyped-decorator]
def with_own_text(objective: JepalmObjective, batch: Batch) -> Batch:
    """The batch with passages of the model at the end of the sources that are to have one; in training."""
    if not objective.training or batch.earlier is None or batch.own is None or not len(batch.own):
        return batch
    passages = written(objective, writer_sources(batch.source, batch.earlier, batch.own))
    return replace(batch, source=with_passages(batch.source, batch.own, passages))


def writer_sources(source: Tokens, earlier: Tokens, own: Tensor) -> Tokens:
    """What is read to write the end of the sources in rows `own` (K,): as much text, from further back."""
    length = source.ids.shape[1]
    read = torch.cat((earlier.ids[own], source.ids[own]), 1)[:, :length]  # (K, S)
    return Tokens(read, source.lengths[own])


def with_passages(source: Tokens, own: Tensor, passages: Tensor) -> Tokens:
    """Sources (B, S) whose rows `own` (K,) end in these passages (K, T), in place of their last tokens."""
    length = source.ids.shape[1]
    kept = source.ids[own][:, : max(0, length - passages.shape[1])]
    ended = torch.cat((kept, passages), 1)[:, -length:]  # (K, S)
    return Tokens(source.ids.index_copy(0, own, ended), source.lengths)


@torch.no_grad()
def written(objective: JepalmObjective, source: Tokens) -> Tensor:
    """Passages (K, T) that the model writes in one pass, at temperature 1 and without dropout."""
    longest = objective.model.config.target_len
    objective.eval()
    embeddings, layout = objective.encode_source(source)
    target = Layout.of(torch.full_like(source.lengths, longest), longest, packed=objective.packing)
    noise = objective.draw_noise(target)
    predicted = objective.predict(embeddings, layout, target, Conditioning(noise=noise))
    logits = target.pad(objective.model.decoder(predicted, target)).float()  # (K, T, V)
    objective.train()
    torch.clear_autocast_cache()  # some versions of torch keep weights cast without a graph
    logits[..., : len(SPECIALS)] = float("-inf")
    if noise is not None:
        return logits.argmax(-1)
    return torch.multinomial(logits.softmax(-1).flatten(0, 1), 1).view(logits.shape[:-1])
