"""Refinement: a passage decided in several passes, each of which sees what is decided.

The encoder reads the source once; a pass is one of predictor and decoder. Every pass writes all undecided
positions and decides some of them, by an order:

- `confidence`: those whose written token has the highest probability, as many each pass.
- `mask-predict`: the same, but what was decided earlier may be taken back where it was less certain than
  what is written now (Mask-Predict, arXiv 1904.09324, section 3).
- `entropy`: those with the lowest entropies, as many as stay under a bound together, their largest left
  out of the sum (EB-sampler, arXiv 2505.24857); fewer passes where the text is easy.
- `random`: in an order drawn for each text, as many each pass (masked diffusion, arXiv 2406.07524). With a
  pass a token every token is drawn given all decided before it.
- `prefix`: from the first to the last, as many each pass; for a model that was trained with the first tokens
  of texts unmasked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from jepalm.generation.one_pass import decide
from jepalm.generation.passage import Passage, PassageRequest
from jepalm.model.conditioning import Conditioning, Known
from jepalm.objective.jepalm import JepalmObjective

Order = Literal["confidence", "entropy", "random", "mask-predict", "prefix"]
ORDERS: tuple[Order, ...] = get_args(Order)
ENTROPY_BOUND = 1.0
"""Nats."""


@dataclass(frozen=True)
class Refining:
    """Writes a passage in several passes: a `passage.Method`.

    Attributes:
        passes: most passes; a text of fewer tokens takes a pass a token.
        order: which positions are decided first.
        entropy_bound: nats that the order `entropy` decides in one pass, beside the largest.
    """

    passes: int
    order: Order = "random"
    entropy_bound: float = ENTROPY_BOUND

    @torch.no_grad()
    def __call__(self, objective: JepalmObjective, request: PassageRequest) -> Passage:
        """Write tokens at all positions in several passes; see `one_pass.write_at_once`.

        Gumbel noise decides the whole text and is the same in every pass.
        """
        target_layout, temperature, generator = request.target_layout, request.temperature, request.generator
        text = target_layout.mask  # (B, T)
        lengths = text.sum(1)  # (B,)
        most = min(self.passes, text.shape[1])
        ranks = _drawn_ranks(text, generator) if self.order == "random" else None
        if self.order == "prefix":
            ranks = torch.arange(text.shape[1], device=text.device).expand_as(text)  # (B, T)
        ids = torch.zeros_like(target_layout.positions)  # (B, T)
        scores = torch.zeros(text.shape, device=text.device)  # (B, T)
        decided = torch.zeros_like(text)
        noise: Tensor | None = request.noise
        for done in range(1, most + 1):
            known = Known(ids, decided) if done > 1 else None
            if noise is None:
                noise = objective.draw_noise(target_layout, temperature, generator)
            given = Conditioning(request.action, known, noise)
            predicted = objective.predict(request.embeddings, request.layout, target_layout, given)
            logits = target_layout.pad(objective.model.decoder(predicted, target_layout).float())  # (B, T, V)
            logits[..., list(request.excluded)] = float("-inf")
            written = decide(objective, logits, noise, temperature, generator)  # (B, T)
            chosen = logits.log_softmax(-1).gather(-1, written[..., None]).squeeze(-1)  # (B, T)
            ids = torch.where(decided, ids, written)
            scores = torch.where(decided, scores, chosen)
            goal = -(-lengths * done // most)[:, None]  # (B, 1)
            decided = text & self._decide(logits, scores, decided, text, goal, ranks)
            if torch.equal(decided, text):
                break
        embeddings = target_layout.pad(predicted) * text[..., None]  # (B, T, D')
        return Passage(ids * text, lengths, embeddings, scores * text, nfe=done)

    def _decide(
        self,
        logits: Tensor,
        scores: Tensor,
        decided: Tensor,
        text: Tensor,
        goal: Tensor,
        ranks: Tensor | None,
    ) -> Tensor:
        """What is decided after a pass, (B, T) bool.

        Args:
            logits: (B, T, V) of the pass.
            scores: (B, T) log-probability of every token when it was written.
            decided: (B, T) what was decided before the pass.
            text: (B, T) where there is text.
            goal: (B, 1) how many positions of each text are to be decided.
            ranks: (B, T) of the orders `random` and `prefix`, else None.
        """
        if ranks is not None:
            return ranks < goal
        if self.order == "entropy":
            nats = torch.special.entr(logits.softmax(-1)).sum(-1)  # (B, T)
            return decided | within_bound(nats, text & ~decided, self.entropy_bound)
        final = decided if self.order == "confidence" else torch.zeros_like(decided)
        ranked = scores.masked_fill(final, 1.0).masked_fill(~text, float("-inf"))  # above any log-probability
        return _ranks(-ranked) < goal


def within_bound(nats: Tensor, undecided: Tensor, bound: float) -> Tensor:
    """The undecided positions of lowest entropy whose sum without the largest stays within a bound.

    There is one at least.

    Args:
        nats: (B, T) entropies.
        undecided: (B, T) bool, which to choose from.
        bound: nats.
    """
    ascending, places = nats.masked_fill(~undecided, float("inf")).sort(1)  # (B, T)
    before = ascending.cumsum(1).roll(1, 1)  # (B, T): the sum of all smaller ones
    before[:, 0] = 0
    fits = (before <= bound).scatter(1, places, before <= bound)
    return fits & undecided


def _drawn_ranks(text: Tensor, generator: torch.Generator | None) -> Tensor:
    """Place of each position in an order drawn for each text, (B, T); padding is last."""
    keys = torch.rand(text.shape, generator=generator, device=text.device)
    return _ranks(keys.masked_fill(~text, 2.0))


def _ranks(keys: Tensor) -> Tensor:
    """Place of each entry in its row in ascending order, (B, T); the first of equal ones is first."""
    return keys.argsort(dim=1, stable=True).argsort(1)
