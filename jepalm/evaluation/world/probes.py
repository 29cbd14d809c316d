"""A linear probe of each fact: what the embeddings of next states hold, and what predictions of them hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from jepalm.data.worlds.base import AnyWorld, Kind
from jepalm.evaluation.answers.questions import Question
from jepalm.evaluation.rows import MetricRow
from jepalm.evaluation.world.action_model import ActionModel
from jepalm.evaluation.world.scores import Probe

LEAST_STATES = 20
"""Training states that say a fact, for a probe of it."""
_KINDS: tuple[Kind, ...] = ("changing", "still", "random")


def probe_rows(
    model: ActionModel, world: AnyWorld, training: Sequence[Question], held: Sequence[Question]
) -> list[MetricRow]:
    """Accuracy on held-out states of probes of each fact, by the kind of fact.

    A probe reads the mean embedding of a state. It learns from target embeddings of training states, and is
    read on target and predicted embeddings of held-out ones.
    """
    learned, _ = model.means(training)
    target, predicted = model.means(held)
    known = [world.facts(world.parse(one.gold)) for one in training]
    conditioning = [world.facts(world.parse(one.gold)) for one in held]
    right: Counter[tuple[str, Kind]] = Counter()
    for name in sorted({name for facts in conditioning for name in facts}):
        rows = [place for place, facts in enumerate(known) if name in facts]
        where = [place for place, facts in enumerate(conditioning) if name in facts]
        if len(rows) < LEAST_STATES:
            continue
        probe = Probe(learned[rows], [known[place][name].value for place in rows])
        truth = np.array([conditioning[place][name].value for place in where])
        kind = conditioning[where[0]][name].kind
        right["n", kind] += len(where)
        right["target", kind] += int((probe(target[where]) == truth).sum())
        right["predicted", kind] += int((probe(predicted[where]) == truth).sum())
        right["majority", kind] += int((truth == probe.majority).sum())
    return [
        MetricRow(
            f"probe/{which}_{kind}",
            {"model": right[which, kind] / right["n", kind]},
            controls={"the most frequent training value": right["majority", kind] / right["n", kind]},
        )
        for kind in _KINDS
        if right["n", kind]
        for which in ("target", "predicted")
    ]
