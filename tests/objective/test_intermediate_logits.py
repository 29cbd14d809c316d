"""The predictor's intermediate logits and its noise: what is told to whom, and what learns."""

from typing import Any

import pytest
import torch
from tiny_objective import MODEL, VOCABULARY, split, terms_and_gradients

from jepalm.config import ModelConfig, ObjectiveConfig, from_mapping
from jepalm.data.batches import Batch, Tokens
from jepalm.errors import UsageError
from jepalm.model.causal import CausalLM
from jepalm.model.conditioning import Conditioning, Known
from jepalm.model.noise import draw_gumbel
from jepalm.objective.base import Scope
from jepalm.objective.coupling import Coupled
from jepalm.objective.jepalm import JepalmObjective

CAUSAL = {"dim": 16, "n_heads": 2, "ffn_mult": 2, "causal": {"n_layers": 2, "context_len": 32}}
SETTINGS: dict[str, Any] = {
    "generation": {"weight": 1.0},
    "intermediate_logits": {"weight": 0.5},
    "length": {"kind": "none"},
}
TAUGHT = {"teacher": "any", "teacher_share": 0.5}


def teacher(**changed: Any) -> CausalLM:
    torch.manual_seed(5)
    model = CausalLM(ModelConfig.model_validate({**CAUSAL, **changed}), VOCABULARY)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8)
    return model


def built(
    *,
    packing: bool = False,
    encoder: Any = None,
    coupling: Any = None,
    settings: Any = None,
    **predictor: Any,
) -> JepalmObjective:
    torch.manual_seed(0)
    own = {"n_layers": 2, "intermediate_logits": True, "noise": "gumbel", **predictor}
    tree = {**MODEL, "predictor": own, "encoder": encoder or {"n_layers": 2}}
    given = {**SETTINGS, **(settings or {}), "coupling": coupling or {}}
    model, objective = ModelConfig.model_validate(tree), ObjectiveConfig.model_validate(given)
    made = JepalmObjective(model, objective, VOCABULARY, packing=packing)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    if coupling:
        made.couple(teacher())
    return made


def windows(n: int = 8) -> Batch:
    generator = torch.Generator().manual_seed(1)
    views = [torch.randint(3, VOCABULARY, (n, width), generator=generator) for width in (12, 10)]
    source, target = (Tokens(ids, torch.full((n,), ids.shape[1])) for ids in views)
    return Batch(source, target, None, n, 10 * n)


def noise_of(n: int = 8) -> torch.Tensor:
    return draw_gumbel((n, 10, VOCABULARY), generator=torch.Generator().manual_seed(7))


def predicted(
    objective: JepalmObjective, noise: torch.Tensor | None, known: Known | None = None
) -> torch.Tensor:
    batch = windows()
    source, layout = objective.encode_source(batch.source)
    target = objective.layout(batch.target)
    with torch.no_grad():
        return target.pad(objective.predict(source, layout, target, Conditioning(known=known, noise=noise)))


def test_there_are_logits_before_each_layer_and_after_the_last() -> None:
    views = built().encode_and_predict(windows(), noise=noise_of())
    assert [intermediate.shape for intermediate in views.intermediate_logits] == [(8, 10, VOCABULARY)] * 3


def test_the_term_is_the_mean_cross_entropy_of_the_intermediate_logits() -> None:
    objective, batch = built().eval(), windows()
    views = objective.encode_and_predict(batch)
    by_hand = torch.stack(
        [intermediate.double().log_softmax(-1) for intermediate in views.intermediate_logits]
    )  # (3, B, T, V)
    right = by_hand.gather(-1, batch.target.ids.expand(3, -1, -1)[..., None])
    assert objective(batch).terms["intermediate_logits"].item() == pytest.approx(
        -right.mean().item(), rel=1e-5
    )


def test_noise_is_added_to_the_logits_times_a_sharpness_that_starts_at_one() -> None:
    torch.manual_seed(0)
    fresh = JepalmObjective(
        ModelConfig.model_validate({**MODEL, "predictor": {"intermediate_logits": True, "noise": "gumbel"}}),
        ObjectiveConfig(),
        VOCABULARY,
    )
    intermediate_logits, noise = fresh.model.predictor.intermediate_logits, noise_of()
    assert intermediate_logits is not None
    x = torch.randn(8, 10, 16)
    logits = intermediate_logits.head(intermediate_logits.norm(x))
    assert torch.allclose(intermediate_logits(x, noise), logits + noise, atol=1e-5)
    assert intermediate_logits.sharpness is not None
    torch.nn.init.constant_(intermediate_logits.sharpness.bias, 3.0)
    sharp = torch.nn.functional.softplus(torch.tensor(3.0))
    assert torch.allclose(intermediate_logits(x, noise), sharp * (logits + noise), atol=1e-4)


def test_the_prediction_for_a_position_is_fed_to_the_next_alone() -> None:
    intermediate_logits = built().model.predictor.intermediate_logits
    assert intermediate_logits is not None
    layout = built().layout(windows().target)
    probabilities = torch.zeros(8, 10, VOCABULARY)
    probabilities[:, 3, 7] = 1
    first = torch.randn(8, 1, 16)
    fed = intermediate_logits.feedback(probabilities, first, layout)
    assert torch.equal(fed[:, 4], intermediate_logits.token_vectors.weight[:, 7].expand(8, -1))
    assert torch.equal(fed[:, :1], first)
    assert fed[:, [1, 2, 3, *range(5, 10)]].abs().max() == 0


def test_an_unmasked_token_is_fed_as_if_it_were_predicted_with_probability_1() -> None:
    intermediate_logits, layout = (
        built().model.predictor.intermediate_logits,
        built().layout(windows().target),
    )
    assert intermediate_logits is not None
    unmasked = torch.zeros(8, 10, dtype=torch.bool)
    unmasked[:, 2] = True
    ids = windows().target.ids
    given = torch.randn(8, 10, VOCABULARY).softmax(-1)
    probabilities = intermediate_logits.with_known(given, Known(ids, unmasked), layout)
    assert torch.equal(probabilities[:, 2], torch.nn.functional.one_hot(ids[:, 2], VOCABULARY).float())
    assert (probabilities[:, 3] < 1).all()


def test_a_causal_predictor_knows_nothing_of_later_noise() -> None:
    objective, noise = built(), noise_of()
    other = noise.clone()
    other[:, 6] += 1
    one, changed = predicted(objective, noise), predicted(objective, other)
    assert torch.equal(one[:, :6], changed[:, :6])
    assert not torch.allclose(one[:, 6:], changed[:, 6:])


def test_the_first_position_is_fed_the_sources_last_embedding() -> None:
    intermediate_logits, batch = built().model.predictor.intermediate_logits, make_ragged()
    assert intermediate_logits is not None
    source = torch.randn(3, 5, 16)
    layout = built().layout(batch)
    found = intermediate_logits.start(source, layout)
    expected = intermediate_logits.from_source(torch.stack((source[0, 4], source[1, 0], source[2, 2])))
    assert torch.equal(found, expected[:, None])


def make_ragged() -> Tokens:
    return Tokens(torch.ones(3, 5, dtype=torch.long), torch.tensor([5, 1, 3]))


def test_an_unmasked_token_is_fed_to_the_positions_after_it_alone_and_all_are_learned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    objective, noise = built(unmasked=True), noise_of()
    assert objective.model.predictor.unmasked is None  # no weight more
    monkeypatch.setattr("jepalm.objective.jepalm.hidden_weights", lambda *_: pytest.fail("not all count"))
    objective.train()(windows())
    ids, unmasked = windows().target.ids, torch.zeros(8, 10, dtype=torch.bool)
    unmasked[:, 4] = True
    other = ids.clone()
    other[:, 4] = ids[:, 4] % 16 + 3
    one, changed = (predicted(objective, noise, Known(row, unmasked)) for row in (ids, other))
    assert torch.equal(one[:, :5], changed[:, :5])
    assert not torch.allclose(one[:, 5], changed[:, 5])


def test_no_noise_is_noise_of_zero() -> None:
    objective = built()
    assert torch.equal(predicted(objective, None), predicted(objective, torch.zeros_like(noise_of())))


def test_a_predictor_that_reads_no_noise_ignores_it() -> None:
    objective = built(noise="none")
    assert torch.equal(predicted(objective, None), predicted(objective, noise_of()))


@pytest.mark.parametrize("encoder", ["bidirectional", "causal"])
@pytest.mark.parametrize("noise", ["gumbel", "none"])
def test_packed_is_padded(encoder: str, noise: str) -> None:
    kinds: dict[str, Any] = {"encoder": {"kind": encoder, "n_layers": 2}, "coupling": TAUGHT, "noise": noise}
    packed, padded = (
        terms_and_gradients(built(packing=packing, **kinds), windows()) for packing in (True, False)
    )
    for found, expected in zip(packed, padded, strict=True):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert torch.allclose(found[name], value, rtol=1e-3, atol=1e-5), name


def test_the_batch_is_coupled_by_the_seed() -> None:
    objective, batch = built(coupling=TAUGHT), windows()
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        assert objective.coupling is not None
        drawn.append(objective.coupling.couple(batch))
    (one, noise), (same, same_noise), (other, other_noise) = ((found.batch, found.noise) for found in drawn)
    assert torch.equal(one.target.ids, same.target.ids)
    assert torch.equal(noise, same_noise)
    assert not torch.equal(noise, other_noise)
    assert torch.equal(one.target.ids[4:], batch.target.ids[4:])  # the data's half
    assert not torch.equal(one.target.ids[:4], other.target.ids[:4])  # the teacher's half
    log_p, states = objective.coupling.teacher.read(batch.source.ids, one.target.ids)
    assert torch.allclose(drawn[0].states, states, atol=1e-3)
    assert torch.equal((log_p + noise).argmax(-1), one.target.ids)


def test_at_lower_temperatures_the_teacher_writes_by_scaled_noise() -> None:
    objective, batch = built(coupling={**TAUGHT, "teacher_share": 1.0, "temperature_from": 0.0}), windows()
    torch.manual_seed(0)
    assert objective.coupling is not None
    found = objective.coupling.couple(batch)
    written = found.batch.target.ids
    log_p, _ = objective.coupling.teacher.read(batch.source.ids, written)
    assert torch.equal((log_p + found.noise).argmax(-1), written)
    spread = found.noise.flatten(1).std(1) / 1.2825  # of a standard Gumbel pi / sqrt(6)
    assert spread.min() < 0.5
    assert spread.max() < 1.15


def test_micro_batches_add_up_to_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    batch, noise = windows(), noise_of()

    def same(part: Batch) -> Coupled:
        first = int((batch.target.ids[:, 0] == part.target.ids[0, 0]).nonzero()[0])
        return Coupled(part, noise[first : first + len(part.target.ids)], torch.empty(0))

    batch.target.ids[:, 0] = torch.arange(3, 11)
    monkeypatch.setattr("jepalm.objective.coupling.Coupling.couple", lambda _, part: same(part))
    objective = built(coupling=TAUGHT)
    whole = objective(batch).terms
    parts = [objective(part).terms for part in split(batch, 3, 5)]
    for name, value in whole.items():
        assert sum(part[name].item() for part in parts) == pytest.approx(value.item(), rel=1e-5), name


def test_gradients_reach_the_intermediate_logits_from_the_text_alone_and_never_the_teacher() -> None:
    objective = built(
        coupling=TAUGHT, settings={"intermediate_logits": {"weight": 0.0}, "embedding": {"weight": 0.0}}
    )
    _, gradients = terms_and_gradients(objective, windows())
    reached = {name for name, gradient in gradients.items() if gradient.abs().max() > 0}
    parts = {"from_source", "norm", "head", "token_vectors", "to_embedding", "noise", "sharpness"}
    assert {name.split(".")[3] for name in reached if ".intermediate_logits." in name} == parts
    assert objective.coupling is not None
    assert not any(p.requires_grad for p in objective.coupling.teacher.model.parameters())
    assert not [name for name in objective.state_dict() if "teacher" in name or "coupling" in name]


def test_validation_is_not_written_by_the_teacher() -> None:
    objective, batch = built(coupling=TAUGHT).eval(), windows()
    torch.manual_seed(0)
    one = objective(batch).terms
    torch.manual_seed(1)
    assert all(torch.equal(value, one[name]) for name, value in objective(batch).terms.items())


def test_a_causal_encoder_begins_as_the_teachers_and_intermediate_logits_with_its_table() -> None:
    objective, source = built(coupling=TAUGHT, encoder={"kind": "causal", "n_layers": 2}), windows().source
    with torch.no_grad():
        states = teacher().hidden(source.ids)
        found = objective.model.encoder(source.ids, objective.source_layout(source))
    expected = torch.nn.functional.layer_norm(states, (16,))
    assert torch.equal(found, expected)
    intermediate_logits, table = objective.model.predictor.intermediate_logits, teacher().tokens.weight
    assert intermediate_logits is not None
    assert torch.equal(intermediate_logits.head.weight, table)
    assert torch.allclose(intermediate_logits.token_vectors.weight / 0.5, table.T / table.std())


def test_states_that_the_teacher_made_are_those_of_a_causal_encoder_that_stands_still() -> None:
    objective = built(coupling=TAUGHT, encoder={"kind": "causal", "n_layers": 2}, packing=True)
    parts = frozenset({"predictor", "decoder"})
    alone, _ = terms_and_gradients(objective, windows())
    objective.enter(Scope(dict.fromkeys(objective.all_terms, 1.0), parts))
    calls: list[int] = []
    causal_encoder = objective.model.encoder.causal_encoder
    assert causal_encoder is not None
    causal_encoder.register_forward_hook(lambda *_: calls.append(1))
    objective.before_step(0)
    torch.manual_seed(0)
    together = objective(windows()).terms
    assert len(calls) == 1  # of the targets
    for name, value in together.items():
        assert value.item() == pytest.approx(alone[name].item(), rel=1e-4), name
    with torch.no_grad():
        causal_encoder.lm.norm.weight.add_(1)  # as a phase before would
    objective.enter(Scope(dict.fromkeys(objective.all_terms, 1.0), parts))
    objective.before_step(1)
    objective(windows())
    assert len(calls) == 3  # and of the sources


def test_a_causal_encoder_of_other_sizes_is_refused_with_the_right_ones() -> None:
    with pytest.raises(UsageError, match="needs the sizes of its teacher") as raised:
        built(coupling=TAUGHT, encoder={"kind": "causal", "n_layers": 3})
    assert raised.value.hint is not None
    assert "model.encoder.n_layers=2" in raised.value.hint


def test_a_model_without_intermediate_logits_has_the_same_weights_as_ever() -> None:
    torch.manual_seed(0)
    plain = JepalmObjective(ModelConfig.model_validate(MODEL), ObjectiveConfig(), VOCABULARY).state_dict()
    assert not [name for name in plain if "intermediate_logits" in name or "causal_encoder" in name]


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"model": {"predictor": {"noise": "gumbel"}}}, "needs model.predictor.intermediate_logits=true"),
        (
            {"model": {"predictor": {"noise": "gumbel", "intermediate_logits": True}}},
            "noise=gumbel needs objective.coupling.teacher",
        ),
        (
            {"model": {"predictor": {"intermediate_logits": True}, "latent": {"tokens": 2}}},
            "needs model.latent.tokens=1",
        ),
        (
            {"model": {"predictor": {"intermediate_logits": True}, "source_positions": "aligned"}},
            "needs model.source_positions=before",
        ),
        (
            {"objective": {"intermediate_logits": {"weight": 1}}},
            "nothing without model.predictor.intermediate_logits=true",
        ),
        (
            {"objective": {"coupling": {"teacher_share": 0.5}}},
            "teacher_share does nothing without objective.coupling",
        ),
        (
            {"objective": {"coupling": {"teacher": "a", "temperature_from": 0.5}}},
            "temperature_from does nothing with teacher_share=0",
        ),
        (
            {"model": {"family": "causal"}, "objective": {"coupling": {"teacher": "a"}}},
            "objective.coupling does nothing with model.family=causal",
        ),
    ],
)
def test_settings_that_mean_nothing_are_refused(tree: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        from_mapping(tree)
