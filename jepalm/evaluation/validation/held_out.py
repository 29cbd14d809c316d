"""Held-out quality while training: every metric on the same held-out pairs, and what the model writes."""

from __future__ import annotations

from jepalm.data.batches import Batch
from jepalm.data.tokenizer import TextTokenizer
from jepalm.evaluation.validation.causal import causal_samples, measure_causal
from jepalm.evaluation.validation.exact_match import exact_match, writes_at_once, writes_token_by_token
from jepalm.evaluation.validation.jepalm import jepalm_samples, measure
from jepalm.objective import CausalObjective, Objective
from jepalm.objective.jepalm import JepalmObjective
from jepalm.training.trainer import HeldOutResult


class HeldOut:
    """Measures an objective on the same held-out batches every time, and shows what it writes.

    Args:
        batches: held-out batches.
        tokenizer: turns ids back into text.
        n_samples: how many of the first batch's sources get the text that the model writes.
        exact: whether to count the targets that the model writes exactly, of pairs with one right answer.
    """

    def __init__(
        self, batches: list[Batch], tokenizer: TextTokenizer, n_samples: int, *, exact: bool = False
    ) -> None:
        self.batches, self.tokenizer, self.n_samples, self.exact = batches, tokenizer, n_samples, exact

    def __call__(self, objective: Objective) -> HeldOutResult:
        """Measure as the family asks; the caller has set evaluation mode and precision."""
        shown = (self.batches[0], self.tokenizer, self.n_samples)
        if isinstance(objective, CausalObjective):
            values = measure_causal(objective, self.batches, self.tokenizer)
            write = writes_token_by_token(objective)
            samples = causal_samples(objective, *shown)
        else:
            assert isinstance(objective, JepalmObjective)
            values = measure(objective, self.batches)
            write = writes_at_once(objective)
            samples = jepalm_samples(objective, *shown)
        if self.exact:
            values["validation/exact_match"] = exact_match(self.batches, write)
        return HeldOutResult(values, samples)
