"""The latent and tube terms of the causal objective."""

import math
import os
from dataclasses import replace

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from pydantic import ValidationError

from jepalm.config import from_mapping
from jepalm.data.batches import Batch, pad_rows
from jepalm.data.tokenizer import TextTokenizer
from jepalm.errors import UsageError
from jepalm.hardware import Hardware
from jepalm.objective.base import Scope
from jepalm.objective.causal import CausalObjective
from jepalm.objective.latent import counts_at, infonce, latent_distance
from jepalm.training.distributed import Processes, WholeModel, leave_group

VOCAB, CPU = 11, torch.device("cpu")
SOURCES, TARGETS = [[3, 4, 5], [6], [7, 7, 8, 9], [10, 3]], [[7, 8], [9, 10, 3, 4], [5], [6, 6, 6]]


def build(packing=False, tube=0.0, seed=0, **latent):
    tree = {
        "model": {"family": "causal", "dim": 16, "n_heads": 2, "causal": {"n_layers": 2, "context_len": 16}},
        "objective": {"latent": {"weight": 1.0, **latent}, "tube": {"weight": tube}},
    }
    config = from_mapping(tree)
    torch.manual_seed(seed)
    built = CausalObjective(config.model, config.objective, VOCAB, packing=packing).eval()
    for name, parameter in built.named_parameters():
        if "norm" not in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return built


def pairs(rows=slice(None), sources=SOURCES, targets=TARGETS):
    """A micro batch of some pairs, with the counts of all."""
    lengths = [len(source) + len(target) for source, target in zip(sources, targets, strict=True)]
    return Batch(
        pad_rows(sources[rows], CPU),
        pad_rows(targets[rows], CPU),
        None,
        n_pairs=len(sources),
        n_target_tokens=sum(map(len, targets)),
        n_read_tokens=sum(map(len, sources)),
        whole=torch.ones(len(sources[rows]), dtype=torch.bool),
        n_whole=len(sources),
        n_with_three=sum(length + 1 >= 3 for length in lengths),
    )


def alone(model, row):
    """States (T, D) of one text in float64."""
    return model.double().hidden(torch.tensor([row]))[0].detach()


def expected_embeddings(objective, pooling="last", reverse=False):
    """Predicted and target embeddings, each text read on its own in float64."""
    model = objective.model
    predictor = list(range(VOCAB, VOCAB + model.n_predictor_tokens))
    first, second = (TARGETS, SOURCES) if reverse else (SOURCES, TARGETS)

    def embed(model, row):
        states = alone(model, row)
        return states[-1] if pooling == "last" else states.mean(0)

    predicted = torch.stack([embed(model, row + predictor) for row in first])
    if model.predictor is not None:
        predicted = predicted @ model.predictor.weight.T
    reader = model if objective.average is None else objective.average.encoder
    target = torch.stack([embed(reader, row) for row in second])
    objective.float()
    return predicted, target


A, B = torch.tensor([[3.0, 4.0], [1.0, 0.0]]), torch.tensor([[4.0, 3.0], [0.0, 2.0]])


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("cosine", [1 - 24 / 25, 1.0]),
        ("mse", [(1 + 1) / 2, (1 + 4) / 2]),
        ("l2", [math.sqrt(2), math.sqrt(5)]),
    ],
)
def test_distances_by_hand(kind, expected):
    assert latent_distance(A, B, kind).tolist() == pytest.approx(expected)


def test_infonce_by_hand():
    # cosines: (24/25, 4/5) and (4/5, 0)
    def nats(own, other):
        return -math.log(math.exp(own / 0.5) / (math.exp(own / 0.5) + math.exp(other / 0.5)))

    assert infonce(A, B, 0.5).tolist() == pytest.approx([nats(0.96, 0.8), nats(0.0, 0.8)], rel=1e-5)


SETTINGS = [
    {},
    {"predictor_tokens": 0},
    {"predictor_tokens": 3, "reverse": True},
    {"distance": "mse"},
    {"distance": "l2", "predictor": "linear"},
    {"distance": "infonce", "temperature": 0.2},
    {"pooling": "mean"},
    {"target": "ema"},
    {"target": "ema", "pooling": "mean", "reverse": True},
]


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_term_is_that_of_views_read_alone_in_float64(settings, packing):
    objective = build(packing, **settings)
    embeddings = expected_embeddings(objective, settings.get("pooling", "last"), settings.get("reverse"))
    kind, temperature = settings.get("distance", "cosine"), settings.get("temperature", 0.07)
    expected = float(latent_distance(*embeddings, kind, temperature).mean())
    losses = objective(pairs())
    assert list(losses.terms) == ["next_token", "latent"]
    assert float(losses.terms["latent"]) == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize("packing", [False, True])
def test_the_cross_entropy_is_that_of_a_model_without_the_term(packing):
    plain, both = build(packing, weight=0.0, tube=0.0), build(packing, tube=0.1)
    both.model.load_state_dict(plain.model.state_dict(), strict=False)
    own, other = plain(pairs()), both(pairs())
    assert list(other.terms) == ["next_token", "latent", "tube"]
    assert float(own.total) == pytest.approx(float(other.terms["next_token"]), abs=1e-6)


def test_the_linear_predictor_starts_as_the_identity():
    tree = {"model": {"family": "causal", "dim": 16, "n_heads": 2}}
    config = from_mapping({**tree, "objective": {"latent": {"weight": 1.0, "predictor": "linear"}}})
    built = CausalObjective(config.model, config.objective, VOCAB)
    assert torch.equal(built.model.predictor.weight, torch.eye(16))


def latent_gradients(objective):
    objective(pairs()).terms["latent"].backward()
    return {name: p.grad for name, p in objective.model.named_parameters() if p.grad is not None}


def test_both_views_learn_unless_the_target_is_stopped_or_averaged():
    fixed = torch.randn(4, 16, generator=torch.Generator().manual_seed(0))
    for settings, both in (({}, True), ({"stop_gradient": True}, False), ({"target": "ema"}, False)):
        objective = build(**settings)
        views = objective.views(pairs())
        hidden = objective.model.hidden(views.ids, segments=views.segments)
        predicted, target = objective.embeddings(pairs(), views, hidden)
        assert predicted.requires_grad
        assert (target * fixed).sum().requires_grad is both


def test_the_average_follows_the_model_and_no_gradient_reaches_it():
    objective = build(target="ema", ema_start=0.9)
    gradients = latent_gradients(objective)
    assert gradients
    assert all(p.grad is None for p in objective.average.parameters())
    before = objective.average.encoder.tokens.weight.clone()
    objective.after_step(1, 10)  # momentum 0.9 after the first step
    expected = 0.9 * before + 0.1 * objective.model.tokens.weight
    torch.testing.assert_close(objective.average.encoder.tokens.weight, expected)


@pytest.mark.parametrize("settings", [{}, {"tube": 0.5}])
def test_micro_batches_add_up_to_the_batch(settings):
    objective = build(**settings)

    def terms(batches):
        torch.manual_seed(1)
        found = [objective(batch).terms for batch in batches]
        return {name: sum(float(term[name].detach()) for term in found) for name in found[0]}

    whole, parts = terms([pairs()]), terms([pairs(slice(0, 1)), pairs(slice(1, 4))])
    assert parts == pytest.approx(whole, abs=1e-5)


def test_infonce_of_micro_batches_has_the_negatives_of_each():
    objective = build(distance="infonce")
    single = objective(pairs(slice(0, 1))).terms["latent"]
    assert float(single) == pytest.approx(0.0, abs=1e-6)  # nothing to mistake it for


def calls_of_the_model(objective, batch):
    """Rows that each call of the model reads."""
    rows, plain = [], objective.model.hidden
    objective.model.hidden = lambda ids, *rest, **named: rows.append(len(ids)) or plain(ids, *rest, **named)
    losses = objective(batch)
    del objective.model.hidden
    return rows, losses


def test_one_call_reads_texts_and_views_and_a_dropped_term_computes_no_view():
    objective = build(dropout=0.5).train()
    seen = set()
    for step in range(12):
        objective.before_step(step)
        rows, losses = calls_of_the_model(objective, pairs())
        counted = counts_at(step, 0.5, torch.initial_seed())
        assert rows == ([8] if counted else [4])
        assert list(losses.terms) == (["next_token", "latent"] if counted else ["next_token"])
        assert objective.left_out == (() if counted else ("latent",))
        seen.add(counted)
    assert seen == {True, False}


def test_dropout_is_a_function_of_seed_and_step_with_its_share():
    dropped = [not counts_at(step, 0.75, 3) for step in range(1, 2001)]
    assert dropped == [not counts_at(step, 0.75, 3) for step in range(1, 2001)]
    assert sum(dropped) / 2000 == pytest.approx(0.75, abs=0.04)
    assert dropped != [not counts_at(step, 0.75, 4) for step in range(1, 2001)]
    assert counts_at(0, 0.99, 3)


@pytest.mark.parametrize(("rescale", "weight"), [(False, 2.0), (True, 8.0)])
def test_rescaling_keeps_the_mean_weight(rescale, weight):
    objective = build(weight=2.0, dropout=0.75, rescale=rescale)
    losses = objective(pairs())
    assert losses.weights["latent"] == weight
    assert objective.probability("latent") == 0.25
    expected = losses.terms["next_token"] + weight * losses.terms["latent"]
    assert float(losses.total) == pytest.approx(float(expected), rel=1e-6)


def test_a_phase_of_the_latent_term_alone_never_drops_it():
    objective = build(dropout=0.9)
    objective.enter(Scope({"latent": 1.0}, frozenset(objective.model.parameters_by_part())))
    for step in range(20):
        objective.before_step(step)
        assert list(objective(pairs()).terms) == ["latent"]


def test_tube_term_is_the_mean_over_texts():
    sources, targets = [[3, 4, 5], [6], [7, 8]], [[9, 10], [4], [3]]
    objective = build(weight=0.0, tube=0.02)
    torch.manual_seed(5)
    losses = objective(pairs(sources=sources, targets=targets))
    torch.manual_seed(5)
    from jepalm.objective.tube import draw_triples

    triples = draw_triples(torch.tensor([6, 3, 4])).tolist()
    costs = []
    for source, target, (s, r, t) in zip(sources, targets, triples, strict=True):
        states = alone(objective.model, [*source, TextTokenizer.END, *target])
        cosine = torch.nn.functional.cosine_similarity(states[t] - states[r], states[r] - states[s], dim=0)
        costs.append(1 - float(cosine))
    assert float(losses.terms["tube"]) == pytest.approx(sum(costs) / 3, abs=1e-5)
    assert losses.weights["tube"] == 0.02


def test_tube_reads_windows():
    objective = build(weight=0.0, tube=0.02)
    batch = pairs(sources=[[3], [4]], targets=[[5, 6, 7], [8, 9, 10]])
    losses = objective(replace(batch, whole=None, n_whole=0))
    assert 0 <= float(losses.terms["tube"]) <= 2


def test_end_and_padding_are_in_no_view_and_no_triple():
    objective = build(tube=0.1)
    read, views = objective.sequences(pairs()), objective.views(pairs())
    assert read.lengths.tolist() == [6, 6, 6, 6]
    text = torch.arange(views.ids.shape[1]) < views.end[:, None]
    assert TextTokenizer.END not in views.ids[text].tolist()
    assert views.end.tolist() == [6, 6, 6, 6]


def test_dropout_goes_with_fixed_weighting_only():
    tree = {"model": {"family": "causal"}, "objective": {"weighting": "ema", "latent": {"dropout": 0.5}}}
    with pytest.raises((UsageError, ValidationError), match=r"objective\.latent\.dropout does not go with"):
        from_mapping(tree)


@pytest.mark.parametrize("section", ["latent", "tube"])
def test_the_other_family_refuses_the_terms(section):
    with pytest.raises(UsageError, match=f"objective.{section} does nothing with model.family=jepalm"):
        from_mapping({"objective": {section: {"weight": 1.0}}})


def gradients_of_a_process(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    together = Processes(rank, 2)
    objective = build(distance="infonce", dropout=0.5).train()
    hardware = Hardware(CPU, "fp32", 1, False, "auto", False, "cpu")
    model = WholeModel(objective, hardware, together).wrapped(partial=objective.may_leave_out)
    found = {}
    for step, counted in ((0, True), (dropped_step(), False)):
        objective.before_step(step)
        total = model(pairs(slice(2 * rank, 2 * rank + 2))).total
        (total * 2).backward()
        found[counted] = {n: p.grad.clone() for n, p in objective.named_parameters() if p.grad is not None}
        found[counted]["loss"] = together.sum(total.detach().clone())
        objective.zero_grad(set_to_none=True)
    if rank == 0:
        torch.save(found, os.path.join(folder, "gradients.pt"))
    leave_group()


def dropped_step():
    return next(step for step in range(100) if not counts_at(step, 0.5, 0))


@pytest.mark.distributed
def test_two_processes_find_their_targets_among_those_of_both(tmp_path):
    mp.spawn(gradients_of_a_process, (str(tmp_path),), nprocs=2)
    found = torch.load(tmp_path / "gradients.pt", weights_only=True)
    objective = build(distance="infonce", dropout=0.5).train()
    for step, counted in ((0, True), (dropped_step(), False)):
        objective.before_step(step)
        losses = objective(pairs())
        losses.total.backward()
        torch.testing.assert_close(found[counted]["loss"], losses.total.detach(), rtol=1e-5, atol=1e-5)
        own = {name: p.grad for name, p in objective.named_parameters() if p.grad is not None}
        assert own.keys() == found[counted].keys() - {"loss"}
        for name, gradient in own.items():
            torch.testing.assert_close(found[counted][name], gradient, rtol=1e-3, atol=1e-5, msg=name)
        objective.zero_grad(set_to_none=True)
