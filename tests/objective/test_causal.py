"""The causal objective: which tokens are learned, and what they cost."""

import math

import pytest
import torch

from jepalm.config import from_mapping
from jepalm.data.batches import Batch, Tokens
from jepalm.data.tokenizer import TextTokenizer
from jepalm.objective import Scope
from jepalm.objective.causal import CausalObjective
from jepalm.objective.terms import IGNORE

VOCAB, END = 11, TextTokenizer.END


def build(loss_on="all", weight=1.0, weighting="fixed"):
    tree = {
        "model": {"family": "causal", "dim": 16, "n_heads": 2, "causal": {"n_layers": 2, "context_len": 16}},
        "objective": {"next_token": {"loss_on": loss_on, "weight": weight}, "weighting": weighting},
    }
    config = from_mapping(tree)
    torch.manual_seed(0)
    return CausalObjective(config.model, config.objective, VOCAB).eval()


def padded(rows, extra=0):
    lengths = torch.tensor([len(row) for row in rows])
    ids = torch.zeros(len(rows), int(lengths.max()) + extra, dtype=torch.long)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = torch.tensor(row)
    return Tokens(ids, lengths)


def pairs(sources, targets, actions=None, whole=None, extra=0):
    whole = [True] * len(targets) if whole is None else whole
    read = sources + (actions or [])
    return Batch(
        padded(sources, extra),
        padded(targets, extra),
        padded(actions, extra) if actions else None,
        n_pairs=len(sources),
        n_target_tokens=sum(map(len, targets)),
        n_read_tokens=sum(map(len, read)),
        whole=torch.tensor(whole),
        n_whole=sum(whole),
    )


def windows(rows):
    return Batch(
        padded([row[:1] for row in rows]),
        padded([row[1:] for row in rows]),
        None,
        n_pairs=len(rows),
        n_target_tokens=sum(len(row) - 1 for row in rows),
        n_read_tokens=len(rows),
        whole=None,
        n_whole=0,
    )


SOURCES, TARGETS = [[3, 4, 5], [6]], [[7, 8], [9, 10, 3, 4]]


def mean_nats(objective, texts, first_labels):
    """Mean of -log p(token | before) in float64, one text at a time, from the label at `first`."""
    model = objective.model.double()
    nats, count = 0.0, 0
    for text, first in zip(texts, first_labels, strict=True):
        probabilities = model(torch.tensor([text]))[0].log_softmax(-1)
        for place in range(first, len(text)):
            nats -= float(probabilities[place - 1, text[place]])
            count += 1
    objective.model.float()
    return nats / count


def test_loss_of_windows_is_the_mean_over_all_but_the_first_token():
    rows = [[3, 4, 5, 6, 7], [8, 9, 10, 3, 4]]
    objective = build()
    expected = mean_nats(objective, rows, [1, 1])
    losses = objective(windows(rows))
    assert float(losses.terms["next_token"]) == pytest.approx(expected, abs=1e-5)
    assert float(losses.total) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("loss_on", "first"), [("all", [1, 1]), ("target", [4, 2])])
def test_loss_of_pairs_is_that_of_source_target_end(loss_on, first):
    objective = build(loss_on)
    texts = [[*source, END, *target, END] for source, target in zip(SOURCES, TARGETS, strict=True)]
    expected = mean_nats(objective, texts, first)
    assert float(objective(pairs(SOURCES, TARGETS)).total) == pytest.approx(expected, abs=1e-5)


def test_source_action_and_target_are_each_closed_by_the_end():
    actions = [[10], [5, 5]]
    read = build("target").sequences(pairs(SOURCES, TARGETS, actions))
    assert read.ids.tolist()[0][:9] == [3, 4, 5, END, 10, END, 7, 8, END]
    assert read.labels.tolist()[0][:9] == [*[IGNORE] * 5, 7, 8, END, IGNORE]
    assert read.labels.tolist()[1][:10] == [*[IGNORE] * 4, 9, 10, 3, 4, END, IGNORE]


@pytest.mark.parametrize("loss_on", ["all", "target"])
def test_labels_counted_are_labels_learned(loss_on):
    objective = build(loss_on)
    batches = [pairs(SOURCES, TARGETS), pairs(SOURCES, TARGETS, [[10], [5, 5]], [True, False])]
    for batch in [*batches, windows([[3, 4, 5], [6, 7, 8]])]:
        read = objective.sequences(batch)
        assert int((read.labels != IGNORE).sum()) == read.n_labels


@pytest.mark.parametrize("loss_on", ["all", "target"])
def test_padding_never_changes_the_loss(loss_on):
    objective = build(loss_on)
    tight, loose = pairs(SOURCES, TARGETS), pairs(SOURCES, TARGETS, extra=3)
    assert float(objective(tight).total) == pytest.approx(float(objective(loose).total), abs=1e-6)


def test_a_target_that_was_cut_has_no_end_to_learn():
    labels = build().sequences(pairs(SOURCES, TARGETS, whole=[True, False])).labels
    assert (labels == END).sum(1).tolist() == [2, 1]  # the first closes the source


def test_micro_batches_add_up_to_the_loss_of_the_batch():
    objective = build()
    whole = pairs(SOURCES, TARGETS)
    total = 0.0
    for row in range(2):
        part = pairs(SOURCES[row : row + 1], TARGETS[row : row + 1])
        counts = {name: getattr(whole, name) for name in ("n_pairs", "n_target_tokens", "n_read_tokens")}
        part = Batch(part.source, part.target, None, **counts, whole=part.whole, n_whole=whole.n_whole)
        total += float(objective(part).total)
    assert total == pytest.approx(float(objective(whole).total), abs=1e-6)


def test_the_end_token_is_trained():
    objective = build("target").train()
    batch = pairs([[3, 4]], [[5, 6]])
    optimizer = torch.optim.AdamW(objective.parameters(), lr=1e-2)
    for _ in range(60):
        objective(batch).total.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert int(objective.model(torch.tensor([[3, 4, 5, 6]]))[0, -1].argmax()) == END


def test_the_weight_scales_the_total_and_not_the_term():
    plain, heavy = build()(pairs(SOURCES, TARGETS)), build(weight=2.5)(pairs(SOURCES, TARGETS))
    assert float(heavy.terms["next_token"]) == pytest.approx(float(plain.total))
    assert float(heavy.total) == pytest.approx(2.5 * float(plain.total))


def test_a_single_term_is_compared_with_nothing():
    objective = build()
    assert objective.term_names == list(objective(pairs(SOURCES, TARGETS)).terms)
    assert objective.encoder_parameters() == []


def test_weighting_is_not_ignored():
    objective = build(weighting="uncertainty")
    losses = objective(pairs(SOURCES, TARGETS))
    with torch.no_grad():
        objective.weighting.log_variances.fill_(math.log(4))
    weighed = objective(pairs(SOURCES, TARGETS))
    term = losses.terms["next_token"].item()
    assert losses.total.item() == term  # a cross-entropy at s = 0
    assert weighed.total.item() == pytest.approx(term / 4 + 0.5 * math.log(4), rel=1e-6)


def test_parts_that_stand_still_get_no_gradient():
    objective = build()
    objective.enter(Scope({"next_token": 1.0}, frozenset({"blocks"})))
    objective(pairs(SOURCES, TARGETS)).total.backward()
    learned = {name.split(".")[1] for name, p in objective.named_parameters() if p.grad is not None}
    assert learned == {"blocks"}
