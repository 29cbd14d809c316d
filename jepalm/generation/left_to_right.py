"""A light decoder writes: what embeddings say of all positions at once, then token by token.

Encoder and predictor run once. The loop over tokens holds nothing but the decoder's own few products: on a
CPU in NumPy, whose calls cost a fraction of torch's, elsewhere in torch, without waiting for the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from jepalm.data.batches import Tokens
from jepalm.data.tokenizer import TextTokenizer
from jepalm.generation.beams import search
from jepalm.generation.decoder_steps import Array, Steps, as_array, as_index, steps_of
from jepalm.generation.passage import Passage, PassageRequest
from jepalm.generation.sampling import Sampling
from jepalm.model.conditioning import Conditioning
from jepalm.model.layout import Layout
from jepalm.model.noise import draw_gumbel
from jepalm.objective.jepalm import JepalmObjective

CHECKED_EVERY = 8
"""Tokens after which a device other than the CPU is asked whether all texts have ended."""


@dataclass(frozen=True)
class LeftToRight:
    """Writes a passage in one pass of the predictor, and token by token in the light decoder: a `Method`.

    Attributes:
        top_k: draw from this many most likely tokens.
        top_p: draw from the most likely tokens that together reach this probability.
        ends: whether texts end, as those of pairs and lines do: by the end token, after a token at least.
        beams: texts among which the likeliest is searched at temperature 0, where texts end; 1: the likeliest
            token is taken each time.
    """

    top_k: int | None = None
    top_p: float | None = None
    ends: bool = True
    beams: int = 1

    @torch.no_grad()
    def __call__(self, objective: JepalmObjective, request: PassageRequest) -> Passage:
        """Write the passages of a request; a text has as many tokens as asked for, or ends before."""
        assert not objective.training, "a model writes in evaluation mode"
        return self.decode(objective, request, predicted_embeddings(objective, request))

    @torch.no_grad()
    def decode(self, objective: JepalmObjective, request: PassageRequest, embeddings: Tensor) -> Passage:
        """Write what predicted embeddings (B, T, D') say, token by token."""
        layout, temperature = request.target_layout, request.temperature
        assert request.source is not None, "a light decoder reads the source's last tokens"
        if self.beams > 1 and self.ends and temperature == 0:
            return self._search(objective, request, embeddings)
        steps = steps_of(objective, embeddings, layout, request.layout.last(request.embeddings))
        noise = None
        if temperature and request.noise is not None:
            noise = as_array(request.noise / temperature)  # a request's is scaled by the temperature
        elif temperature:
            shape = (*layout.mask.shape, objective.vocab_size)
            noise = as_array(draw_gumbel(shape, embeddings.device, request.generator))  # (B, T, V)
        text, places = text_and_places(request.source, layout, steps.n_first)
        written = write(
            steps,
            as_index(text),
            as_index(places),
            sampling=Sampling(temperature, self.top_k, self.top_p),
            noise=noise,
            excluded=self._excluded(request),
            end=TextTokenizer.END if self.ends else None,
        )
        log_probs = written.logits.log_softmax(-1).gather(-1, written.ids[..., None]).squeeze(-1)  # (B, T)
        return passage_of(written.ids, log_probs, layout, embeddings)

    def _search(self, objective: JepalmObjective, request: PassageRequest, embeddings: Tensor) -> Passage:
        """Write the likeliest texts that a beam search finds."""
        layout, source = request.target_layout, request.source
        assert source is not None

        def of_beams(x: Tensor) -> Tensor:
            return x.repeat_interleave(self.beams, 0)

        places = None if source.places is None else of_beams(source.places)
        sources = Tokens(of_beams(source.ids), of_beams(source.lengths), places)
        beams = Layout(of_beams(layout.mask), None, of_beams(layout.positions), layout.given)
        last = of_beams(request.layout.last(request.embeddings))
        steps = steps_of(objective, of_beams(embeddings), beams, last)
        ids, log_probs = search(
            steps,
            *text_and_places(sources, beams, steps.n_first),
            layout.mask.sum(1),
            n_beams=self.beams,
            excluded=self._excluded(request),
            end=TextTokenizer.END,
        )
        return passage_of(ids, log_probs, layout, embeddings)

    def _excluded(self, request: PassageRequest) -> list[int]:
        return [token for token in request.excluded if not (self.ends and token == TextTokenizer.END)]


@dataclass(frozen=True)
class Written:
    """Tokens that were written, (B, T), and the logits (B, T, V) that they were chosen from."""

    ids: Tensor
    logits: Tensor


def write(
    steps: Steps,
    text: Array,
    places: Array,
    *,
    sampling: Sampling,
    noise: Array | None,
    excluded: Sequence[int],
    end: int | None,
) -> Written:
    """Write a token at each position, from left to right.

    Args:
        steps: the decoder over the embeddings of the positions.
        text: (B, L) what is read; what is written is put into it.
        places: (B, T) where in it each position lies, m or more.
        sampling: how tokens are chosen.
        noise: (B, T, V) standard Gumbel noise; not read at temperature 0.
        excluded: tokens that are never written.
        end: token that ends a text, never its first; None where texts do not end.

    Returns:
        the tokens, as far as the longest text needs.
    """
    on_cpu = isinstance(text, np.ndarray)
    n_texts, length = places.shape
    rows: Array = np.arange(n_texts)
    first: Array = np.arange(1, steps.n_first + 1)
    if not on_cpu:
        rows, first = (torch.from_numpy(x).to(text.device) for x in (rows, first))
    later, column, never = first[: steps.n_previous], rows[:, None], None
    chosen = choose if on_cpu else Sampling.choose
    done = rows < 0
    ids: list[Array] = []
    kept: list[Array] = []
    with np.errstate(over="ignore"):  # the exponential of a large number: its sigmoid is 0
        for place in range(length):
            at = places[:, place]
            logits = steps.logits(place, text[column, at[:, None] - (later if place else first)])  # (B, V)
            if never is None:
                never = logits[0] * 0
                never[excluded] = -np.inf  # (V,)
            logits = logits + never
            if place == 0 and end is not None:
                logits[:, end] = -np.inf
            tokens = chosen(sampling, logits, None if noise is None else noise[:, place])  # (B,)
            text[rows, at] = tokens
            kept.append(logits)
            ids.append(tokens)
            if end is not None:
                done |= tokens == end
                if (on_cpu or place % CHECKED_EVERY == CHECKED_EVERY - 1) and bool(done.all()):
                    break
    if on_cpu:
        return Written(torch.from_numpy(np.stack(ids, 1)), torch.from_numpy(np.stack(kept, 1)))
    return Written(torch.stack(ids, 1), torch.stack(kept, 1))


def choose(sampling: Sampling, logits: Array, noise: Array | None) -> Array:
    """What `Sampling.choose` chooses of logits (B, V) with noise (B, V), in NumPy."""
    if sampling.temperature == 0:
        return logits.argmax(-1)
    scaled = logits / np.float32(sampling.temperature)
    if sampling.top_k is not None and sampling.top_k < scaled.shape[1]:
        least = np.partition(scaled, -sampling.top_k, axis=1)[:, -sampling.top_k, None]  # (B, 1)
        scaled[scaled < least] = -np.inf
    if sampling.top_p is not None:
        order = (-scaled).argsort(1)  # (B, V)
        probabilities = np.exp(np.take_along_axis(scaled, order, 1) - scaled.max(1, keepdims=True))
        probabilities /= probabilities.sum(1, keepdims=True)
        beyond = probabilities.cumsum(1) - probabilities >= sampling.top_p  # the first is always kept
        scaled[np.arange(len(scaled))[:, None], order] = np.where(
            beyond, -np.inf, np.take_along_axis(scaled, order, 1)
        )
    return (scaled + noise).argmax(-1)


def passage_of(ids: Tensor, log_probs: Tensor, layout: Layout, embeddings: Tensor) -> Passage:
    """Written tokens (B, T) of a layout and their log-probabilities (B, T) as a passage, cut at its ends."""
    lengths = layout.mask.sum(1).clamp(max=ids.shape[1])  # (B,)
    ended = ids == TextTokenizer.END  # (B, T)
    lengths = torch.where(ended.any(1), torch.minimum(ended.int().argmax(1), lengths), lengths)
    width = int(lengths.max())
    mask = torch.arange(width, device=ids.device) < lengths[:, None]  # (B, T)
    return Passage(
        ids[:, :width] * mask,
        lengths,
        embeddings[:, :width] * mask[..., None],
        log_probs[:, :width].masked_fill(~mask, 0.0),
    )


@torch.no_grad()
def predicted_embeddings(objective: JepalmObjective, request: PassageRequest) -> Tensor:
    """The predicted embeddings of a request (B, T, D'), 0 beyond each text's length."""
    layout, given = request.target_layout, Conditioning(request.action)
    predicted = objective.predict(request.embeddings, request.layout, layout, given)  # (..., D')
    return layout.pad(predicted) * layout.mask[..., None]


def text_and_places(source: Tokens, layout: Layout, n_previous: int) -> tuple[Tensor, Tensor]:
    """The text (B, L) that a decoder reads tokens of, and where in it the positions (B, T) of a layout lie.

    Before the text stands padding. A target stands behind its source; positions that are given lie in it.
    """
    ids, lengths = source.ids, source.lengths
    n, width = layout.mask.shape
    if layout.given:
        text = F.pad(ids, (n_previous, 1), value=TextTokenizer.PAD)  # its end: where padding is written
        return text, torch.where(layout.mask, layout.positions + n_previous, text.shape[1] - 1)
    last = lengths[:, None] + torch.arange(-n_previous, 0, device=ids.device)  # (B, m)
    before = ids.gather(1, last.clamp(min=0)).masked_fill(last < 0, TextTokenizer.PAD)
    places = torch.arange(n_previous, n_previous + width, device=ids.device).expand(n, width)
    return F.pad(before, (0, width), value=TextTokenizer.PAD), places
