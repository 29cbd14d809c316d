"""Gumbel noise that makes a text a function of its source, by way of a causal model, the teacher.

With one Gumbel number for each token at each position, x_t = argmax over k of log p(k | before) + g_tk is a
draw of the teacher's (Maddison, Tarlow and Minka 2014, arXiv 1411.0030): the noise determines the text. Noise
that determines a given text can be drawn, too, in one pass of the teacher: the maximum of log p + g is itself
standard Gumbel, whichever token wins, and the losers are Gumbel below it (Gumbel distillation, arXiv
2603.22216).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from jepalm.config import CouplingConfig
from jepalm.data.batches import Batch, Tokens
from jepalm.data.tokenizer import SPECIALS
from jepalm.errors import UsageError
from jepalm.model.causal import CausalModel
from jepalm.model.jepalm import JEPALM
from jepalm.model.noise import draw_exponential, draw_gumbel, finest


def posterior_noise(log_p: Tensor, targets: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Noise g under which each target is the argmax of log p + g, drawn from all such noise.

    With M standard Gumbel: g_y = M - log p_y for the target y, and
    g_k = -log(exp(log p_k - M) - log U_k) for every other token. Over texts of the model itself g is
    standard Gumbel, all components independent.

    Args:
        log_p: (..., V) log-probabilities, -inf for tokens that are never generated.
        targets: (...) tokens of positive probability.
        generator: draws; torch's own when None.

    Returns:
        (..., V) in the finest precision.
    """
    log_p = log_p.to(finest(log_p.device))
    waiting = draw_exponential(tuple(log_p.shape), log_p.device, generator)  # (..., V): -log U
    highest = -waiting.gather(-1, targets[..., None]).log()  # (..., 1): M
    losers = -((log_p - highest).exp() + waiting).log()
    return losers.scatter(-1, targets[..., None], highest - log_p.gather(-1, targets[..., None]))


@dataclass(frozen=True)
class Teacher:
    """A causal model of windows; it learns nothing and no checkpoint holds it.

    Attributes:
        model: in evaluation mode.
    """

    model: CausalModel

    def __post_init__(self) -> None:
        self.model.eval().requires_grad_(False)

    @torch.no_grad()
    def read(self, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Read targets (B, T) after sources (B, S).

        Returns:
            log-probability of each next token of the targets (B, T, V), float32, and the states (B, S, D) of
            the sources.
        """
        length = source.shape[1]
        hidden = self.model.hidden(torch.cat((source, target), 1)[:, :-1])  # (B, S + T - 1, D)
        return self._log_p(hidden[:, length - 1 :]), hidden[:, :length]

    @torch.no_grad()
    def write(self, source: Tensor, gumbel: Tensor) -> tuple[Tensor, Tensor]:
        """The text that noise (B, T, V) determines after sources (B, S).

        Returns:
            tokens (B, T), and the states (B, S, D) of the sources.
        """
        n_texts, length, _ = gumbel.shape
        cache = self.model.new_cache(n_texts, source.shape[1] + length)
        states, written = self.model.hidden(source, cache), []
        hidden = states[:, -1:]  # (B, 1, D)
        for place in range(length):
            written.append((self._log_p(hidden)[:, 0] + gumbel[:, place]).argmax(-1, keepdim=True))  # (B, 1)
            if place < length - 1:
                hidden = self.model.hidden(written[-1], cache)
        return torch.cat(written, 1), states

    def _log_p(self, hidden: Tensor) -> Tensor:
        logits = self.model.logits(hidden).float()
        logits[..., : len(SPECIALS)] = float("-inf")  # no text
        return logits.log_softmax(-1)


@dataclass(frozen=True)
class Coupled:
    """A training batch whose targets are functions of source and noise.

    Attributes:
        batch: with some targets that the teacher generated.
        noise: (B, T, V) float32.
        states: (B, S, D) of the sources, by the teacher.
    """

    batch: Batch
    noise: Tensor
    states: Tensor


@dataclass(frozen=True)
class Coupling:
    """A teacher, and how much of the training text it generates."""

    teacher: Teacher
    config: CouplingConfig

    def __post_init__(self) -> None:
        """Keep `couple` out of compiled steps; a decorator would load the compiler with this module."""
        object.__setattr__(self, "couple", torch.compiler.disable(self.couple))

    def noise(self, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        """Noise that determines a batch's targets, (B, T, V) float32."""
        log_p, _ = self.teacher.read(batch.source.ids, batch.target.ids)
        return posterior_noise(log_p, batch.target.ids, generator).float()

    def couple(self, batch: Batch) -> Coupled:
        """Draw the noise of a training batch, and with it the targets that the teacher generates.

        From torch's global generator: a function of seed and step.
        """
        read, given = batch.source.ids, batch.target.ids
        n = round(self.config.teacher_share * len(given))
        gumbel = self._fresh(n, given)
        written, states = self.teacher.write(read[:n], gumbel) if n else (given[:0], None)
        if n < len(given):
            log_p, others = self.teacher.read(read[n:], given[n:])
            gumbel = torch.cat((gumbel, posterior_noise(log_p, given[n:]).float()))
            states = others if states is None else torch.cat((states, others))
        assert states is not None
        target = Tokens(torch.cat((written, given[n:])), batch.target.lengths)
        return Coupled(replace(batch, target=target), gumbel, states)

    def _fresh(self, n: int, targets: Tensor) -> Tensor:
        """Noise of n texts (n, T, V), each scaled by a temperature."""
        size = (n, targets.shape[1], self.teacher.model.tokens.num_embeddings)
        gumbel, lowest = draw_gumbel(size, targets.device), self.config.temperature_from
        if lowest == 1:
            return gumbel
        return gumbel * (lowest + (1 - lowest) * torch.rand(n, 1, 1, device=targets.device))


def begin_as_teacher(model: JEPALM, teacher: CausalModel) -> None:
    """Copy what has the teacher's shapes: a causal encoder's layers, the tokens of the intermediate logits.

    Raises:
        UsageError: the encoder is a causal one of other sizes.
    """
    encoder, head = model.encoder.causal_encoder, model.predictor.intermediate_logits
    if encoder is not None:
        if not encoder.fits(teacher):
            sizes = teacher.config
            message = "model.encoder.kind=causal needs the sizes of its teacher"
            hint = (
                f"set model.dim={sizes.dim} model.n_heads={sizes.n_heads} "
                f"model.ffn_mult={sizes.ffn_mult:g} model.encoder.n_layers={sizes.causal.n_layers}"
            )
            raise UsageError(message, hint)
        encoder.start_from(teacher)
    if head is not None and head.head.weight.shape == teacher.tokens.weight.shape:
        head.start_from(teacher.tokens.weight)


def encodes_as_teacher(model: JEPALM, teacher: CausalModel) -> bool:
    """Whether the encoder's layers are the teacher's: its states of the sources then need no second pass."""
    encoder = model.encoder.causal_encoder
    return encoder is not None and encoder.equals(teacher)
