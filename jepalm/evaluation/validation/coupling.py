"""How far a passage of one pass is the teacher's, under the noise that says the held-out text."""

from __future__ import annotations

import torch
from torch import Tensor

from jepalm.data.batches import Batch
from jepalm.objective.jepalm import JepalmObjective


class Matches:
    """Counts at which positions the tokens of one pass are those of the held-out text.

    The noise is drawn so that the teacher, given it, writes the held-out text. A predictor that reads noise
    writes its likeliest tokens; one that reads none has the noise added to its log-probabilities, and the
    match of its likeliest tokens stands beside.

    Args:
        objective: with a teacher.
    """

    def __init__(self, objective: JepalmObjective) -> None:
        assert objective.coupling is not None
        self.coupling, self.reads_gumbel = objective.coupling, objective.reads_gumbel
        self._draws: torch.Generator | None = None
        self._right: dict[str, list[Tensor]] = {}

    def noise(self, batch: Batch) -> Tensor:
        """Noise (B, T, V) that says a batch's targets, the same in every validation."""
        if self._draws is None:
            self._draws = torch.Generator(batch.target.ids.device).manual_seed(0)
        return self.coupling.noise(batch, self._draws)

    def add(self, logits: Tensor, batch: Batch, noise: Tensor) -> None:
        """Count a batch.

        Args:
            logits: (N, V) of the positions that hold text, in their order.
            batch: the pairs.
            noise: (B, T, V) that says their targets.
        """
        mask = batch.target.mask  # (B, T)
        writings = {"match": logits}
        if not self.reads_gumbel:
            writings = {"match": logits.log_softmax(-1) + noise[mask], "likeliest_match": logits}
        for name, scores in writings.items():
            right = torch.zeros_like(mask)
            right[mask] = scores.argmax(-1) == batch.target.ids[mask]
            self._right.setdefault(name, []).append(right.cpu())

    def metrics(self) -> dict[str, float]:
        """`validation/match_at_1`, `_2`, `_4` and so on, the last position, and `match_prefix`.

        The share of texts that are right at a position, whatever stands before it, and the mean number of
        right tokens before the first wrong one; `likeliest_match...` where noise is not read.
        """
        found: dict[str, float] = {}
        for name, parts in self._right.items():
            right = torch.cat(parts).double()  # (N, T)
            width = right.shape[1]
            places = sorted({2**n for n in range(width.bit_length()) if 2**n <= width} | {width})
            found |= {f"validation/{name}_at_{place}": float(right[:, place - 1].mean()) for place in places}
            found[f"validation/{name}_prefix"] = float(right.cumprod(1).sum(1).mean())
        return found
