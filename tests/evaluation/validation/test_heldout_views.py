"""Held-out figures of a causal model on pairs: views, straightness, exact match."""

import math

import pytest
import torch
import torch.nn.functional as F

from jepalm.config import from_mapping
from jepalm.data.batches import Batch, pad_rows
from jepalm.data.tokenizer import char_tokenizer
from jepalm.evaluation.validation.exact_match import MOST_PAIRS, exact_match, prompts, writes_token_by_token
from jepalm.evaluation.validation.held_out import HeldOut
from jepalm.evaluation.validation.views import view_metrics
from jepalm.objective.causal import CausalObjective
from jepalm.objective.tube import draw_triples

TOKENIZER, CPU = char_tokenizer(), torch.device("cpu")
TEXTS = [("one", "1"), ("two", "22"), ("thirteen", "13"), ("a dozen", "12"), ("twelve", "12"), ("six", "6")]


def pairs(texts, whole=True, action=None):
    sources, targets = ([TOKENIZER.encode(text[side]) for text in texts] for side in (0, 1))
    return Batch(
        pad_rows(sources, CPU),
        pad_rows(targets, CPU),
        None if action is None else pad_rows([TOKENIZER.encode(action)] * len(texts), CPU),
        n_pairs=len(texts),
        n_target_tokens=sum(map(len, targets)),
        n_read_tokens=sum(map(len, sources)),
        whole=torch.full((len(texts),), whole),
        n_whole=len(texts) * whole,
        n_with_three=len(texts),
    )


def build(**objective):
    causal = {"n_layers": 2, "context_len": 32}
    tree = {"model": {"family": "causal", "dim": 16, "n_heads": 2, "causal": causal}, "objective": objective}
    config = from_mapping(tree)
    torch.manual_seed(2)
    built = CausalObjective(config.model, config.objective, TOKENIZER.vocab_size).eval()
    for name, parameter in built.named_parameters():
        if "norm" not in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return built


def embedded(objective, text, *behind):
    ids = [*TOKENIZER.encode(text), *behind]
    return objective.model.double().hidden(torch.tensor([ids]))[0, -1].detach()


@torch.no_grad()
@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_figures_of_views_are_those_of_texts_read_alone(weight):
    objective = build(latent={"weight": weight})
    found = view_metrics(objective, [pairs(TEXTS[:4]), pairs(TEXTS[4:])])
    behind = [TOKENIZER.vocab_size] if weight else []
    predicted = torch.stack([embedded(objective, source, *behind) for source, _ in TEXTS])
    target = torch.stack([embedded(objective, target) for _, target in TEXTS])
    cosines = F.normalize(predicted, dim=-1) @ F.normalize(target, dim=-1).T
    n = len(TEXTS)
    paired = cosines.diagonal()
    gap = (paired - (cosines.sum(1) - paired) / (n - 1)).mean()
    right = sum(TEXTS[int(row.argmax())][1] == TEXTS[place][1] for place, row in enumerate(cosines))
    assert found["view_cosine"] == pytest.approx(float(paired.mean()), abs=1e-5)
    assert found["view_cosine_gap"] == pytest.approx(float(gap), abs=1e-5)
    assert found["view_retrieval"] == pytest.approx(right / n)
    assert found["view_retrieval_chance"] == pytest.approx((4 + 4) / n**2)  # one target occurs twice
    for key, rows in (("predicted_view_rank", predicted), ("view_rank", target)):
        shares = torch.linalg.svdvals(rows - rows.mean(0))
        shares = shares / shares.sum()
        expected = math.exp(-float(torch.special.xlogy(shares, shares).sum()))
        assert found[key] == pytest.approx(expected, rel=1e-3)
    assert ("latent" in found) is (weight > 0)
    if weight:
        assert found["latent"] == pytest.approx(float(1 - paired.mean()), abs=1e-5)


@torch.no_grad()
def test_a_pair_alone_has_no_strangers():
    assert "view_cosine_gap" not in view_metrics(build(), [pairs(TEXTS[:1])])


@torch.no_grad()
def test_the_loss_counts_each_term_as_often_as_training_does():
    objective = build(latent={"weight": 2.0, "dropout": 0.75}, tube={"weight": 0.5})
    values = HeldOut([pairs(TEXTS)], TOKENIZER, 0)(objective).values
    ce, latent, tube = (values[f"validation/{name}"] for name in ("next_token_ce", "latent", "tube_cosine"))
    assert values["validation/loss"] == pytest.approx(ce + 0.25 * 2 * latent + 0.5 * (1 - tube), rel=1e-6)


@torch.no_grad()
def test_straightness_is_the_same_at_every_call_and_that_of_the_texts():
    objective = build()
    held_out = HeldOut([pairs(TEXTS)], TOKENIZER, 0)
    found = [held_out(objective).values["validation/tube_cosine"] for _ in range(2)]
    assert found[0] == found[1]
    lengths = torch.tensor([len(source + target) + 1 for source, target in TEXTS])
    triples = draw_triples(lengths, torch.Generator().manual_seed(0)).tolist()
    cosines = []
    for (source, target), (s, r, t) in zip(TEXTS, triples, strict=True):
        states = objective.model.double().hidden(
            torch.tensor([[*TOKENIZER.encode(source), TOKENIZER.END, *TOKENIZER.encode(target)]])
        )[0]
        cosines.append(float(F.cosine_similarity(states[t] - states[r], states[r] - states[s], dim=0)))
    assert found[0] == pytest.approx(sum(cosines) / len(cosines), abs=1e-5)


def answers(right):
    """Writes the right target of these pairs, and a longer one of the others."""

    def write(batch):
        rows = [
            row[:n] for row, n in zip(batch.target.ids.tolist(), batch.target.lengths.tolist(), strict=True)
        ]
        return [row if place in right else [*row, 5] for place, row in enumerate(rows)]

    return write


def test_exact_match_is_the_share_of_targets_written_whole():
    assert exact_match([pairs(TEXTS)], answers({0, 4})) == pytest.approx(2 / 6)
    assert exact_match([pairs(TEXTS, whole=False)], answers({0, 4})) == 0
    assert exact_match([pairs(TEXTS)], lambda batch: [[] for _ in batch.target.lengths]) == 0


def test_exact_match_reads_few_pairs_spread_over_all():
    batches = [pairs(TEXTS[:2]) for _ in range(3 * MOST_PAIRS)]
    read = []
    exact_match(batches, lambda batch: read.append(batch) or answers(set())(batch))
    assert len(read) == MOST_PAIRS // 2
    large = [pairs(TEXTS * MOST_PAIRS)]
    sizes = []
    exact_match(large, lambda batch: sizes.append(len(batch.target.lengths)) or answers(set())(batch))
    assert sizes == [MOST_PAIRS]


@torch.no_grad()
def test_a_causal_model_is_right_only_where_it_stops():
    objective = build()
    (batch,) = [pairs([("one", "1")])]
    choose = {"token": 0}

    def always(hidden):
        logits = torch.zeros(*hidden.shape[:-1], TOKENIZER.vocab_size)
        logits[..., choose["token"]] = 1
        return logits

    objective.model.logits = always
    (choose["token"],) = TOKENIZER.encode("1")  # never ends: 1 1
    assert exact_match([batch], writes_token_by_token(objective)) == 0
    order = [*TOKENIZER.encode("1"), TOKENIZER.END]

    def in_order(hidden):
        choose["token"] = order.pop(0)
        return always(hidden)

    objective.model.logits = in_order
    assert exact_match([batch], writes_token_by_token(objective)) == 1


def test_a_prompt_is_source_then_action():
    read = prompts(pairs(TEXTS[:2], action="+"))
    assert [TOKENIZER.decode(row) for row in read.ids.tolist()] == ["one+", "two+"]
