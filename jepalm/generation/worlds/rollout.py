"""Rollouts: the states after several actions, each predicted from the one before.

A latent rollout feeds predicted embeddings back as source embeddings and decodes them only to show them; a
text rollout decodes each state and encodes it again, as an autoregressive model must.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from jepalm.data.batches import Tokens
from jepalm.data.tokenizer import SPECIALS, TextTokenizer
from jepalm.errors import UsageError
from jepalm.generation import one_pass
from jepalm.generation.writer import Prompt, Writer
from jepalm.model.conditioning import Conditioning
from jepalm.model.latents import has_bottleneck
from jepalm.model.layout import Layout
from jepalm.objective import JepalmObjective

Feedback = Literal["latent", "text"]
"""What of a predicted state the next prediction reads."""
TextStates = Sequence[Sequence[int]]
"""Token ids of states, or of the actions on them."""


@dataclass(frozen=True)
class LatentStates:
    """States as embeddings: of a text by the encoder, or predicted.

    Attributes:
        embeddings: (B, T, D), 0 beyond each state's length.
        lengths: (B,) positions of each state.
        predicted: whether they are predicted; what the encoder made of a text is not.
    """

    embeddings: Tensor
    lengths: Tensor
    predicted: bool = True

    def at(self, rows: Tensor) -> LatentStates:
        """Some of the states, (N,) places."""
        return LatentStates(self.embeddings[rows], self.lengths[rows], self.predicted)


def check_feedback(objective: JepalmObjective) -> None:
    """Check that predicted embeddings can stand for source embeddings.

    Raises:
        UsageError: they are of another kind, or may be more than a source has.
    """
    model, config = objective.model.config, objective.config
    hint = "roll out as text"
    if model.decoder.autoregressive:
        raise UsageError("where a state ends is known once this model has written it", hint)
    if has_bottleneck(model, config.kl.weight > 0):
        raise UsageError("this model predicts latents, which its predictor cannot read as a state", hint)
    if config.targets.normalisation not in ("none", model.encoder.normalisation):
        kind = config.targets.normalisation
        raise UsageError(f"this model predicts embeddings normalised by {kind}, and reads others", hint)
    if model.target_len > model.source_len:
        sizes = f"up to {model.target_len} tokens and reads {model.source_len}"
        raise UsageError(f"this model predicts states of {sizes}", hint)


def text_rollout(
    writer: Writer, states: TextStates, actions: Sequence[TextStates], source_len: int
) -> list[TextStates]:
    """Token ids of the states after each of k actions, each written after the text of the one before.

    Args:
        writer: of the most likely texts, for a model that reads actions.
        states: where it starts.
        actions: k times the action on each of the B states.
        source_len: most tokens of a state that the model reads.

    Returns:
        k times the texts of B states.
    """
    found: list[TextStates] = []
    for action in actions:
        states = next_text(writer, states, action, source_len)
        found.append(states)
    return found


@torch.no_grad()
def latent_rollout(
    objective: JepalmObjective, states: LatentStates, actions: Sequence[Tokens]
) -> list[LatentStates]:
    """The states after each of k actions, without any text in between.

    Raises:
        UsageError: embeddings do not feed back.
    """
    check_feedback(objective)
    found = []
    for action in actions:
        states = next_latent(objective, states, action)
        found.append(states)
    return found


@torch.no_grad()
def encode_states(objective: JepalmObjective, states: Tokens) -> LatentStates:
    """The embeddings that the predictor reads of states."""
    return _padded(*objective.encode_source(states), predicted=False)


@torch.no_grad()
def next_latent(objective: JepalmObjective, states: LatentStates, action: Tokens) -> LatentStates:
    """Predicted embeddings of the states after an action on each.

    A source embedding has mean 0 and variance 1 over its dimensions where the encoder normalises; a
    prediction of what is uncertain is shorter, so it is normalised anew before it is read.
    """
    layout = objective.lay_out_sources(states.lengths, states.embeddings.shape[1])
    source = layout.pack(states.embeddings)  # (..., D)
    if states.predicted and objective.model.config.encoder.normalisation == "layernorm":
        source = F.layer_norm(source, source.shape[-1:])
    act = objective.encode_action(action)
    lengths = one_pass.likely_lengths(objective, source, layout, act)[:, 0]  # (B,)
    target = Layout.of(lengths, int(lengths.max()), packed=objective.packing)
    return _padded(objective.predict(source, layout, target, Conditioning(act)), target, predicted=True)


@torch.no_grad()
def decode_states(objective: JepalmObjective, states: LatentStates) -> Tokens:
    """The most likely text of predicted states."""
    layout = Layout.of(states.lengths, states.embeddings.shape[1], packed=objective.packing)
    logits = objective.decode(layout.pack(states.embeddings), layout).float()  # (..., V)
    logits[..., : len(SPECIALS)] = float("-inf")
    return Tokens(layout.pad(logits.argmax(-1)) * layout.mask, states.lengths)


def next_text(writer: Writer, states: TextStates, actions: TextStates, source_len: int) -> list[list[int]]:
    """The texts of the states after an action on each, cut to their ends; an empty one is an `<unk>`."""
    prompts = [Prompt(*pair) for pair in zip(states, actions, strict=True)]
    return [row[-source_len:] or [TextTokenizer.UNK] for row in writer.write(prompts, seed=0).ids]


@torch.no_grad()
def target_states(objective: JepalmObjective, texts: Tokens) -> LatentStates:
    """The embeddings of texts that the predictor would have to match."""
    return _padded(*objective.embed_targets(texts), predicted=False)


def _padded(embeddings: Tensor, layout: Layout, *, predicted: bool) -> LatentStates:
    padded = layout.pad(embeddings) * layout.mask[..., None]  # (B, T, D)
    return LatentStates(padded, layout.mask.sum(1), predicted)
