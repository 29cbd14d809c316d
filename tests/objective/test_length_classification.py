import math
from dataclasses import replace

import pytest
import torch
from tiny_objective import TARGET_LEN, split, tiny_batch, tiny_objective
from torch import nn

from jepalm.data.batches import Batch, Tokens
from jepalm.data.tokenizer import SPECIALS
from jepalm.evaluation.validation.jepalm import measure
from jepalm.generation.one_pass import generate
from jepalm.objective.jepalm import JepalmObjective

CLASSES = {"length": {"kind": "classification"}}


def fix_probabilities(objective: JepalmObjective, probabilities: dict[int, float]) -> None:
    """Make the length head say the same of every source."""
    assert objective.model.length is not None
    out = objective.model.length.out
    nn.init.zeros_(out.weight)
    logits = torch.full((TARGET_LEN + 1,), -1e4)
    for length, chance in probabilities.items():
        logits[length] = math.log(chance)
    with torch.no_grad():
        out.bias.copy_(logits)


def of_lengths(batch: Batch, *lengths: int) -> Batch:
    target = replace(batch.target, lengths=torch.tensor(lengths))
    return replace(batch, target=target, n_pairs=len(lengths), n_target_tokens=sum(lengths))


def test_the_head_has_a_bin_for_every_length_from_zero() -> None:
    objective = tiny_objective(CLASSES)
    views = objective.encode_and_predict(tiny_batch())
    assert views.length_logits is not None
    assert views.length_logits.shape == (8, TARGET_LEN + 1)


def test_the_term_is_the_cross_entropy_in_nats_a_pair() -> None:
    objective, batch = tiny_objective(CLASSES), of_lengths(tiny_batch(n_pairs=2), 3, 10)
    fix_probabilities(objective, {3: 0.5, 4: 0.25, 10: 0.25})
    term = objective(batch).terms["length"].item()
    assert term == pytest.approx((math.log(2) + math.log(4)) / 2)


def test_the_term_of_micro_batches_adds_up() -> None:
    objective, batch = tiny_objective(CLASSES), tiny_batch()
    whole = objective(batch).terms["length"]
    torch.testing.assert_close(sum(objective(part).terms["length"] for part in split(batch, 3, 5)), whole)


@pytest.mark.parametrize(("detach", "flows"), [(True, False), (False, True)])
def test_detach_source_stops_its_gradient_at_the_encoder(detach: bool, flows: bool) -> None:
    objective = tiny_objective({"length": {"kind": "classification", "detach_source": detach}})
    term = objective(tiny_batch()).terms["length"]
    (gradient,) = torch.autograd.grad(term, [objective.model.encoder.tokens.weight], allow_unused=True)
    assert (gradient is not None) == flows


def test_held_out_errors_are_of_the_expected_length_and_accuracy_of_the_likeliest() -> None:
    objective, batch = tiny_objective(CLASSES), of_lengths(tiny_batch(n_pairs=2), 3, 6)
    fix_probabilities(objective, {3: 0.75, 7: 0.25})  # expected 4, likeliest 3
    with torch.no_grad():
        found = measure(objective.eval(), [of_lengths(batch, 3, 7)])
    assert found["validation/length_mae"] == pytest.approx(2.0)
    assert found["validation/length_mse"] == pytest.approx(5.0)
    assert found["validation/length_accuracy"] == 0.5
    assert found["validation/length_ce"] == pytest.approx((math.log(4 / 3) + math.log(4)) / 2)


def test_the_expected_length_is_not_rounded_in_half_precision() -> None:
    objective = tiny_objective(CLASSES)
    fix_probabilities(objective, {9: 0.7, 10: 0.3})
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        lengths = objective.encode_and_predict(tiny_batch()).lengths
    assert lengths is not None
    assert lengths[0].item() == pytest.approx(9.3, abs=0.005)  # logits alone are rounded


def test_the_held_out_loss_counts_the_cross_entropy() -> None:
    objective, batch = tiny_objective(CLASSES), of_lengths(tiny_batch(n_pairs=2), 3, 10)
    fix_probabilities(objective, {3: 0.5, 10: 0.5})
    with torch.no_grad():
        found = measure(objective.eval(), [batch])
        expected = objective(batch).total.item()
    assert found["validation/loss"] == pytest.approx(expected, rel=1e-5)


def test_likely_lengths_are_in_order_of_chance_and_leave_zero_out() -> None:
    objective = tiny_objective(CLASSES)
    fix_probabilities(objective, {0: 0.4, 5: 0.3, 2: 0.2, 9: 0.1})
    source, layout = objective.encode_source(tiny_batch().source)
    likely = objective.likely_lengths(source, layout, 3)
    assert likely is not None
    assert likely[0].tolist() == [5, 2, 9]


def test_likely_lengths_of_a_squared_error_head_are_the_nearest_whole_numbers() -> None:
    objective = tiny_objective()
    assert objective.model.length is not None
    nn.init.zeros_(objective.model.length.out.weight)
    nn.init.constant_(objective.model.length.out.bias, 4.3)
    source, layout = objective.encode_source(tiny_batch().source)
    likely = objective.likely_lengths(source, layout, 4)
    assert likely is not None
    assert likely[0].tolist() == [4, 5, 3, 6]


@pytest.mark.parametrize("packing", [False, True])
def test_generation_keeps_the_length_the_decoder_is_surest_of(packing: bool) -> None:
    objective = tiny_objective(CLASSES, packing=packing).eval()
    nn.init.normal_(objective.model.predictor.project.weight)  # untrained, it predicts zeros
    nn.init.normal_(objective.model.decoder.vocabulary.weight)
    fix_probabilities(objective, {2: 0.5, 4: 0.3, 7: 0.2})
    source = tiny_batch().source
    chosen = generate(objective, source, length_candidates=3)

    def confidence(length: int) -> torch.Tensor:
        embeddings, layout = objective.encode_source(source)
        target = objective.layout(Tokens(torch.zeros(8, length, dtype=torch.long), torch.full((8,), length)))
        logits = objective.model.decoder(objective.predict(embeddings, layout, target), target)
        logits[..., : len(SPECIALS)] = float("-inf")
        return logits.log_softmax(-1).amax(-1).view(8, length).mean(1)

    with torch.no_grad():
        scores = torch.stack([confidence(length) for length in (2, 4, 7)], 1)
    expected = torch.tensor([2, 4, 7])[scores.argmax(1)]
    assert chosen.lengths.tolist() == expected.tolist()
    assert len(set(expected.tolist())) > 1


def test_a_candidate_is_written_as_if_its_length_had_been_asked_for() -> None:
    objective = tiny_objective(CLASSES).eval()
    nn.init.normal_(objective.model.predictor.project.weight)
    fix_probabilities(objective, {2: 0.5, 4: 0.3, 7: 0.2})
    source = tiny_batch().source
    chosen = generate(objective, source, length_candidates=3)
    for place, (length, row) in enumerate(zip(chosen.lengths.tolist(), chosen.rows(), strict=True)):
        assert generate(objective, source, length=length).rows()[place] == row


def test_one_candidate_is_the_likeliest_length() -> None:
    objective = tiny_objective(CLASSES).eval()
    fix_probabilities(objective, {6: 0.4, 8: 0.6})
    assert set(generate(objective, tiny_batch().source).lengths.tolist()) == {8}
