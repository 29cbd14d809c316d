"""Verification: a fast drafter proposes what an autoregressive model writes, which checks it in one pass.

With the noise fixed, the autoregressive model's text is a function of the prompt (`GumbelNoise`). The
drafter, which reads the same noise, writes some tokens ahead; one pass of the autoregressive model gives what
it would have written at every one of these positions had those before been right. All drafted tokens up to
the first wrong one are right, and so is the verifier's own token in its place: a pass writes one token at
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
from jepalm.errors import UsageError
from jepalm.generation import one_pass
from jepalm.generation.left_to_right import LeftToRight
from jepalm.generation.loading import TrainedModel
from jepalm.generation.noise import GumbelNoise
from jepalm.generation.sampling import GREEDY, Sampling
from jepalm.generation.writer import TEXTS_AT_ONCE, GeneratedText, Prompt, joined
from jepalm.hardware import Hardware
from jepalm.model.causal import CausalLM, KVCache
from jepalm.objective import CausalObjective, JepalmObjective

DRAFTED = 16
"""Tokens that an autoregressive decoder drafts."""


class Drafter(Protocol):
    """Proposes how an autoregressive model continues texts, at less cost.

    Attributes:
        nfe: forward passes of a network that a draft takes.
    """

    nfe: int

    @property
    def longest(self) -> int:
        """Tokens of a draft, T."""
        ...

    def draft(
        self, texts: Sequence[Sequence[int]], noise: Tensor | None, sampling: Sampling
    ) -> list[list[int]]:
        """Propose the next tokens of each text.

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

    An autoregressive decoder drafts token by token, with the noise of each position.

    Args:
        objective: the trained objective, in evaluation mode.
        device: where it lies.
    """

    nfe = 1

    def __init__(self, objective: JepalmObjective, device: torch.device) -> None:
        self.objective, self.device = objective, device

    @property
    def longest(self) -> int:
        """Tokens of a passage: a predictor that learned to write all of them together writes all of them.

        An autoregressive decoder stops sooner, as few of its tokens are right beyond.
        """
        model = self.objective.model.config
        return min(DRAFTED, model.target_len) if model.decoder.autoregressive else model.target_len

    def draft(
        self, texts: Sequence[Sequence[int]], noise: Tensor | None, sampling: Sampling
    ) -> list[list[int]]:
        """Write a passage after each text; see `Drafter`.

        Top-k and top-p of `sampling` are read by an autoregressive decoder.
        """
        source = pad_rows([text[-self.objective.model.config.source_len :] for text in texts], self.device)
        ordered = self.objective.model.config.decoder.autoregressive
        return one_pass.generate(
            self.objective,
            source,
            length=self.longest,
            temperature=sampling.temperature,
            noise=noise,
            method=LeftToRight(sampling.top_k, sampling.top_p, ends=False) if ordered else None,
        ).rows()


@dataclass(frozen=True)
class VerifiedWriter:
    """Writes what an autoregressive model writes alone with the same seed, from the drafts of another.

    Attributes:
        name: of the autoregressive run.
        objective: the autoregressive model of windows, in evaluation mode.
        hardware: where it lies and in which precision it computes.
        drafter: proposes tokens.
        length: tokens of each text.
        sampling: how tokens are chosen.
        batch_size: texts that are written at once.
    """

    name: str
    objective: CausalObjective
    hardware: Hardware
    drafter: Drafter
    length: int
    sampling: Sampling = GREEDY
    batch_size: int = TEXTS_AT_ONCE

    def write(
        self, prompts: Sequence[Prompt], *, seed: int = 0, lengths: Sequence[int] | None = None
    ) -> GeneratedText:
        """Write after each prompt, with the noise of its number; see `Writer`."""
        longest = self.length if lengths is None else max(lengths)
        parts = []
        for at in range(0, len(prompts), self.batch_size):
            noise = GumbelNoise(seed, self.objective.model.vocab_size, self.hardware.device, first=at)
            with self.hardware.autocast():
                part = verify(
                    self.objective,
                    [prompt.source for prompt in prompts[at : at + self.batch_size]],
                    self.drafter,
                    length=longest,
                    sampling=self.sampling,
                    noise=noise,
                )
            parts.append(part)
        made = joined(parts)
        if lengths is None:
            return made
        return replace(made, ids=[row[:length] for row, length in zip(made.ids, lengths, strict=True)])


def drafter_of(trained: TrainedModel) -> Drafter:
    """A run as a drafter.

    Raises:
        UsageError: it cannot continue a text in one pass.
    """
    if trained.is_causal:
        message = f"{trained.run.name} cannot draft: it writes token by token"
        raise UsageError(message, "--run takes a JEPALM of windows, --verify the causal run")
    if trained.pairing != "windows":
        message = f"{trained.run.name} cannot draft: it was trained on {trained.pairing}"
        raise UsageError(message, "train a JEPALM on data prepared with --pairing windows")
    return OneShotDrafter(trained.jepalm, trained.hardware.device)


def check_verifier(verifying: TrainedModel, drafting: TrainedModel | None) -> None:
    """Check that a run can verify another's drafts, or those from counts of its own data where that is None.

    Raises:
        UsageError: it is no causal run of windows, it is a backbone, or the tokenizers differ.
    """
    name = verifying.run.name
    if not verifying.is_causal:
        hint = "train one with --preset shakespeare-ar"
        raise UsageError(f"{name} cannot verify: it is no causal run", hint)
    if verifying.pairing != "windows":
        message = f"{name} cannot verify: it was trained on {verifying.pairing}"
        raise UsageError(message, "train a causal run on data prepared with --pairing windows")
    if not isinstance(verifying.causal.model, CausalLM):
        message = f"{name} cannot verify: the keys and values of its backbone cannot be removed in part"
        raise UsageError(message, "take a causal run without model.backbone")
    if drafting is not None and verifying.tokenizer.to_json() != drafting.tokenizer.to_json():
        message = f"{drafting.run.name} and {name} have different tokenizers"
        raise UsageError(message, "take a verifier with the drafter's tokenizer")


def verified_writer(
    verifying: TrainedModel,
    drafter: Drafter,
    *,
    length: int | None = None,
    sampling: Sampling = GREEDY,
    batch_size: int = TEXTS_AT_ONCE,
) -> VerifiedWriter:
    """A causal run that verifies drafts; `check_verifier` says whether it can.

    Settings are those of `VerifiedWriter`; without a length texts have as many tokens as the context.
    """
    objective = verifying.causal
    return VerifiedWriter(
        verifying.run.name,
        objective,
        verifying.hardware,
        drafter,
        length or objective.model.context_len,
        sampling,
        batch_size,
    )


@dataclass
class _Text:
    """A text that grows, and the part of it that the model sees.

    The part begins with the last `context` tokens of the prompt; when the token behind a full context is
    written, it is the last half of a context. `token_by_token.generate` does the same.

    Attributes:
        ids: prompt and text so far.
        context: most tokens that the model sees.
        left: tokens to write.
        begin: where the part that the model sees begins.
        read: tokens of it whose keys and values are kept.
        n_written: tokens written.
        checks: verifying passes.
        drafts: drafts.
    """

    ids: list[int]
    context: int
    left: int
    begin: int = 0
    read: int = 0
    n_written: int = 0
    checks: int = 0
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
        self.n_written += len(tokens)
        self.checks += 1
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
    noise: GumbelNoise | None = None,
) -> GeneratedText:
    """Write `length` tokens after each prompt, those that `token_by_token.generate` writes after it alone.

    They are the same up to the rounding of logits: a pass over many positions adds up in another order than
    one over a single position. Each text is accepted as far as it is right, whatever the others do.

    Args:
        objective: the autoregressive model of windows, in evaluation mode.
        prompts: B texts of one token id or more.
        drafter: proposes tokens.
        length: tokens to write, one or more.
        sampling: how tokens are chosen.
        noise: of the prompts as texts 0, 1 and so on; not read at temperature 0.
    """
    model = objective.model
    assert isinstance(model, CausalLM), "only the keys and values of this model can be removed in part"
    longest, context = drafter.longest, model.context_len
    texts = [_Text(list(prompt), context, length, max(0, len(prompt) - context)) for prompt in prompts]
    cache = model.new_cache(len(texts), context + longest + 1)
    while unfinished := [row for row, text in enumerate(texts) if text.left]:
        drawn = None
        if noise is not None and sampling.temperature:
            starts = [texts[row].n_written for row in unfinished]
            drawn = noise.at(unfinished, starts, longest + 1)  # (B', T + 1, V)
        drafts: list[list[int]] = [[] for _ in unfinished]
        if any(texts[row].room for row in unfinished):
            sources = [texts[row].ids for row in unfinished]
            drafts = drafter.draft(sources, None if drawn is None else drawn[:, :longest], sampling)
            for row in unfinished:
                texts[row].drafts += 1
        parts = [
            _Part(row, texts[row], draft[: texts[row].room], None if drawn is None else drawn[place])
            for place, (row, draft) in enumerate(zip(unfinished, drafts, strict=True))
        ]
        unread = [part for part in parts if not part.text.read]
        _check(model, cache, [part for part in parts if part.text.read], sampling)
        if unread:
            # read apart: a part of many tokens would make all the others as wide
            fresh = model.new_cache(len(unread), cache.room)
            _check(model, fresh, [replace(part, row=row) for row, part in enumerate(unread)], sampling)
            cache.take(fresh, [part.row for part in unread])
    checks, drafted = [text.checks for text in texts], [text.drafts for text in texts]
    return GeneratedText(
        [text.ids[-length:] for text in texts],
        [text.checks + drafter.nfe * text.drafts for text in texts],
        max(checks) + drafter.nfe * max(drafted),  # the text that takes longest is in every pass
        checks=checks,
        drafts=drafted,
    )


@dataclass(frozen=True)
class _Part:
    """What a pass reads of one text.

    Attributes:
        row: of the text in the cache.
        text: the text.
        draft: drafted tokens to check, T or fewer.
        noise: (T + 1, V) of their positions and the next; None at temperature 0.
    """

    row: int
    text: _Text
    draft: list[int]
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
        read[part.row], ids[part.row] = part.text.read, unread + part.draft
        last.append(len(unread) - 1)
    cache.keep(read)
    device = cache.lengths.device
    hidden = model.hidden(pad_rows(ids, device).ids, cache)  # (rows, W, D)
    n_predicted = 1 + max(len(part.draft) for part in parts)
    rows = torch.tensor([part.row for part in parts], device=device)[:, None]  # (B', 1)
    places = torch.tensor(last, device=device)[:, None] + torch.arange(n_predicted, device=device)
    logits = model.logits(hidden[rows, places.clamp(max=hidden.shape[1] - 1)]).float()  # (B', G + 1, V)
    logits[..., : len(SPECIALS)] = float("-inf")
    noise = None
    if sampling.temperature:
        noise = torch.stack([part.noise[:n_predicted] for part in parts if part.noise is not None])
    for part, chosen in zip(parts, sampling.choose(logits, noise).tolist(), strict=True):
        right = 0
        while right < len(part.draft) and part.draft[right] == chosen[right]:
            right += 1
        part.text.accept(chosen[: right + 1])
