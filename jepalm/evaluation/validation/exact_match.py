"""Exact match on held-out pairs: does the likeliest text that the model writes equal the target?"""

from __future__ import annotations

from collections.abc import Callable

from jepalm.data.batches import Batch, Tokens
from jepalm.data.tokenizer import TextTokenizer
from jepalm.generation import one_pass as one_shot
from jepalm.generation import token_by_token as autoregressive
from jepalm.objective.causal import CausalObjective
from jepalm.objective.jepalm import JepalmObjective
from jepalm.objective.views import prompt_of, views_of

MOST_PAIRS = 128
"""Pairs that a validation writes a target for; batches evenly spaced over the held-out ones."""

Write = Callable[[Batch], list[list[int]]]
"""Token ids that a model writes for each pair of a batch."""


def exact_match(batches: list[Batch], write: Write) -> float:
    """Share of the pairs whose target is written token by token.

    A target that was cut is never met: where it ends is not known.
    """
    wanted = min(len(batches), -(-MOST_PAIRS // len(batches[0].target.lengths)))
    right = total = 0
    for batch in batches[:: len(batches) // wanted][:wanted]:
        part = batch.first(MOST_PAIRS)
        assert part.whole is not None
        ids, lengths, whole = part.target.ids.tolist(), part.target.lengths.tolist(), part.whole.tolist()
        for row, length, ends, written in zip(ids, lengths, whole, write(part), strict=True):
            right += ends and written == without_end(row[:length])
            total += 1
    return right / total


def without_end(ids: list[int]) -> list[int]:
    """A target without the end token, which closes it where the decoder ends texts itself."""
    return ids[:-1] if ids[-1:] == [TextTokenizer.END] else ids


def writes_token_by_token(objective: CausalObjective) -> Write:
    """The likeliest next token until the end token, one more than the longest target at most."""

    def write(batch: Batch) -> list[list[int]]:
        length, end = batch.target.ids.shape[1] + 1, TextTokenizer.END
        return autoregressive.generate(objective, prompts(batch), length=length, end=end).rows

    return write


def writes_at_once(objective: JepalmObjective) -> Write:
    """The likeliest length, and the likeliest token of each position."""
    return lambda batch: one_shot.generate(objective, batch.source, action=batch.action).rows()


def prompts(batch: Batch) -> Tokens:
    """What a causal model reads before the target: source, then action."""
    return prompt_of(views_of(batch)[0])
