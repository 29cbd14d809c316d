from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_objective import MODEL, VOCABULARY, assert_resuming_is_exact, split, tiny_batch, tiny_config

from jepalm.config import ModelConfig, ObjectiveConfig, UnmaskingConfig, from_mapping
from jepalm.data.batches import Batch
from jepalm.errors import UsageError
from jepalm.model.conditioning import Conditioning, Known
from jepalm.objective.jepalm import JepalmObjective
from jepalm.objective.terms import IGNORE, cross_entropy
from jepalm.objective.unmasking import draw_unmasked, hidden_weights, share_left

SETTINGS: dict[str, Any] = {"generation": {"weight": 1.0}, "length": {"kind": "none"}}


def built(*, unmasked: bool = True, packing: bool = False, **unmasking: float) -> JepalmObjective:
    torch.manual_seed(0)
    model = ModelConfig.model_validate({**MODEL, "predictor": {"n_layers": 1, "unmasked": unmasked}})
    settings = ObjectiveConfig.model_validate({**SETTINGS, "unmasking": unmasking})
    objective = JepalmObjective(model, settings, VOCABULARY, packing=packing)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return objective


def terms(objective: JepalmObjective, batch: Batch, seed: int = 3) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return objective(batch).terms


def test_a_text_costs_its_length_times_the_mean_over_its_hidden_tokens() -> None:
    logits = torch.log(
        torch.tensor([[[0.5, 0.5], [0.25, 0.75], [0.9, 0.1]], [[0.2, 0.8], [0.5, 0.5], [1, 1]]])
    )
    labels = torch.tensor([[0, 0, 0], [1, 1, IGNORE]])
    mask, unmasked = labels != IGNORE, torch.tensor([[True, False, False], [False, True, False]])
    weights = hidden_weights(mask, unmasked)
    assert weights.tolist() == [[0, 1.5, 1.5], [2, 0, 0]]
    nats = -(1.5 * torch.tensor([0.25, 0.9]).log().sum() + 2 * torch.tensor(0.8).log()) / 5
    assert cross_entropy(logits, labels, 5, weights).item() == pytest.approx(nats.item(), rel=1e-6)


def test_a_text_that_is_unmasked_whole_costs_nothing() -> None:
    objective, batch = built(share_from=1.0, share_to=1.0), tiny_batch()
    found = terms(objective, batch)
    assert (found["generation"].item(), found["embedding"].item()) == (0, 0)
    assert found["reconstruction"].item() > 0


def test_hidden_positions_weigh_one_where_nothing_is_unmasked() -> None:
    mask = tiny_batch().target.mask
    assert torch.equal(hidden_weights(mask, torch.zeros_like(mask)), mask.float())


def test_with_nothing_unmasked_the_terms_are_those_of_a_model_without_bit_for_bit() -> None:
    batch, plain = tiny_batch(), built(unmasked=False)
    unmasking = built(share_from=0.0, share_to=0.0)
    unmasking.load_state_dict(plain.state_dict(), strict=False)
    expected, found = terms(plain, batch), terms(unmasking, batch)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    with torch.no_grad():
        source, layout = plain.encode_source(batch.source)
        target = plain.layout(batch.target)
        known = Known(batch.target.ids, torch.zeros_like(batch.target.mask))
        conditioning = unmasking.predict(source, layout, target, Conditioning(known=known))
        assert torch.equal(conditioning[target.mask], plain.predict(source, layout, target)[target.mask])


def test_the_model_without_has_the_same_weights_as_ever() -> None:
    one, other = built(unmasked=False).state_dict(), built().state_dict()
    extra = {"model.predictor.unmasked.tokens.weight", "model.predictor.unmasked.mark"}
    assert other.keys() - one.keys() == extra


@pytest.fixture
def weighed(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """What the objective weighs positions by, pass after pass."""
    found: list[torch.Tensor] = []

    def noted(mask: torch.Tensor, unmasked: torch.Tensor) -> torch.Tensor:
        found.append(hidden_weights(mask, unmasked))
        return found[-1]

    monkeypatch.setattr("jepalm.objective.jepalm.hidden_weights", noted)
    return found


def test_evaluation_unmasks_nothing(weighed: list[torch.Tensor]) -> None:
    objective, batch = built().eval(), tiny_batch()
    objective(batch)
    assert not weighed
    objective.train()(batch)
    assert len(weighed) == 1


def test_packed_is_padded() -> None:
    batch = tiny_batch()
    packed, padded = (terms(built(packing=packing), batch) for packing in (True, False))
    for name, value in padded.items():
        assert packed[name].item() == pytest.approx(value.item(), rel=1e-5), name


def test_micro_batches_add_up_to_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    objective, batch = built(), tiny_batch()
    pattern = torch.tensor([[True, False, True, False, True, False, False, False, True, False]])

    def same(mask: torch.Tensor, *_: object) -> torch.Tensor:
        return pattern[:, : mask.shape[1]].expand_as(mask)

    monkeypatch.setattr("jepalm.objective.jepalm.draw_unmasked", same)
    whole = terms(objective, batch)
    parts = [terms(objective, part) for part in split(batch, 3, 5)]
    for name in ("embedding", "generation"):
        assert sum(part[name].item() for part in parts) == pytest.approx(whole[name].item(), rel=1e-5)


def test_what_is_unmasked_is_a_function_of_the_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODEL, "predictor", {"n_layers": 1, "unmasked": True})
    assert_resuming_is_exact(tmp_path, tiny_config(SETTINGS))


def test_hidden_spans_are_unmasked_too(train_tiny: Any, rows_of: Any, tmp_path: Path) -> None:
    run = train_tiny(
        tmp_path,
        data__name="spans",
        model__predictor__unmasked="true",
        objective__generation__weight=1,
        objective__length__kind="none",
        training__steps=2,
    )
    assert 0 < rows_of(run)[-1]["train/term/generation"] < 10


def test_the_unmasked_token_and_no_hidden_one_reaches_the_predictor() -> None:
    objective, batch = built().eval(), tiny_batch()
    source, layout = objective.encode_source(batch.source)
    target = objective.layout(batch.target)
    unmasked = torch.zeros_like(batch.target.mask)
    unmasked[:, 0] = True

    def predicted(ids: torch.Tensor) -> torch.Tensor:
        return objective.predict(source, layout, target, Conditioning(known=Known(ids, unmasked)))[0]

    ids = batch.target.ids
    hidden, seen = ids.clone(), ids.clone()
    hidden[0, 1], seen[0, 0] = ids[0, 1] % 19 + 1, ids[0, 0] % 19 + 1
    assert torch.equal(predicted(ids), predicted(hidden))
    assert not torch.allclose(predicted(ids)[1], predicted(seen)[1])  # a hidden position sees its neighbour


def test_all_numbers_of_unmasked_tokens_but_all_are_equally_likely() -> None:
    torch.manual_seed(0)
    mask = torch.tensor([[True] * 4 + [False]]).expand(40_000, -1)
    unmasked = draw_unmasked(mask, UnmaskingConfig())
    assert not unmasked[:, 4].any()
    numbers = torch.bincount(unmasked.sum(1), minlength=5) / len(mask)
    assert numbers.tolist() == pytest.approx([0.25, 0.25, 0.25, 0.25, 0], abs=0.01)  # 4.6 deviations
    assert unmasked[:, :4].float().mean(0).tolist() == pytest.approx([0.375] * 4, abs=0.012)


def test_a_prefix_is_the_first_tokens() -> None:
    torch.manual_seed(0)
    mask = torch.tensor([[True] * 8 + [False] * 2]).expand(200, -1)
    unmasked = draw_unmasked(mask, UnmaskingConfig(order="prefix"))
    assert torch.equal(unmasked, torch.arange(10) < unmasked.sum(1, keepdim=True))
    assert unmasked.sum(1).unique().tolist() == list(range(8))


def test_shares_fall_to_none_in_a_straight_line(weighed: list[torch.Tensor]) -> None:
    config = UnmaskingConfig(share_from=0.8, share_to=0.8, until=10)
    assert [share_left(config, step) for step in (0, 5, 10, 25)] == [1, 0.5, 0, 0]
    mask = torch.ones(4, 10, dtype=torch.bool)
    assert draw_unmasked(mask, config, torch.tensor(0.5)).sum(1).tolist() == [4] * 4
    objective, batch = built(share_from=0.8, share_to=0.8, until=10), tiny_batch()
    for step in (0, 10):
        objective.before_step(step)
        objective(batch)
    hidden = [int((weights > 0).sum()) for weights in weighed]
    assert hidden[0] < hidden[1] == batch.n_target_tokens


def test_a_share_bounds_what_is_unmasked() -> None:
    mask = torch.ones(500, 10, dtype=torch.bool)
    numbers = draw_unmasked(mask, UnmaskingConfig(share_from=0.3, share_to=0.6)).sum(1)
    assert (int(numbers.min()), int(numbers.max())) == (3, 5)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"objective": {"unmasking": {"share_to": 0.5}}}, "does nothing without model.predictor.unmasked"),
        ({"objective": {"unmasking": {"share_from": 0.8, "share_to": 0.5}}}, "share_from 0.8 is above"),
        (
            {"model": {"predictor": {"unmasked": True}, "latent": {"tokens": 4}}},
            "needs model.latent.tokens=1",
        ),
    ],
)
def test_settings_that_mean_nothing_are_refused(tree: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        from_mapping(tree)
