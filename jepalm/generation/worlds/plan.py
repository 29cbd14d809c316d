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
from jepalm.generation.prompts import read_action, read_prompt
from jepalm.generation.worlds.rollout import (
    Feedback,
    LatentStates,
    TextStates,
    check_feedback,
    decode_states,
    encode_states,
    next_latent,
    next_text,
    target_states,
)
from jepalm.generation.worlds.search import Dynamics, Search, SearchResult, search
from jepalm.generation.writer import Writer
from jepalm.generation.writers import WritingOptions, writer_for
from jepalm.model.layout import Layout
from jepalm.objective.jepalm import JepalmObjective

STATES_AT_ONCE = 256
PREDICTABLE = 0.5
"""Probability of its likeliest token from which a position counts as predictable."""

S = TypeVar("S")


@dataclass(frozen=True)
class ActionPlan:
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
) -> ActionPlan:
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
    device, feedback = trained.hardware.device, feedback or usual_feedback(trained)
    if trained.is_causal:
        message = f"{trained.run.name} is a causal run, without embeddings to plan in"
        raise UsageError(message, "plan with a run of --preset transitions")
    objective = trained.jepalm
    choices = [read_action(trained, action) or [] for action in actions]
    start, aim = (_read_whole(trained, text) for text in (state, goal))
    if feedback == "latent":
        check_feedback(objective)
    with trained.hardware.autocast():
        padded_start, padded_choices = pad_rows([start], device), pad_rows(choices, device)
        arrival = target_states(objective, pad_rows([aim], device))
        compared = predictable_positions(objective, padded_start, padded_choices)
        if feedback == "latent":
            latent = LatentDynamics(objective, padded_choices, arrival, compared)
            states = encode_states(objective, padded_start)
            found = search(latent, states, horizon, kind=kind, budget=budget, seed=seed)
            rows, distances = _followed(latent, states, found, latent.texts)
        else:
            writer = writer_for(trained, WritingOptions(batch_size=STATES_AT_ONCE))
            text = TextDynamics(objective, writer, choices, arrival, compared)
            found = search(text, [start], horizon, kind=kind, budget=budget, seed=seed)
            rows, distances = _followed(text, [start], found, list)
    chosen = [actions[number] for number in found.actions]
    texts = [trained.tokenizer.decode(row) for row in rows]
    return ActionPlan(chosen, texts, distances, found.n_predicted, found.complete, found.merged)


def usual_feedback(trained: TrainedModel) -> Feedback:
    """Texts of a model that learned to write what it predicts, as errors add up less; else embeddings."""
    return "text" if trained.config.objective.generation.weight else "latent"


@torch.no_grad()
def predictable_positions(objective: JepalmObjective, start: Tokens, choices: Tokens) -> Tensor | None:
    """Positions (T,) of a state at which the model gives some token 1/2 or more, after one action or another.

    What changes at random is predictable after none. None where no position is, or embeddings do not feed
    back.
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
        probabilities = objective.decode(states.embeddings, layout).float().softmax(-1)  # (N, T, V)
        here = ((probabilities.amax(-1) >= PREDICTABLE) & layout.mask).any(0)  # (T,)
        width = max(len(here), len(found))
        found = F.pad(found, (0, width - len(found))) | F.pad(here, (0, width - len(here)))
    return found if bool(found.any()) else None


class LatentDynamics:
    """What a search needs of a model whose states are embeddings, and stay embeddings.

    Args:
        objective: in evaluation mode.
        choices: the actions.
        goal: one state, as the predictor would have to match it.
        compared: positions (T,) that tell states apart and are compared with the goal; all others beyond
            them, and all where it is None.
    """

    def __init__(
        self, objective: JepalmObjective, choices: Tokens, goal: LatentStates, compared: Tensor | None = None
    ) -> None:
        self.objective, self.choices, self.goal, self.compared = objective, choices, goal, compared
        self.n_actions = len(choices.lengths)

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
        return distances_to(self.objective, states, self.goal, self.compared)

    def names(self, states: LatentStates) -> list[tuple[int, ...]]:
        """The most likely text of each state at the positions that are compared."""
        return _compared(self.texts(states), self.compared)

    def texts(self, states: LatentStates) -> list[list[int]]:
        """The most likely text of each state, as token ids."""
        everything = torch.arange(len(states.lengths), device=states.lengths.device)
        found: list[list[int]] = []
        for (part,) in _chunks(everything):
            decoded = decode_states(self.objective, states.at(part))
            pairs = zip(decoded.ids.tolist(), decoded.lengths.tolist(), strict=True)
            found += [row[:length] for row, length in pairs]
        return found

    def keep(self, states: LatentStates, rows: Tensor) -> LatentStates:
        """The states at some rows."""
        return states.at(rows.to(states.lengths.device))


class TextDynamics:
    """What a search needs of a model whose states are texts, embedded only to be compared with the goal.

    Args:
        objective: in evaluation mode.
        writer: writes the next state.
        choices: token ids of the actions.
        goal: see `LatentDynamics`.
        compared: see `LatentDynamics`.
    """

    def __init__(
        self,
        objective: JepalmObjective,
        writer: Writer,
        choices: TextStates,
        goal: LatentStates,
        compared: Tensor | None = None,
    ) -> None:
        self.objective, self.writer, self.choices = objective, writer, choices
        self.goal, self.compared = goal, compared
        self.n_actions = len(choices)

    def follow(self, states: TextStates, rows: Tensor, actions: Tensor) -> TextStates:
        """The states after an action on each of the states at some rows."""
        return next_text(
            self.writer,
            [states[row] for row in rows.tolist()],
            [self.choices[number] for number in actions.tolist()],
            self.objective.model.config.source_len,
        )

    def distances(self, states: TextStates) -> list[float]:
        """Distance of each state's embeddings to the goal's."""
        found: list[float] = []
        for at in range(0, len(states), STATES_AT_ONCE):
            texts = pad_rows(states[at : at + STATES_AT_ONCE], self.goal.lengths.device)
            found += distances_to(
                self.objective, target_states(self.objective, texts), self.goal, self.compared
            )
        return found

    def names(self, states: TextStates) -> list[tuple[int, ...]]:
        """The token ids of each state at the positions that are compared."""
        return _compared(states, self.compared)

    def keep(self, states: TextStates, rows: Tensor) -> TextStates:
        """The states at some rows."""
        return [states[row] for row in rows.tolist()]


def _read_whole(trained: TrainedModel, text: str) -> list[int]:
    read = read_prompt(trained, text)
    if read.notes:
        longest = trained.config.model.source_len
        raise UsageError(
            f"a state has more than the {longest} tokens that this model reads", "plan with less"
        )
    return read.ids


def distances_to(
    objective: JepalmObjective, states: LatentStates, goal: LatentStates, compared: Tensor | None = None
) -> list[float]:
    """The objective's distance of each state to one goal, mean over positions.

    A position that only one of the two has is compared with zeros; positions not compared add nothing.
    """
    width = max(goal.embeddings.shape[1], states.embeddings.shape[1])
    reached, aim = (_widened(part.embeddings.float(), width) for part in (states, goal))
    each = objective.distance(reached, aim.expand_as(reached))  # (B, T)
    lengths = states.lengths.maximum(goal.lengths)  # (B,)
    summed = torch.arange(width, device=lengths.device) < lengths[:, None]  # (B, T)
    if compared is not None:
        summed = summed & F.pad(compared[:width], (0, max(0, width - len(compared))), value=True)
    found: list[float] = ((each * summed).sum(1) / lengths).tolist()
    return found


def _followed(
    dynamics: Dynamics[S], start: S, found: SearchResult, texts: Callable[[S], TextStates]
) -> tuple[list[Sequence[int]], list[float]]:
    """Token ids of each state of a plan, and all distances, the start's first."""
    states, distances = start, dynamics.distances(start)
    rows: list[Sequence[int]] = []
    for number in found.actions:
        states = dynamics.follow(states, torch.tensor([0]), torch.tensor([number]))
        rows += texts(states)
        distances += dynamics.distances(states)
    return rows, distances


def _chunks(*columns: Tensor) -> Iterator[tuple[Tensor, ...]]:
    return zip(*(column.split(STATES_AT_ONCE) for column in columns), strict=True)


def _at(texts: Tokens, rows: Tensor) -> Tokens:
    return Tokens(texts.ids[rows], texts.lengths[rows])


def _widened(x: Tensor, width: int) -> Tensor:
    """(B, T, D) with zeros behind, up to `width` positions."""
    return F.pad(x, (0, 0, 0, width - x.shape[1]))


def _compared(rows: TextStates, compared: Tensor | None) -> list[tuple[int, ...]]:
    """Token ids at the positions that are compared, -1 at others; those beyond them all are."""
    if compared is None:
        return [tuple(row) for row in rows]
    dropped = {place for place, counts in enumerate(compared.tolist()) if not counts}
    return [tuple(-1 if place in dropped else token for place, token in enumerate(row)) for row in rows]
