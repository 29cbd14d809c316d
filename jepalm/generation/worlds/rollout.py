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

from jepalm.data.batches import Tokens, pad_rows
from jepalm.data.tokenizer import SPECIALS, TextTokenizer
from jepalm.errors import UsageError
from jepalm.generation import one_pass as one_shot
from jepalm.generation import token_by_token as autoregressive
from jepalm.model.conditioning import Conditioning
from jepalm.model.latents import has_bottleneck
from jepalm.model.layout import Layout
from jepalm.objective import CausalObjective, JepalmObjective, Objective
from jepalm.objective.views import prompt_of

Feedback = Literal["latent", "text"]
"""What of a predicted state the next prediction reads."""


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
    if has_bottleneck(model, config.kl.weight > 0):
        raise UsageError("this model predicts latents, which its predictor cannot read as a state", hint)
    if config.targets.normalisation not in ("none", model.encoder.normalisation):
        kind = config.targets.normalisation
        raise UsageError(f"this model predicts embeddings normalised by {kind}, and reads others", hint)
    if model.target_len > model.source_len:
        sizes = f"up to {model.target_len} tokens and reads {model.source_len}"
        raise UsageError(f"this model predicts states of {sizes}", hint)


def rollout(
    objective: Objective, states: Tokens, actions: Sequence[Tokens], feedback: Feedback = "text"
) -> list[Tokens]:
    """Most likely text of the states after each of k actions.

    Args:
        objective: in evaluation mode; a causal one has no embeddings to feed back.
        states: (B, T) where it starts, on the objective's device.
        actions: k times the action on each of the B states.
        feedback: what of a predicted state is read again.

    Returns:
        k times the texts of B states; one of which nothing was written is an `<unk>`.

    Raises:
        UsageError: a latent rollout of a model whose embeddings do not feed back.
    """
    if feedback == "latent":
        if not isinstance(objective, JepalmObjective):
            raise UsageError("a causal model predicts no embeddings to feed back", "roll out as text")
        latent = latent_rollout(objective, encode_states(objective, states), actions)
        return [decode_states(objective, after) for after in latent]
    found = []
    for action in actions:
        states = next_text(objective, states, action)
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
    lengths = one_shot.likely_lengths(objective, source, layout, act)[:, 0]  # (B,)
    target = Layout.of(lengths, int(lengths.max()), packed=objective.packing)
    return _padded(objective.predict(source, layout, target, Conditioning(act)), target, predicted=True)


@torch.no_grad()
def decode_states(objective: JepalmObjective, states: LatentStates) -> Tokens:
    """The most likely text of predicted states."""
    layout = Layout.of(states.lengths, states.embeddings.shape[1], packed=objective.packing)
    logits = objective.model.decoder(layout.pack(states.embeddings), layout).float()  # (..., V)
    logits[..., : len(SPECIALS)] = float("-inf")
    return Tokens(layout.pad(logits.argmax(-1)) * layout.mask, states.lengths)


@torch.no_grad()
def next_text(objective: Objective, states: Tokens, action: Tokens) -> Tokens:
    """The most likely text of the states after an action on each; as the next source it keeps its end."""
    if isinstance(objective, CausalObjective):
        longest = objective.model.config.target_len
        read = prompt_of([states, action])
        rows = autoregressive.generate(objective, read, length=longest, end=TextTokenizer.END).rows
    else:
        assert isinstance(objective, JepalmObjective)
        rows = one_shot.generate(objective, states, action=action).rows()
    longest = objective.model.config.source_len
    return pad_rows([row[-longest:] or [TextTokenizer.UNK] for row in rows], states.ids.device)


@torch.no_grad()
def target_states(objective: JepalmObjective, texts: Tokens) -> LatentStates:
    """The embeddings of texts that the predictor would have to match."""
    return _padded(*objective.embed_targets(texts), predicted=False)


def _padded(embeddings: Tensor, layout: Layout, *, predicted: bool) -> LatentStates:
    padded = layout.pad(embeddings) * layout.mask[..., None]  # (B, T, D)
    return LatentStates(padded, layout.mask.sum(1), predicted)
