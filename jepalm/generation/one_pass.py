"""One-shot generation: all embeddings of the next passage in one forward pass, then their text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from jepalm.data.batches import Tokens
from jepalm.data.tokenizer import SPECIALS
from jepalm.model.conditioning import ActionView, Conditioning
from jepalm.model.layout import Layout
from jepalm.objective.jepalm import JepalmObjective


@dataclass(frozen=True)
class Passage:
    """Generated passages of a batch.

    Attributes:
        ids: (B, T) tokens, 0 beyond each text's length.
        lengths: (B,) positions of each text.
        embeddings: (B, T', D') predicted embeddings, 0 beyond each text's own.
        log_probs: (B, T) of each token under the decoder when it was written, 0 beyond each text's length.
        tokens_per_embedding: how many tokens stand in each.
        passes: forward passes of predictor and decoder.
    """

    ids: Tensor
    lengths: Tensor
    embeddings: Tensor
    log_probs: Tensor
    tokens_per_embedding: int = 1
    passes: int = 1

    @property
    def confidence(self) -> Tensor:
        """Mean log-probability of each text's tokens (B,)."""
        return self.log_probs.sum(1) / self.lengths

    def rows(self) -> list[list[int]]:
        """Token ids of each text."""
        return [row[:length] for row, length in zip(self.ids.tolist(), self.lengths.tolist(), strict=True)]


@dataclass(frozen=True)
class Blank:
    """Passages that are still to be written.

    Attributes:
        embeddings: source embeddings (..., D).
        layout: positions of the source.
        target_layout: positions to write.
        never: tokens that are no text.
        temperature: 0 takes the most likely token of each position; above, tokens are drawn, or in place of
            them the noise of a predictor that takes some, times the temperature.
        generator: draws the tokens or the noise; torch's own when None.
        action: embeddings of the actions, for a model that is conditioned on them.
        noise: (B, T, V) Gumbel noise in place of draws, scaled by the temperature.
    """

    embeddings: Tensor
    layout: Layout
    target_layout: Layout
    never: Sequence[int]
    temperature: float = 0.0
    generator: torch.Generator | None = None
    action: ActionView | None = None
    noise: Tensor | None = None


Writing = Callable[[JepalmObjective, Blank], Passage]
"""Writes the passages."""


@torch.no_grad()
def generate(
    objective: JepalmObjective,
    source: Tokens,
    *,
    action: Tokens | None = None,
    length: int | None = None,
    length_candidates: int = 1,
    temperature: float = 0.0,
    generator: torch.Generator | None = None,
    writing: Writing | None = None,
    noise: Tensor | None = None,
) -> Passage:
    """Generate the target passages of the sources in one pass, or as it is told to.

    A predictor that takes noise has it drawn, and its likeliest tokens are written. Gumbel noise that is
    given decides the text instead of all draws: a predictor that reads none has it added to its
    log-probabilities, each position on its own.

    With several length candidates a passage of each of the likeliest lengths is written, all in one batch,
    and the one kept whose tokens have the highest mean log-probability under the decoder (length
    beam of Mask-Predict, arXiv 1904.09324, section 4.2).

    Args:
        objective: the trained objective.
        source: the sources, on the objective's device.
        action: the action on each, for a model that is conditioned on actions.
        length: positions of every target; the length head's likeliest when None, and the longest
            target where the model has no length head.
        length_candidates: lengths to try for each source where the length head chooses.
        temperature: 0 takes the most likely token of each position; above, tokens or the noise are drawn, and
            noise is multiplied by it.
        generator: draws the tokens or the noise; torch's own when None.
        writing: how the tokens are written; `write`, in one pass, when None.
        noise: (B, T, V) standard Gumbel noise in place of draws, of as many positions as are written or more.
    """
    embeddings, layout = objective.encode_source(source)
    act = objective.encode_action(action)
    lengths = likely_lengths(objective, embeddings, layout, act, length, length_candidates)  # (B, candidates)
    n, never = lengths.shape[1], range(len(SPECIALS))
    if n > 1:
        embeddings, layout = objective.encode_source(_repeated(source, n))
        act = objective.encode_action(None if action is None else _repeated(action, n))
        noise = None if noise is None else noise.repeat_interleave(n, 0)
    target = Layout.of(lengths.flatten(), int(lengths.max()), packed=objective.packing)
    if noise is not None:
        noise = temperature * noise[:, : target.mask.shape[1]].float()  # (B, T, V)
    blank = Blank(embeddings, layout, target, never, temperature, generator, act, noise)
    passage = (writing or write)(objective, blank)
    if n == 1:
        return passage
    best = passage.confidence.view(-1, n).argmax(1)  # (B,)
    rows = torch.arange(len(best), device=best.device) * n + best
    kept = passage.lengths[rows]
    width = int(kept.max())
    each = passage.tokens_per_embedding
    shown = passage.embeddings[rows, : -(-width // each)]
    log_probs = passage.log_probs[rows, :width]
    return Passage(passage.ids[rows, :width], kept, shown, log_probs, each, passage.passes)


def write(objective: JepalmObjective, blank: Blank) -> Passage:
    """Write tokens at all positions in one pass of predictor and decoder."""
    target_layout, temperature, generator = blank.target_layout, blank.temperature, blank.generator
    lengths = target_layout.mask.sum(1)  # (B,)
    conditioning: Tensor | None = blank.noise
    if conditioning is None:
        conditioning = objective.draw_noise(target_layout, temperature, generator)
    predicted = objective.predict(
        blank.embeddings, blank.layout, target_layout, Conditioning(blank.action, noise=conditioning)
    )
    logits = objective.model.decoder(predicted, target_layout).float()
    logits[..., list(blank.never)] = float("-inf")
    laid_out = target_layout.pack(conditioning) if isinstance(conditioning, Tensor) else conditioning
    ids = decide(objective, logits, laid_out, temperature, generator)  # (...)
    chosen = logits.log_softmax(-1).gather(-1, ids[..., None]).squeeze(-1)  # (...)
    log_probs = target_layout.pad(chosen) * target_layout.mask  # (B, T)
    ids = target_layout.pad(ids) * target_layout.mask
    each = objective.model.config.latent.tokens
    places = target_layout.latents(each)
    kept = places.pad(predicted) * places.mask[..., None]  # (B, T', D')
    return Passage(ids, lengths, kept, log_probs, each)


def decide(
    objective: JepalmObjective,
    logits: Tensor,
    noise: Tensor | None,
    temperature: float,
    generator: torch.Generator | None,
) -> Tensor:
    """Tokens (...) of logits (..., V), by the noise that the prediction was told; Gumbel noise is (..., V).

    What a predictor makes of noise that it reads is certain but for its errors: the likeliest tokens. Gumbel
    noise that it does not read is added here; without noise tokens are drawn.
    """
    if noise is None:
        return choose(logits, temperature, generator)
    if not objective.reads_gumbel:
        logits = logits + noise
    return logits.argmax(-1)


def choose(logits: Tensor, temperature: float, generator: torch.Generator | None) -> Tensor:
    """Tokens (...) of logits (..., V): the most likely ones at temperature 0, drawn above."""
    if temperature == 0:
        return logits.argmax(-1)
    probabilities = (logits / temperature).softmax(-1).flatten(0, -2)
    return torch.multinomial(probabilities, 1, generator=generator).view(logits.shape[:-1])


def likely_lengths(
    objective: JepalmObjective,
    embeddings: Tensor,
    layout: Layout,
    action: ActionView | None = None,
    asked: int | None = None,
    candidates: int = 1,
) -> Tensor:
    """Lengths to write (B, candidates), the likeliest first; the longest target's without a length head."""
    likely = None if asked is not None else objective.likely_lengths(embeddings, layout, candidates, action)
    if likely is not None:
        return likely
    longest = objective.model.config.target_len
    return layout.mask.new_full((len(layout.mask), 1), min(asked or longest, longest), dtype=torch.long)


def _repeated(texts: Tokens, n: int) -> Tokens:
    """Every text `n` times."""
    return Tokens(texts.ids.repeat_interleave(n, 0), texts.lengths.repeat_interleave(n, 0))
