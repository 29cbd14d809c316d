"""Search for the actions that lead from a state to a goal, in what a model predicts.

`exhaustive` follows every sequence of actions, breadth first; where these are more than the budget, states
that read the same are followed once. `cem` is the cross-entropy method (Rubinstein 1999, "The cross-entropy
method for combinatorial and continuous optimization"): it draws sequences of actions, and draws the next ones
like the best of these.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

import torch
from torch import Tensor

S = TypeVar("S")
Search = Literal["auto", "exhaustive", "cem"]

STATES_AT_ONCE = 1024
"""Most that are held before those that read like earlier ones are dropped."""
ROUNDS = 8
ELITE_SHARE = 0.1
KEPT = 0.3
"""Share of the probabilities of one round that stays in the next."""


class Dynamics(Protocol[S]):
    """A model of a world with numbered actions, and how far its states are from a goal."""

    n_actions: int

    def follow(self, states: S, rows: Tensor, actions: Tensor) -> S:
        """The states after an action (N,) on each of the states at some rows (N,)."""

    def distances(self, states: S) -> list[float]:
        """Distance of each state to the goal."""

    def names(self, states: S) -> Sequence[Hashable]:
        """What each state reads as: states of the same name are one."""

    def keep(self, states: S, rows: Tensor) -> S:
        """The states at some rows (N,)."""


@dataclass(frozen=True)
class SearchResult:
    """The best sequence that a search met.

    Attributes:
        actions: their numbers; none where no action leads nearer than the start.
        distance: of the state after the last of them to the goal.
        n_predicted: states predicted on the way.
        complete: whether every sequence up to the horizon was followed.
        merged: whether states that read the same were followed once.
    """

    actions: tuple[int, ...]
    distance: float
    n_predicted: int
    complete: bool
    merged: bool = False


def search(
    dynamics: Dynamics[S],
    start: S,
    horizon: int,
    *,
    kind: Search = "auto",
    budget: int = 10_000,
    seed: int = 0,
) -> SearchResult:
    """Find the sequence of at most `horizon` actions that ends nearest to the goal.

    Args:
        dynamics: the model, its actions and the goal.
        start: one state.
        horizon: most actions.
        kind: `auto` searches exhaustively, and goes on with `cem` where the budget ends first.
        budget: most states to predict with each kind.
        seed: of the draws of `cem`.
    """
    if kind == "cem":
        return cem(dynamics, start, horizon, budget=budget, seed=seed)
    found = exhaustive(dynamics, start, horizon, budget=budget)
    if kind == "exhaustive" or found.complete:
        return found
    drawn = cem(dynamics, start, horizon, budget=budget, seed=seed)
    best = drawn if drawn.distance < found.distance else found
    n_predicted = found.n_predicted + drawn.n_predicted
    return SearchResult(best.actions, best.distance, n_predicted, complete=False, merged=found.merged)


def exhaustive(dynamics: Dynamics[S], start: S, horizon: int, *, budget: int = 10_000) -> SearchResult:
    """Follow all actions from all states while the budget lasts; merge states where it would not.

    Two embeddings may read the same and one of them lead further: merging is exact as far as the model is. Of
    equally near states the one that takes fewest actions is chosen.
    """
    merged = sum(dynamics.n_actions**depth for depth in range(1, horizon + 1)) > budget
    best: tuple[int, ...] = ()
    (nearest,) = dynamics.distances(start)
    met = set(dynamics.names(start)) if merged else None
    layer, n_predicted = [(start, [best])], 0
    for depth in range(1, horizon + 1):
        n = sum(len(paths) for _, paths in layer) * dynamics.n_actions
        if n_predicted + n > budget:
            return SearchResult(best, nearest, n_predicted, complete=False, merged=merged)
        n_predicted += n
        following = []
        for part in layer:
            for states, paths in _fresh(dynamics, *part, met):
                for path, distance in zip(paths, dynamics.distances(states), strict=True):
                    if distance < nearest:
                        best, nearest = path, distance
                if depth < horizon:
                    following.append((states, paths))
        layer = following
    return SearchResult(best, nearest, n_predicted, complete=True, merged=merged)


def _fresh(
    dynamics: Dynamics[S], states: S, paths: list[tuple[int, ...]], met: set[Hashable] | None
) -> Iterator[tuple[S, list[tuple[int, ...]]]]:
    """States one action further, part by part, and the paths to them.

    With `met`, the names of earlier states, only states of other names, which are added to it.
    """
    for numbers in torch.arange(len(paths) * dynamics.n_actions).split(STATES_AT_ONCE):
        rows, actions = numbers // dynamics.n_actions, numbers % dynamics.n_actions  # (N,), (N,)
        reached = dynamics.follow(states, rows, actions)
        fresh = list(range(len(numbers)))
        if met is not None:
            places: dict[Hashable, int] = {}
            for place, name in enumerate(dynamics.names(reached)):
                places.setdefault(name, place)
            fresh = [place for name, place in places.items() if name not in met]
            met.update(places)
        if fresh:
            found = [(*paths[int(rows[place])], int(actions[place])) for place in fresh]
            yield dynamics.keep(reached, torch.tensor(fresh)), found


def cem(
    dynamics: Dynamics[S], start: S, horizon: int, *, budget: int = 10_000, seed: int = 0
) -> SearchResult:
    """The cross-entropy method over sequences of actions; each counts where it comes nearest to the goal.

    Actions at one place of a sequence are drawn independently of those at others. From the elite's actions up
    to their nearest state come the probabilities of the next round.
    """
    n_drawn = max(2, budget // (ROUNDS * horizon))
    n_elite = max(1, round(ELITE_SHARE * n_drawn))
    generator = torch.Generator().manual_seed(seed)
    probabilities = torch.full((horizon, dynamics.n_actions), 1 / dynamics.n_actions)
    (nearest,) = dynamics.distances(start)
    best: tuple[int, ...] = ()
    for _ in range(ROUNDS):
        drawn = torch.multinomial(probabilities, n_drawn, replacement=True, generator=generator).T  # (N, H)
        states, rows, distances = start, torch.zeros(n_drawn, dtype=torch.long), []
        for actions in drawn.T:
            states = dynamics.follow(states, rows, actions)
            rows = torch.arange(n_drawn)
            distances.append(torch.tensor(dynamics.distances(states), dtype=torch.float64))
        distance, ends = torch.stack(distances, 1).min(1)  # (N,), (N,): the first of equals
        elite = distance.argsort(stable=True)[:n_elite]
        if float(distance[elite[0]]) < nearest:
            nearest = float(distance[elite[0]])
            best = tuple(drawn[elite[0], : int(ends[elite[0]]) + 1].tolist())
        counts = torch.zeros_like(probabilities)
        for row, end in zip(drawn[elite].tolist(), ends[elite].tolist(), strict=True):
            for place in range(end + 1):
                counts[place, row[place]] += 1
        seen = counts.sum(1, keepdim=True)  # (H, 1); nothing is learned of places beyond every end
        learned = torch.where(seen > 0, counts / seen.clamp(min=1), probabilities)
        probabilities = KEPT * probabilities + (1 - KEPT) * learned
    return SearchResult(best, nearest, ROUNDS * n_drawn * horizon, complete=False)
