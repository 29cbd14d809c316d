"""One-shot generation: all embeddings of the next passage in one forward pass, then their text."""

from __future__ import annotations

import torch
from torch import Tensor

from jepalm.data.batches import Tokens
from jepalm.data.tokenizer import SPECIALS
from jepalm.generation.left_to_right import LeftToRight
from jepalm.generation.passage import Method, Passage, PassageRequest
from jepalm.model.conditioning import ActionView, Conditioning
from jepalm.model.layout import Layout
from jepalm.objective.jepalm import JepalmObjective


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
    method: Method | None = None,
    noise: Tensor | None = None,
) -> Passage:
    """Generate the target passages of the sources.

    A predictor that takes noise has it drawn, and its likeliest tokens are written. Gumbel noise that is
    given decides the text instead of all draws: to the log-probabilities of a predictor that reads none it
    is added, each position on its own.

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
        method: how the tokens are written; `usual_method` when None.
        noise: (B, T, V) standard Gumbel noise in place of draws, of as many positions as are written or more.
    """
    embeddings, layout = objective.encode_source(source)
    act = objective.encode_action(action)
    lengths = likely_lengths(objective, embeddings, layout, act, length, length_candidates)  # (B, candidates)
    n = lengths.shape[1]
    if n > 1:
        embeddings, layout = objective.encode_source(_repeated(source, n))
        act = objective.encode_action(None if action is None else _repeated(action, n))
        noise = None if noise is None else noise.repeat_interleave(n, 0)
    target = Layout.of(lengths.flatten(), int(lengths.max()), packed=objective.packing)
    if noise is not None:
        noise = temperature * noise[:, : target.mask.shape[1]].float()  # (B, T, V)
    excluded = range(len(SPECIALS))
    request = PassageRequest(embeddings, layout, target, excluded, temperature, generator, act, noise, source)
    passage = (method or usual_method(objective))(objective, request)
    return passage if n == 1 else _most_confident(passage, n)


def _most_confident(passage: Passage, n: int) -> Passage:
    """Of each `n` passages in a row the one whose tokens are most probable."""
    best = passage.confidence.view(-1, n).argmax(1)  # (B,)
    rows = torch.arange(len(best), device=best.device) * n + best
    lengths = passage.lengths[rows]
    width, each = int(lengths.max()), passage.tokens_per_embedding
    embeddings = passage.embeddings[rows, : -(-width // each)]
    log_probs = passage.log_probs[rows, :width]
    return Passage(passage.ids[rows, :width], lengths, embeddings, log_probs, each, passage.nfe)


def usual_method(objective: JepalmObjective) -> Method:
    """All positions at once; from left to right where the decoder is autoregressive."""
    return LeftToRight() if objective.model.config.decoder.autoregressive else write_at_once


def write_at_once(objective: JepalmObjective, request: PassageRequest) -> Passage:
    """Write tokens at all positions in one pass of predictor and decoder."""
    target_layout, temperature, generator = request.target_layout, request.temperature, request.generator
    lengths = target_layout.mask.sum(1)  # (B,)
    noise: Tensor | None = request.noise
    if noise is None:
        noise = objective.draw_noise(target_layout, temperature, generator)
    predicted = objective.predict(
        request.embeddings, request.layout, target_layout, Conditioning(request.action, noise=noise)
    )
    logits = objective.model.decoder(predicted, target_layout).float()
    logits[..., list(request.excluded)] = float("-inf")
    packed = None if noise is None else target_layout.pack(noise)  # (..., V)
    ids = decide(objective, logits, packed, temperature, generator)  # (...)
    chosen = logits.log_softmax(-1).gather(-1, ids[..., None]).squeeze(-1)  # (...)
    log_probs = target_layout.pad(chosen) * target_layout.mask  # (B, T)
    ids = target_layout.pad(ids) * target_layout.mask
    each = objective.model.config.latent.tokens
    places = target_layout.latents(each)
    embeddings = places.pad(predicted) * places.mask[..., None]  # (B, T', D')
    return Passage(ids, lengths, embeddings, log_probs, each)


def decide(
    objective: JepalmObjective,
    logits: Tensor,
    noise: Tensor | None,
    temperature: float,
    generator: torch.Generator | None,
) -> Tensor:
    """Tokens (...) of logits (..., V), with or without Gumbel noise (..., V).

    Without noise tokens are drawn, or the likeliest taken at temperature 0. Noise that the predictor read has
    decided the text already: the likeliest tokens are taken. Noise that it did not read is added here.
    """
    if noise is not None:
        return (logits if objective.reads_gumbel else logits + noise).argmax(-1)
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
