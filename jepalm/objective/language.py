"""Encoder and light decoder as language models of the sources: what any text of the language is like."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from jepalm.data.batches import Batch, Tokens
from jepalm.data.ngram_expert import NGramExpert
from jepalm.data.tokenizer import TextTokenizer
from jepalm.model.decoder import DecoderContext
from jepalm.model.jepalm import JEPALM
from jepalm.model.layout import Layout
from jepalm.objective.context import read_before
from jepalm.objective.spans import whole_text
from jepalm.objective.terms import IGNORE, cross_entropy


def encoder_lm(model: JEPALM, batch: Batch, source: Tensor, layout: Layout) -> Tensor:
    """Cross-entropy of each next token of the sources by a causal encoder, in nats a token.

    Args:
        model: its encoder is causal.
        batch: the pairs.
        source: source embeddings (..., D).
        layout: positions of the sources.
    """
    encoder = model.encoder.causal_encoder
    assert encoder is not None, "a bidirectional encoder sees the next token"
    text = read_text(batch)
    following = torch.arange(1, text.ids.shape[1] + 1, device=text.ids.device)
    ended = following >= text.lengths[:, None]
    labels = F.pad(text.ids[:, 1:], (0, 1)).masked_fill(ended, IGNORE)  # (B, S)
    logits = encoder.lm.logits(source)  # (..., V)
    return cross_entropy(logits, layout.pack(labels), batch.n_read_tokens - batch.n_pairs)


def decoder_lm(model: JEPALM, batch: Batch, *, packing: bool, expert: NGramExpert | None) -> Tensor:
    """Cross-entropy of a light decoder on the sources with embeddings of 0, in nats a token."""
    text, config = read_text(batch), model.config
    n_texts, width = text.ids.shape
    layout = Layout.of(text.lengths, width, packed=packing)
    nothing = Tokens(text.ids.new_full((n_texts, 1), TextTokenizer.PAD), torch.zeros_like(text.lengths))
    previous, ngram = read_before(nothing, text, config.decoder.n_previous, expert)  # (B, S, m)
    embeddings = model.decoder.vocabulary.weight.new_zeros(n_texts, width, config.target_dim)
    context = DecoderContext(previous, embeddings.new_zeros(n_texts, config.dim), ngram)
    logits = model.decoder(layout.pack(embeddings), layout, context)  # (..., V)
    labels = text.ids.masked_fill(~layout.mask, IGNORE)  # (B, S)
    return cross_entropy(logits, layout.pack(labels), batch.n_read_tokens)


def read_text(batch: Batch) -> Tokens:
    """The sources of pairs; of hidden spans the text with all that was hidden in it."""
    if batch.target.places is None:
        return batch.source
    text = whole_text(batch.source, batch.target)
    return Tokens(text.ids, text.lengths, start=text.start)
