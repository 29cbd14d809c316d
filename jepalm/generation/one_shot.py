"""One-shot generation: all embeddings of the next passage in one forward pass, then their text."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from jepalm.data.batches import Tokens
from jepalm.data.tokenizer import SPECIALS
from jepalm.objective.jepalm import JepalmObjective


@dataclass(frozen=True)
class Passage:
    """Generated passages of a batch.

    Attributes:
        ids: (B, T) tokens, 0 beyond each text's length.
        lengths: (B,) positions of each text.
        embeddings: (B, T, D) predicted embeddings, 0 beyond each text's length.
    """

    ids: Tensor
    lengths: Tensor
    embeddings: Tensor

    def rows(self) -> list[list[int]]:
        """Token ids of each text."""
        return [row[:length] for row, length in zip(self.ids.tolist(), self.lengths.tolist(), strict=True)]


@torch.no_grad()
def generate(
    objective: JepalmObjective,
    source: Tokens,
    *,
    length: int | None = None,
    temperature: float = 0.0,
    generator: torch.Generator | None = None,
) -> Passage:
    """Generate the target passages of the sources in one pass.

    Args:
        objective: the trained objective.
        source: the sources, on the objective's device.
        length: positions of every target; the length head's own choice when None, and the longest
            target where the model has no length head.
        temperature: 0 takes the most likely token of each position; above, tokens are drawn.
        generator: draws the tokens; torch's own when None.
    """
    longest = objective.model.config.target_len
    embeddings, layout = objective.encode_source(source)
    lengths = _lengths(objective.predict_lengths(embeddings, layout), len(source.lengths), length, longest)
    lengths = lengths.to(source.ids.device)
    width = int(lengths.max())
    empty = Tokens(torch.zeros(len(lengths), width, dtype=torch.long, device=lengths.device), lengths)
    target_layout = objective.layout(empty)
    predicted = objective.predict(embeddings, layout, target_layout)
    logits = objective.model.decoder(predicted, target_layout).float()
    logits[..., : len(SPECIALS)] = float("-inf")  # they are no text
    if temperature > 0:
        chances = (logits / temperature).softmax(-1).flatten(0, -2)
        ids = torch.multinomial(chances, 1, generator=generator).view(logits.shape[:-1])
    else:
        ids = logits.argmax(-1)
    ids = target_layout.pad(ids) * target_layout.mask
    return Passage(ids, lengths, target_layout.pad(predicted) * target_layout.mask[..., None])


def _lengths(predicted: Tensor | None, batch: int, asked: int | None, longest: int) -> Tensor:
    if asked is not None or predicted is None:
        return torch.full((batch,), min(asked or longest, longest), dtype=torch.long)
    return predicted.float().round().long().clamp(1, longest)
