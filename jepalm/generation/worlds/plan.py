"""Plans of a trained model: actions in words, the states it predicts, and how far each is from the goal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from jepalm.data.batches import Tokens, pad_rows
from jepalm.errors import UsageError
from jepalm.generation.loading import TrainedModel
from jepalm.generation.text import read_action, read_prompt
from jepalm.generation.worlds.rollout import (
    Feedback,
    LatentStates,
    check_feedback,
    decode_states,
    encode_states,
    next_latent,
    next_text,
    target_states,
)
from jepalm.generation.worlds.search import Dynamics, Found, Search, search
from jepalm.model.layout import Layout
from jepalm.objective.jepalm import JepalmObjective

STATES_AT_ONCE = 256
SURE = 0.5
"""Chance of its likeliest token from which a place counts as foreseen."""

S = TypeVar("S")


@dataclass(frozen=True)
class Plan:
    """Actions and what the model predicts of them.

    Attributes:
        actions: in their order; none where no sequence ends nearer to the goal than the start.
        states: predicted text after each action.
        distances: to the goal's embeddings, before the first action and after each.
        n_predicted: states predicted in the search.
        complete: whether every sequence up to the horizon was followed.
        merged: whether states that read the same were followed once.
    """

    actions: list[str]
    states: list[str]
    distances: list[float]
    n_predicted: int
    complete: bool
    merged: bool


def make_plan(
    trained: TrainedModel,
    state: str,
    goal: str,
    actions: Sequence[str],
    *,
    horizon: int,
    kind: Search = "auto",
    feedback: Feedback | None = None,
    budget: int = 10_000,
    seed: int = 0,
) -> Plan:
    """Search the actions whose predicted end is nearest to the goal.

    Args:
        trained: a JEPALM that is conditioned on actions.
        state: where to start.
        goal: where to arrive.
        actions: what can be done.
        horizon: most actions of a plan.
        kind: see `search`.
        feedback: whether the search rolls out embeddings or texts; `usual_feedback` when empty.
        budget: see `search`.
        seed: see `search`.

    Raises:
        UsageError: the run has no embeddings or reads no actions, a text is empty, too long or outside its
            alphabet, or its embeddings do not feed back.
    """
    objective, device = trained.objective, trained.hardware.device
    feedback = feedback or usual_feedback(trained)
    if not isinstance(objective, JepalmObjective):
        message = f"{trained.run.name} is a {trained.config.model.family} run, without embeddings to plan in"
        raise UsageError(message, "plan with a run of --preset transitions")
    choices = pad_rows([read_action(trained, action) for action in actions], device)
    start, aim = (pad_rows([_read_whole(trained, text)], device) for text in (state, goal))
    if feedback == "latent":
        check_feedback(objective)
    with trained.hardware.autocast():
        arrival = target_states(objective, aim)
        counted = foreseen(objective, start, choices)
        if feedback == "latent":
            latent = LatentDynamics(objective, choices, arrival, counted)
            states = encode_states(objective, start)
            found = search(latent, states, horizon, kind=kind, budget=budget, seed=seed)
            rows, distances = _followed(latent, states, found, latent.texts)
        else:
            conditioning = TextDynamics(objective, choices, arrival, counted)
            found = search(conditioning, start, horizon, kind=kind, budget=budget, seed=seed)
            rows, distances = _followed(conditioning, start, found, conditioning.texts)
    chosen = [actions[number] for number in found.actions]
    texts = [trained.tokenizer.decode(row) for row in rows]
    return Plan(chosen, texts, distances, found.n_predicted, found.complete, found.merged)


def usual_feedback(trained: TrainedModel) -> Feedback:
    """Texts of a model that learned to write what it predicts, as errors add up less; else embeddings."""
    return "text" if trained.config.objective.generation.weight else "latent"


@torch.no_grad()
def foreseen(objective: JepalmObjective, start: Tokens, choices: Tokens) -> Tensor | None:
    """Places (T,) of a state where the model is sure of the text that follows some action on it.

    What changes at random is foreseen after none. None where no place is, or embeddings do not feed back.
    """
    try:
        check_feedback(objective)
    except UsageError:
        return None
    everything = torch.arange(len(choices.lengths), device=choices.lengths.device)
    found = torch.zeros(0, dtype=torch.bool, device=everything.device)
    for (part,) in _chunks(everything):
        states = next_latent(objective, encode_states(objective, _at(start, 0 * part)), _at(choices, part))
        layout = Layout.of(states.lengths, states.embeddings.shape[1], packed=False)
        probabilities = (
            objective.model.decoder(states.embeddings, layout).float().softmax(-1).amax(-1)
        )  # (N, T)
        sure = ((probabilities >= SURE) & layout.mask).any(0)  # (T,)
        width = max(len(sure), len(found))
        found = F.pad(found, (0, width - len(found))) | F.pad(sure, (0, width - len(sure)))
    return found if bool(found.any()) else None


class PredictedWorld:
    """What a search needs of a model, whatever the form of its states.

    Args:
        objective: in evaluation mode.
        choices: the actions.
        goal: one state, as the predictor would have to match it.
        counted: places (T,) that tell states apart and are compared with the goal; all others beyond them,
            and all where it is None.
    """

    def __init__(
        self,
        objective: JepalmObjective,
        choices: Tokens,
        goal: LatentStates,
        counted: Tensor | None = None,
    ) -> None:
        self.objective, self.choices, self.goal, self.counted = objective, choices, goal, counted
        self.n_actions = len(choices.lengths)


class LatentDynamics(PredictedWorld):
    """States are embeddings, and stay embeddings."""

    def follow(self, states: LatentStates, rows: Tensor, actions: Tensor) -> LatentStates:
        """The states after an action on each of the states at some rows."""
        device = states.lengths.device
        made = [
            next_latent(self.objective, states.at(where), _at(self.choices, which))
            for where, which in _chunks(rows.to(device), actions.to(device))
        ]
        width = max(part.embeddings.shape[1] for part in made)
        embeddings = torch.cat([_widened(part.embeddings, width) for part in made])  # (N, T, D)
        return LatentStates(embeddings, torch.cat([part.lengths for part in made]))

    def distances(self, states: LatentStates) -> list[float]:
        """Distance of each state to the goal."""
        return distances_to(self.objective, states, self.goal, self.counted)

    def names(self, states: LatentStates) -> list[tuple[int, ...]]:
        """The most likely text of each state at the places that count."""
        return _counted(self.texts(states), self.counted)

    def texts(self, states: LatentStates) -> list[tuple[int, ...]]:
        """The most likely text of each state, as token ids."""
        everything = torch.arange(len(states.lengths), device=states.lengths.device)
        return [
            name
            for (part,) in _chunks(everything)
            for name in _names(decode_states(self.objective, states.at(part)))
        ]

    def keep(self, states: LatentStates, rows: Tensor) -> LatentStates:
        """The states at some rows."""
        return states.at(rows.to(states.lengths.device))


class TextDynamics(PredictedWorld):
    """States are texts, embedded only to be compared with the goal."""

    def follow(self, states: Tokens, rows: Tensor, actions: Tensor) -> Tokens:
        """The states after an action on each of the states at some rows."""
        device = states.ids.device
        made = [
            next_text(self.objective, _at(states, where), _at(self.choices, which))
            for where, which in _chunks(rows.to(device), actions.to(device))
        ]
        width = max(part.ids.shape[1] for part in made)
        ids = torch.cat([_widened(part.ids, width) for part in made])  # (N, T)
        return Tokens(ids, torch.cat([part.lengths for part in made]))

    def distances(self, states: Tokens) -> list[float]:
        """Distance of each state's embeddings to the goal's."""
        everything = torch.arange(len(states.lengths), device=states.ids.device)
        return [
            distance
            for (part,) in _chunks(everything)
            for distance in distances_to(
                self.objective, target_states(self.objective, _at(states, part)), self.goal, self.counted
            )
        ]

    def names(self, states: Tokens) -> list[tuple[int, ...]]:
        """The token ids of each state at the places that count."""
        return _counted(self.texts(states), self.counted)

    def texts(self, states: Tokens) -> list[tuple[int, ...]]:
        """The token ids of each state."""
        return _names(states)

    def keep(self, states: Tokens, rows: Tensor) -> Tokens:
        """The states at some rows."""
        return _at(states, rows.to(states.ids.device))


def _read_whole(trained: TrainedModel, text: str) -> list[int]:
    read = read_prompt(trained, text)
    if read.notes:
        longest = trained.config.model.source_len
        raise UsageError(
            f"a state has more than the {longest} tokens that this model reads", "plan with less"
        )
    return read.ids


def distances_to(
    objective: JepalmObjective, states: LatentStates, goal: LatentStates, counted: Tensor | None = None
) -> list[float]:
    """The objective's distance of each state to one goal, mean over positions.

    A position that only one of the two has is compared with zeros; places that do not count add nothing.
    """
    width = max(goal.embeddings.shape[1], states.embeddings.shape[1])
    own, aim = (_widened(part.embeddings.float(), width) for part in (states, goal))
    each = objective.distance(own, aim.expand_as(own))  # (B, T)
    lengths = states.lengths.maximum(goal.lengths)  # (B,)
    held = torch.arange(width, device=lengths.device) < lengths[:, None]  # (B, T)
    if counted is not None:
        held = held & F.pad(counted[:width], (0, max(0, width - len(counted))), value=True)
    found: list[float] = ((each * held).sum(1) / lengths).tolist()
    return found


def _followed(
    dynamics: Dynamics[S], start: S, found: Found, names: Callable[[S], list[tuple[int, ...]]]
) -> tuple[list[tuple[int, ...]], list[float]]:
    """Token ids of each state of a plan, and all distances, the start's first."""
    states, distances = start, dynamics.distances(start)
    rows: list[tuple[int, ...]] = []
    for number in found.actions:
        states = dynamics.follow(states, torch.tensor([0]), torch.tensor([number]))
        rows.extend(names(states))
        distances.extend(dynamics.distances(states))
    return rows, distances


def _chunks(*columns: Tensor) -> Iterator[tuple[Tensor, ...]]:
    return zip(*(column.split(STATES_AT_ONCE) for column in columns), strict=True)


def _at(texts: Tokens, rows: Tensor) -> Tokens:
    return Tokens(texts.ids[rows], texts.lengths[rows])


def _widened(x: Tensor, width: int) -> Tensor:
    """(B, T, ...) with zeros behind, up to `width` positions."""
    return F.pad(x, (*(0, 0) * (x.ndim - 2), 0, width - x.shape[1]))


def _counted(rows: list[tuple[int, ...]], counted: Tensor | None) -> list[tuple[int, ...]]:
    """Token ids at the places that count; those beyond them do."""
    if counted is None:
        return rows
    dropped = {place for place, counts in enumerate(counted.tolist()) if not counts}
    return [tuple(-1 if place in dropped else token for place, token in enumerate(row)) for row in rows]


def _names(texts: Tokens) -> list[tuple[int, ...]]:
    rows = zip(texts.ids.tolist(), texts.lengths.tolist(), strict=True)
    return [tuple(row[:length]) for row, length in rows]
