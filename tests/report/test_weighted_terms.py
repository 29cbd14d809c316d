"""Weights, their limits and the cosines between gradients, and the verdicts that speak of them."""

import math

import pytest
import torch
from synthetic_run import laboratory_rows, phase_event, term, train_row

from jepalm.config import Config, ModelConfig, ObjectiveConfig
from jepalm.objective.jepalm import JepalmObjective
from jepalm.objective.terms import loss_terms
from jepalm.objective.weighting import build_weighting
from jepalm.report.analysis.phases import stable_phase
from jepalm.report.analysis.weighted_terms import (
    encoder_share,
    gradient_cosines,
    weight_limits,
    weights_move,
    why_no_cosines,
)
from jepalm.report.plots.run import optimisation
from jepalm.report.read import read_run
from jepalm.report.rules.verdicts import verdicts

TERMS = ("reconstruction", "embedding", "length")


def config(**objective):
    tree = Config().model_dump()
    for key, value in objective.items():
        tree["objective"][key] = {**tree["objective"][key], **value} if isinstance(value, dict) else value
    return tree


def measured(folder):
    record = read_run(folder)
    found = verdicts(record, stable_phase(record))
    return {verdict.code: (verdict.level, verdict.text) for verdict in found}


def rows_of(every=10, **values):
    """Rows whose keys have the given values, one a row; `__` stands for a slash."""
    n = len(next(iter(values.values())))
    return [
        {"kind": "train", "step": every * (k + 1)}
        | {f"train/{key.replace('__', '/')}": value[k] for key, value in values.items()}
        for k in range(n)
    ]


@pytest.mark.parametrize("kind", ["mse", "classification"])
def test_limits_of_uncertainty_are_the_weights_at_both_ends_of_its_clamp(make_run, kind):
    weights = {"generation": {"weight": 0.5}, "local": {"weight": 2.0}, "regularizer": {"kind": "vicreg"}}
    tree = config(
        weighting="uncertainty", uncertainty={"clamp": 2.5}, length={"kind": kind, "weight": 3.0}, **weights
    )
    small = {part: {"n_layers": 1} for part in ("encoder", "predictor", "decoder")}
    model = ModelConfig(dim=8, n_heads=1, source_len=4, target_len=4, **small)
    objective = JepalmObjective(model, ObjectiveConfig(**tree["objective"]), 5)
    in_nats = {"reconstruction", "generation", "local", *(["length"] if kind == "classification" else [])}
    described = [
        term(name, nats=name in in_nats, constant=name == "regularizer") for name in objective.term_names
    ]
    balanced = [name for name in objective.term_names if name != "regularizer"]
    assert len(balanced) == 5
    rows = [{"kind": "train", "step": 5, **{f"train/term/{name}": 1.0 for name in objective.term_names}}]
    limits = weight_limits(read_run(make_run(rows, config=tree, terms=described)))
    for place, s in enumerate((2.5, -2.5)):
        torch.nn.init.constant_(objective.weighting.log_variances, s)
        ones = {name: torch.ones(()) for name in objective.term_names}
        expected = objective.weighting(ones, 1.0).weights
        found = {term: limits[term][place].value for term in limits}
        assert found == pytest.approx({term: float(expected[term]) for term in balanced})


def test_the_last_phase_may_replace_the_weight_that_is_limited(make_run):
    tree = config(weighting="ema", ema={"floor": 0.01})
    tree["training"]["phases"] = [
        {"name": "a", "terms": ["reconstruction"]},
        {"name": "b", "terms": {"length": 5.0}},
    ]
    rows = [phase_event(0, "a", 0), train_row(25), phase_event(25, "b", 1), train_row(50)]
    limits = weight_limits(read_run(make_run(rows, config=tree)))
    assert {name: limit.value for name, (limit,) in limits.items()} == {"length": 500.0}


def test_limit_of_a_running_mean_is_the_weight_of_a_term_that_is_zero(make_run):
    tree = config(weighting="ema", ema={"floor": 0.02}, length={"weight": 3.0})
    objective = ObjectiveConfig(**tree["objective"])
    terms = [one for one in loss_terms("jepalm", objective) if one.name == "length"]
    weighting = build_weighting(objective, terms, {"length": 3.0})
    weighting.begin(torch.zeros(1))
    (limit,) = weight_limits(read_run(make_run([train_row(25)], config=tree)))["length"]
    assert limit.value == pytest.approx(float(weighting({"length": torch.ones(())}, 1.0).weights["length"]))
    assert (limit.value, limit.name, limit.setting) == (150.0, "floor", "objective.ema.floor")


@pytest.mark.parametrize(
    ("objective", "limited"),
    [
        ({}, set()),
        ({"weighting": "uncertainty", "uncertainty": {"clamp": None}}, set()),
        ({"weighting": "ema"}, set(TERMS)),
        ({"weighting": "ema", "length": {"weight": 0.0}}, {"reconstruction", "embedding"}),
    ],
)
def test_only_weightings_with_a_limit_have_one(make_run, objective, limited):
    assert set(weight_limits(read_run(make_run([train_row(25)], config=config(**objective))))) == limited


def test_weights_move_under_any_weighting_and_where_a_fixed_one_changes(make_run):
    still, moved = rows_of(weight__length=[1.0, 1.0]), rows_of(weight__length=[1.0, 0.0])
    for row in still + moved:
        row["train/term/length"] = 1.0
    assert not weights_move(read_run(make_run(still)))
    assert weights_move(read_run(make_run(moved, name="b")))
    assert weights_move(read_run(make_run(still, name="c", config=config(weighting="ema"))))


def test_a_weight_at_its_clamp_is_told_with_its_first_step(make_run):
    # exp(4) = 54.6; 53 is within 5 % of it, 40 is not.
    rows = rows_of(term__reconstruction=[1.0] * 6, weight__reconstruction=[1, 54.6, 40, 54.6, 53, 54.6])
    level, text = measured(make_run(rows, config=config(weighting="uncertainty")))["at-limit"]
    assert level == "warning"
    assert "the weight of reconstruction sits at its clamp, 54.6, since step 40" in text


def test_a_weight_that_left_its_clamp_is_not_told(make_run):
    rows = rows_of(term__reconstruction=[1.0] * 4, weight__reconstruction=[54.6, 54.6, 54.6, 40])
    assert "at-limit" not in measured(make_run(rows, config=config(weighting="uncertainty")))


def test_a_weight_at_a_floor_is_a_note(make_run):
    rows = rows_of(term__length=[1.0] * 4, weight__length=[2, 1e4, 1.02e4, 1e4])
    level, text = measured(make_run(rows, config=config(weighting="ema", ema={"floor": 1e-4})))["at-limit"]
    assert level == "note"
    assert "objective.ema.floor sets it" in text


def test_a_muted_term_is_under_a_hundredth_at_most_log_points(make_run):
    rows = rows_of(share__length=[0.005, 0.008, 0.009, 0.2], share__embedding=[0.9, 0.9, 0.9, 0.8])
    level, text = measured(make_run(rows))["muted"]
    assert level == "warning"
    assert "length is muted: under 1.0 % of the train loss at 75.0 % of the log points" in text
    even = rows_of(share__length=[0.005, 0.008, 0.2, 0.2], share__embedding=[0.9, 0.9, 0.8, 0.8])
    assert "muted" not in measured(make_run(even, name="b"))


def test_a_silent_term_is_not_called_muted_too(make_run):
    rows = rows_of(share__length=[0.0] * 4, share__embedding=[1.0] * 4)
    assert "muted" not in measured(make_run(rows))


def test_log_points_at_which_a_term_does_not_count_do_not_mute_it(make_run):
    rows = rows_of(
        term__length=[1.0] * 5,
        share__length=[0.0, 0.0, 0.0, 0.3, 0.3],
        share__embedding=[1.0, 1.0, 1.0, 0.7, 0.7],
        weight__length=[0.0, 0.0, 0.0, 1.0, 1.0],
    )
    assert "muted" not in measured(make_run(rows))


def test_a_contrastive_distance_is_a_cross_entropy_whose_clamp_is_not_halved(make_run):
    tree = config(weighting="uncertainty", uncertainty={"clamp": 1.0})
    tree["objective"]["latent"] = {"weight": 2.0, "distance": "infonce"}
    rows = rows_of(term__latent=[1.0])
    described = [term("latent", "nats a pair", nats=True)]
    limits = weight_limits(read_run(make_run(rows, config=tree, terms=described)))
    assert [limit.value for limit in limits["latent"]] == pytest.approx([2 / math.e, 2 * math.e])
    assert weight_limits(read_run(make_run(rows, config=tree, name="old", terms=...))) == {}


def test_gradients_that_were_logged_at_few_log_points_are_read_from_these(make_run):
    rows = [train_row(25 * k) for k in range(1, 9)]
    for point in rows:
        del point["train/grad_norm_encoder/reconstruction"]
    for point in rows[::4]:
        point |= {"train/grad_norm_encoder/length": 0.5, "train/grad_norm_encoder/embedding": 1.5}
        point["train/grad_cosine/embedding/length"] = -0.2
    record = read_run(make_run(rows))
    assert gradient_cosines(record)["embedding", "length"].step.tolist() == [25, 125]
    assert encoder_share(record, "embedding") == 0.75
    assert optimisation(record).svg.count(">embedding<") == 1


def test_cosines_keep_the_order_in_which_they_were_logged(make_run):
    row = {"kind": "train", "step": 5, "train/grad_cosine/reconstruction/length": -0.5, "train/loss": 1.0}
    row["train/grad_cosine/embedding/length"] = 0.5
    found = gradient_cosines(read_run(make_run([row])))
    assert list(found) == [("reconstruction", "length"), ("embedding", "length")]
    assert found["embedding", "length"].last == 0.5


@pytest.mark.parametrize(("median", "opposed"), [(-0.11, True), (-0.09, False)])
def test_terms_oppose_each_other_by_the_median_of_their_cosines(make_run, median, opposed):
    values = [0.9, 0.9, median, -1.0, -1.0]
    found = measured(make_run(rows_of(grad_cosine__reconstruction__embedding=values)))
    assert ("opposed" in found) == opposed
    if opposed:
        assert (
            "reconstruction and embedding oppose each other on the encoder: median cosine -0.110"
            in (found["opposed"][1])
        )


def test_four_cosines_are_too_few_for_a_verdict(make_run):
    assert "opposed" not in measured(make_run(rows_of(grad_cosine__a__b=[-1.0] * 4)))


@pytest.mark.parametrize(
    ("norms", "words"),
    [
        ({}, "recorded no gradient of single terms"),
        ({"length": 0.0}, "No term's gradient reaches the encoder"),
        ({"reconstruction": 0.1, "length": 0.0}, "Only reconstruction has a gradient on the encoder"),
        ({"reconstruction": 0.1, "length": 0.1}, "recorded no cosines"),
    ],
)
def test_a_run_without_cosines_says_why(make_run, norms, words):
    row = {f"train/grad_norm_encoder/{term}": value for term, value in norms.items()}
    assert words in why_no_cosines(read_run(make_run([{"kind": "train", "step": 5, **row}])))


def test_the_laboratory_s_run_gets_its_verdicts(make_run):
    folder = make_run(laboratory_rows(2000), config=config(weighting="uncertainty"))
    _, text = measured(folder)["at-limit"]
    assert "since step 800" in text  # exp(4) is reached at 4 * 200 steps; 5 % under it from 3.95 * 200 on
    assert math.exp(775 / 200) < 0.95 * math.exp(4) <= math.exp(800 / 200)
    assert "median cosine -0.300 of their gradients (train, 80 log points)" in measured(folder)["opposed"][1]
