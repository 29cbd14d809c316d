"""Verification: a fast drafter proposes what an autoregressive model writes, which checks it in one pass.

With the noise fixed, the autoregressive model's text is a function of the prompt (`noise`). The drafter,
which knows the noise, writes some tokens ahead; one pass of the autoregressive model gives what it would
have written at every one of these positions had those before been right. All drafted tokens up to the first
wrong one are right, and what stands in the wrong one's place is right too: a pass writes one token at
least (Parallel Token Prediction, arXiv 2512.21323; without shared noise, speculative decoding, arXiv
2211.17192). The text is the autoregressive model's own, whatever the drafter is like.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from jepalm.data.batches import pad_rows
from jepalm.data.tokenizer import SPECIALS
from jepalm.generation import one_pass as one_shot
from jepalm.generation.noise import Noise
from jepalm.generation.token_by_token import GREEDY, Sampling
from jepalm.model.causal import CausalLM, KVCache
from jepalm.objective import CausalObjective, JepalmObjective


class Drafter(Protocol):
    """Guesses how an autoregressive model goes on with texts, cheaply.

    Attributes:
        passes: forward passes of a network that a draft takes.
    """

    passes: int

    @property
    def longest(self) -> int:
        """Tokens of a draft, T."""
        ...

    def draft(
        self, texts: Sequence[Sequence[int]], noise: Tensor | None, sampling: Sampling
    ) -> list[list[int]]:
        """Guess the next tokens of each text.

        Args:
            texts: token ids of prompt and text so far.
            noise: (B, T, V) of the positions to write; None at temperature 0.
            sampling: how the autoregressive model chooses tokens.

        Returns:
            T token ids or fewer of each text.
        """
        ...


class OneShotDrafter:
    """A JEPALM of windows: a draft is one pass of encoder, predictor and decoder.

    Args:
        objective: the trained objective, in evaluation mode.
        device: where it lies.
    """

    passes = 1

    def __init__(self, objective: JepalmObjective, device: torch.device) -> None:
        self.objective, self.device = objective, device

    @property
    def longest(self) -> int:
        """Tokens of a passage: a predictor that learned to write all of them together writes all of them."""
        return self.objective.model.config.target_len

    def draft(
        self, texts: Sequence[Sequence[int]], noise: Tensor | None, sampling: Sampling
    ) -> list[list[int]]:
        """Write a passage after each text; see `Drafter`. What `sampling` keeps is not looked at."""
        source = pad_rows([text[-self.objective.model.config.source_len :] for text in texts], self.device)
        return one_shot.generate(
            self.objective, source, length=self.longest, temperature=sampling.temperature, noise=noise
        ).rows()


@dataclass(frozen=True)
class Verified:
    """What was written after each prompt.

    Attributes:
        rows: token ids of each text.
        passes: verifying passes of all texts together, as many as the slowest one takes.
        drafts: drafts of all texts together.
        passes_of: verifying passes of each text.
        drafts_of: drafts of each text.
    """

    rows: list[list[int]]
    passes: int
    drafts: int
    passes_of: list[int]
    drafts_of: list[int]

    @property
    def tokens_a_pass(self) -> float:
        """Tokens that a verifying pass writes of one text, mean over all passes."""
        return sum(map(len, self.rows)) / sum(self.passes_of)


@dataclass
class _Text:
    """A text that grows, and the part of it that the model sees.

    The part begins with the last `context` tokens of the prompt; when the token behind a full context is
    written, it is the last half of a context. So does `autoregressive.generate`.

    Attributes:
        ids: prompt and text so far.
        context: most tokens that the model sees.
        left: tokens to write.
        begin: where the part that the model sees begins.
        read: tokens of it whose keys and values are kept.
        written: tokens.
        passes: verifying passes.
        drafts: drafts.
    """

    ids: list[int]
    context: int
    left: int
    begin: int = 0
    read: int = 0
    written: int = 0
    passes: int = 0
    drafts: int = 0

    @property
    def unread(self) -> list[int]:
        """Tokens that the model has to read before it goes on, one or more."""
        return self.ids[self.begin + self.read :]

    @property
    def room(self) -> int:
        """Most drafted tokens that the next pass can check: they fit the context, and one more is written."""
        return min(self.context - (len(self.ids) - self.begin), self.left - 1)

    def accept(self, tokens: list[int]) -> None:
        """Take what a pass has shown to be right; all but the last of the tokens were read in it."""
        self.read = len(self.ids) - self.begin + len(tokens) - 1
        self.ids += tokens
        self.left -= len(tokens)
        self.written += len(tokens)
        self.passes += 1
        if self.read == self.context:
            self.begin, self.read = len(self.ids) - max(1, self.context // 2), 0


@torch.no_grad()
def verify(
    objective: CausalObjective,
    prompts: Sequence[Sequence[int]],
    drafter: Drafter,
    *,
    length: int,
    sampling: Sampling = GREEDY,
    noise: Noise | None = None,
) -> Verified:
    """Write `length` tokens after each prompt, those that `autoregressive.generate` writes after it alone.

    They are the same up to the rounding of logits: a pass over many positions adds up in another order than
    one over a single position. Each text is accepted as far as it is right, whatever the others do.

    Args:
        objective: the autoregressive model of windows, in evaluation mode.
        prompts: B texts of one token id or more.
        drafter: intermediate logits.
        length: tokens to write, one or more.
        sampling: how tokens are chosen.
        noise: of the prompts as texts 0, 1 and so on; not read at temperature 0.
    """
    model = objective.model
    assert isinstance(model, CausalLM), "only the keys and values of this model can be forgotten in part"
    longest, context = drafter.longest, model.context_len
    texts = [_Text(list(prompt), context, length, max(0, len(prompt) - context)) for prompt in prompts]
    cache = model.new_cache(len(texts), context + longest + 1)
    drafts = passes = 0
    while live := [number for number, text in enumerate(texts) if text.left]:
        drawn = None
        if noise is not None and sampling.temperature:
            drawn = noise.at(live, [texts[number].written for number in live], longest + 1)  # (B', T + 1, V)
        intermediate_logits: list[list[int]] = [[] for _ in live]
        if any(texts[number].room for number in live):
            sources = [texts[number].ids for number in live]
            intermediate_logits = drafter.draft(
                sources, None if drawn is None else drawn[:, :longest], sampling
            )
            drafts += 1
            for number in live:
                texts[number].drafts += 1
        parts = [
            _Part(
                number,
                texts[number],
                intermediate[: texts[number].room],
                None if drawn is None else drawn[place],
            )
            for place, (number, intermediate) in enumerate(zip(live, intermediate_logits, strict=True))
        ]
        fresh = [part for part in parts if not part.text.read]
        _check(model, cache, [part for part in parts if part.text.read], sampling)
        if fresh:
            # read apart: a part of many tokens would make all the others as wide
            own = model.new_cache(len(fresh), cache.room)
            _check(model, own, [replace(part, row=row) for row, part in enumerate(fresh)], sampling)
            cache.take(own, [part.row for part in fresh])
        passes += 1
    return Verified(
        [text.ids[-length:] for text in texts],
        passes,
        drafts,
        [text.passes for text in texts],
        [text.drafts for text in texts],
    )


@dataclass(frozen=True)
class _Part:
    """What a pass reads of one text.

    Attributes:
        row: of the text in the cache.
        text: the text.
        guess: drafted tokens to check, T or fewer.
        noise: (T + 1, V) of their positions and the next; None at temperature 0.
    """

    row: int
    text: _Text
    intermediate: list[int]
    noise: Tensor | None


def _check(model: CausalLM, cache: KVCache, parts: list[_Part], sampling: Sampling) -> None:
    """Read what is unread of some texts and their drafts in one pass, and accept what is right.

    Rows of other texts are written too; those texts are done, or about to be read from their beginning.
    """
    if not parts:
        return
    n_rows = len(cache.lengths)
    read, ids, last = [0] * n_rows, [[0]] * n_rows, []
    for part in parts:
        unread = part.text.unread
        read[part.row], ids[part.row] = part.text.read, unread + part.intermediate
        last.append(len(unread) - 1)
    cache.keep(read)
    device = cache.lengths.device
    hidden = model.hidden(pad_rows(ids, device).ids, cache)  # (rows, W, D)
    n_asked = 1 + max(len(part.intermediate) for part in parts)
    rows = torch.tensor([part.row for part in parts], device=device)[:, None]  # (B', 1)
    columns = torch.tensor(last, device=device)[:, None] + torch.arange(n_asked, device=device)  # (B', G + 1)
    logits = model.logits(hidden[rows, columns.clamp(max=hidden.shape[1] - 1)]).float()  # (B', G + 1, V)
    logits[..., : len(SPECIALS)] = float("-inf")
    noise = None
    if sampling.temperature:
        noise = torch.stack([part.noise[:n_asked] for part in parts if part.noise is not None])
    for part, conditioning in zip(parts, sampling.choose(logits, noise).tolist(), strict=True):
        right = 0
        while right < len(part.intermediate) and part.intermediate[right] == conditioning[right]:
            right += 1
        part.text.accept(conditioning[: right + 1])
