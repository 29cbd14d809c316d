"""Gradients of each term: norms and cosines of gradients written down by hand."""

from pathlib import Path
from typing import Any

import pytest
import torch

from jepalm.objective.terms import Losses
from jepalm.training.checkpoint import MODEL, find_checkpoint
from jepalm.training.gradients import gradients_by_term, norms_and_cosines


@pytest.fixture
def parameters() -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(1))]


@pytest.fixture
def losses(parameters: list[torch.nn.Parameter]) -> Losses:
    pair, single = parameters
    terms = {
        "reconstruction": 3 * pair[0] + 4 * pair[1],  # (3, 4, 0), times 2
        "embedding": -pair[0] + single[0],  # (-1, 0, 1)
        "length": 0.0 * single[0],  # reaches it with nothing
        "generation": torch.tensor(5.0),  # without a graph
        "regularizer": torch.ones(1, requires_grad=True)[0],  # of something else
    }
    weights = {name: 2.0 if name == "reconstruction" else 1.0 for name in terms}
    return Losses(torch.tensor(0.0), terms, weights)


def test_gradients_are_those_of_the_weighted_terms(losses: Losses, parameters: list[torch.nn.Parameter]):
    found = {
        name: [None if gradient is None else gradient.tolist() for gradient in own]
        for name, own in gradients_by_term(losses, parameters).items()
    }
    assert found == {
        "reconstruction": [[6.0, 8.0], None],
        "embedding": [[-1.0, 0.0], [1.0]],
        "length": [None, [0.0]],
        "generation": [None, None],
        "regularizer": [None, None],
    }


def test_norms_are_euclidean_and_zero_where_nothing_flows(
    losses: Losses, parameters: list[torch.nn.Parameter]
):
    norms, _ = norms_and_cosines(gradients_by_term(losses, parameters))
    zero = dict.fromkeys(("length", "generation", "regularizer"), 0.0)
    assert norms == {"reconstruction": 10.0, "embedding": pytest.approx(2**0.5), **zero}


def test_only_pairs_that_both_reach_have_a_cosine(losses: Losses, parameters: list[torch.nn.Parameter]):
    _, cosines = norms_and_cosines(gradients_by_term(losses, parameters))
    # (6, 8, 0) . (-1, 0, 1) = -6, over 10 * sqrt(2).
    assert cosines == {("reconstruction", "embedding"): pytest.approx(-6 / (10 * 2**0.5))}


def test_parallel_and_opposite_gradients_of_any_length_have_cosines_of_one():
    row = torch.tensor([[3.0, -4.0], [1.0, 2.0]])
    _, cosines = norms_and_cosines({"a": [row], "b": [1e-9 * row], "c": [-7 * row]})
    expected = {("a", "b"): 1.0, ("a", "c"): -1.0, ("b", "c"): -1.0}
    assert cosines == pytest.approx(expected, rel=1e-6)


def test_gradients_on_different_parameters_are_at_a_right_angle():
    here = torch.ones(2)
    assert norms_and_cosines({"a": [here, None], "b": [None, here]})[1] == {("a", "b"): 0.0}


def test_train_rows_have_the_cosine_of_terms_that_both_reach_the_encoder(
    tmp_path: Path, train_tiny: Any, rows_of: Any
):
    run = train_tiny(tmp_path, training__steps=2, objective__embedding__detach_source="false")
    (row,) = rows_of(run)
    cosines = {key: value for key, value in row.items() if key.startswith("train/grad_cosine/")}
    assert list(cosines) == ["train/grad_cosine/reconstruction/embedding"]
    assert -1 <= cosines["train/grad_cosine/reconstruction/embedding"] <= 1


def test_measuring_at_intervals_or_never_changes_nothing_that_is_learned(
    tmp_path: Path, train_tiny: Any, rows_of: Any
):
    measured, weights = {}, []
    for every in (2, 4, 0):
        run = train_tiny(tmp_path, training__encoder_gradients_every=every, model__dropout=0.2)
        keys = [[key for key in row if "encoder" in key or "cosine" in key] for row in rows_of(run)]
        measured[every] = [row["step"] for row, found in zip(rows_of(run), keys, strict=True) if found]
        weights.append((find_checkpoint(run).path / MODEL).read_bytes())
    assert measured == {2: [2, 4, 6, 8], 4: [4, 8], 0: []}
    assert weights[0] == weights[1] == weights[2]
