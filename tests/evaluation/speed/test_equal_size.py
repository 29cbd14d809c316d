"""A model of the other family with as many parameters: depths worked out by hand."""

import pytest
import torch

from jepalm.config import from_mapping, resolve
from jepalm.evaluation.speed.equal_size import build_untrained, counterpart, depth_of
from jepalm.hardware import Hardware
from jepalm.model.jepalm import JEPALM

CPU = Hardware(torch.device("cpu"), "fp32", 1, False, "auto", False, "")
VOCABULARY = 100


def causal_parameters(layers, dim=256, inner=928):
    """Attention 4 D^2, gated feed-forward 3 D I, two norms; a tied table and the last norm."""
    return layers * (4 * dim**2 + 3 * dim * inner + 2 * dim) + VOCABULARY * dim + dim


def test_the_references_counterpart_has_ten_layers():
    own = resolve("shakespeare").model
    found = counterpart(own, 10_102_785, VOCABULARY, 128)
    assert (found.family, found.causal.n_layers, found.causal.context_len) == ("causal", 10, 128)
    assert (found.dim, found.n_heads, found.ffn_mult) == (own.dim, own.n_heads, own.ffn_mult)
    size = sum(build_untrained(found, VOCABULARY, CPU).model.parameters_by_part().values())
    assert size == causal_parameters(10) == 9_779_456


@pytest.mark.parametrize(("near", "layers"), [(7, 7), (7.4, 7), (7.6, 8), (0.1, 1)])
def test_the_nearest_depth_is_taken(near, layers):
    asked = round(causal_parameters(1) + (near - 1) * (causal_parameters(2) - causal_parameters(1)))
    found = counterpart(resolve("shakespeare").model, max(1, asked), VOCABULARY, 128)
    assert found.causal.n_layers == layers


@pytest.mark.parametrize(("near", "layers"), [(1, (1, 1, 1)), (5, (2, 2, 1)), (7, (2, 3, 2))])
def test_a_causal_models_counterpart_shares_its_layers_out(near, layers):
    sizes = {"family": "causal", "dim": 16, "n_heads": 2, "ffn_mult": 2, "causal": {"n_layers": 9}}
    own = from_mapping({"model": sizes}).model
    parts = {
        part: {"n_layers": n} for part, n in zip(("encoder", "predictor", "decoder"), layers, strict=True)
    }
    exact = from_mapping({"model": {"dim": 16, "n_heads": 2, "ffn_mult": 2, **parts}}).model
    size = sum(JEPALM(exact, VOCABULARY, length_head=True).parameters_by_part().values())
    found = counterpart(own, size if near > 1 else 1, VOCABULARY, 0)
    assert depth_of(found) == "{} + {} + {} layers".format(*layers)


def test_drawing_the_weights_leaves_other_random_numbers_alone():
    own = from_mapping({"model": {"dim": 16, "n_heads": 2}}).model
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    build_untrained(counterpart(own, 1, VOCABULARY, 8), VOCABULARY, CPU)
    assert torch.equal(torch.rand(3), expected)
