"""Sources that end in a passage which the model has just written."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_objective import MODEL, VOCABULARY

from jepalm.config import ModelConfig, ObjectiveConfig, from_mapping
from jepalm.data.batches import Batch, Tokens
from jepalm.errors import UsageError
from jepalm.generation.one_pass import generate
from jepalm.model.causal_lm import CausalLM
from jepalm.objective.coupling import Coupled, Coupling
from jepalm.objective.jepalm import JepalmObjective
from jepalm.objective.own_text import with_own_text, with_passages, writer_sources

SOURCE, TARGET = 12, 5
OWN = torch.tensor([1, 3])


def built(*, packing: bool = False, **model: Any) -> JepalmObjective:
    torch.manual_seed(0)
    sizes = ModelConfig.model_validate({**MODEL, "target_len": TARGET, **model})
    settings = ObjectiveConfig.model_validate(
        {"length": {"kind": "none"}, "generation": {"weight": 1.0}, "embedding": {"detach_source": False}}
    )
    objective = JepalmObjective(sizes, settings, VOCABULARY, packing=packing)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return objective.train()


def text(width: int, seed: int) -> Tokens:
    ids = torch.randint(3, VOCABULARY, (4, width), generator=torch.Generator().manual_seed(seed))
    return Tokens(ids, torch.full((4,), width))


def batch() -> Batch:
    found = Batch(text(SOURCE, 1), text(TARGET, 2), None, 4, 4 * TARGET)
    return replace(found, earlier=text(TARGET, 3), own=OWN)


def test_the_writer_reads_as_much_as_a_source_from_further_back():
    given = batch()
    assert given.earlier is not None
    read = writer_sources(given.source, given.earlier, OWN)
    assert read.lengths.tolist() == [SOURCE, SOURCE]
    for row, own in enumerate(OWN.tolist()):
        before, source = given.earlier.ids[own].tolist(), given.source.ids[own].tolist()
        assert read.ids[row].tolist() == before + source[: SOURCE - TARGET]


def test_a_passage_takes_the_place_of_a_sources_last_tokens():
    passages = torch.full((2, TARGET), 19)
    given = batch()
    found = with_passages(given.source, OWN, passages)
    for row in range(4):
        kept = given.source.ids[row].tolist()
        expected = kept[:-TARGET] + [19] * TARGET if row in OWN.tolist() else kept
        assert found.ids[row].tolist() == expected


def test_a_passage_longer_than_a_source_leaves_its_own_end():
    source = Tokens(torch.zeros(1, 3, dtype=torch.long), torch.tensor([3]))
    found = with_passages(source, torch.tensor([0]), torch.tensor([[1, 2, 3, 4]]))
    assert found.ids.tolist() == [[2, 3, 4]]


@pytest.mark.parametrize("packing", [True, False])
def test_the_passage_is_what_the_model_writes_at_temperature_1_without_dropout(packing: bool):
    objective, given = built(packing=packing, dropout=0.5), batch()
    assert given.earlier is not None
    torch.manual_seed(7)
    found = with_own_text(objective, given)
    assert objective.training
    objective.eval()
    read = writer_sources(given.source, given.earlier, OWN)
    torch.manual_seed(7)
    written = generate(objective, read, temperature=1.0)
    assert torch.equal(found.source.ids[OWN][:, -TARGET:], written.ids)
    assert torch.equal(found.source.ids[[0, 2]], given.source.ids[[0, 2]])
    assert torch.equal(found.target.ids, given.target.ids)


@pytest.mark.parametrize("noise", [{"noise": "gaussian"}, {"noise": "gumbel", "intermediate_logits": True}])
def test_a_predictor_with_noise_draws_it(noise: dict[str, Any]):
    objective = built(predictor={"n_layers": 1, **noise})
    drawn = []
    for seed in (7, 7, 8):
        torch.manual_seed(seed)
        drawn.append(with_own_text(objective, batch()).source.ids)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_the_terms_are_those_of_the_changed_sources():
    objective, given = built(), batch()
    torch.manual_seed(7)
    changed = replace(with_own_text(objective, given), earlier=None, own=None)
    torch.manual_seed(7)
    found, expected = objective(given).terms, objective(changed).terms
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    real = objective(replace(given, earlier=None, own=None)).terms
    assert not torch.allclose(found["generation"], real["generation"])


def test_a_teacher_reads_the_changed_source(monkeypatch: pytest.MonkeyPatch):
    objective, given = (
        built(predictor={"n_layers": 1, "noise": "gumbel", "intermediate_logits": True}),
        batch(),
    )
    sizes = {"dim": 16, "n_heads": 2, "causal": {"n_layers": 1, "context_len": 32}}
    objective.couple(CausalLM(ModelConfig.model_validate(sizes), VOCABULARY))
    assert objective.coupling is not None
    torch.manual_seed(7)
    changed = with_own_text(objective, given)
    expected = objective.coupling.couple(changed)  # with the draws that follow
    seen: list[Coupled] = []
    couple = Coupling.couple
    monkeypatch.setattr(Coupling, "couple", lambda *of: seen.append(couple(*of)) or seen[-1])
    torch.manual_seed(7)
    objective(given)
    assert torch.equal(seen[0].batch.source.ids, changed.source.ids)
    assert torch.equal(seen[0].noise, expected.noise)
    log_p, _ = objective.coupling.teacher.read(changed.source.ids, given.target.ids)
    assert torch.equal((log_p + seen[0].noise).argmax(-1), given.target.ids)


def test_evaluation_reads_real_text():
    objective, given = built().eval(), batch()
    assert with_own_text(objective, given) is given
    assert with_own_text(objective.train(), replace(given, own=OWN[:0])).source is given.source


def test_in_bf16_writing_first_takes_no_gradient_away():
    """Weights cast without a graph, which some versions of torch keep under autocast, are not used again."""
    gradients = []
    for enabled in (False, True):
        objective = built()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            losses = objective(batch())
        losses.terms["reconstruction"].backward()
        gradients.append([p.grad for p in objective.model.encoder.parameters()])
    for one, other in zip(*gradients, strict=True):
        assert torch.nn.functional.cosine_similarity(one.flatten(), other.flatten(), dim=0) > 0.95


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"objective": {"own_text": {"after": 3}}}, "after does nothing without objective.own_text.share"),
        ({"objective": {"own_text": {"share": 1.5}}}, "less than or equal to 1"),
        (
            {"model": {"family": "causal"}, "objective": {"own_text": {"share": 0.1}}},
            "objective.own_text does nothing with model.family=causal",
        ),
    ],
)
def test_settings_that_mean_nothing_are_refused(tree: dict[str, Any], message: str):
    with pytest.raises(UsageError, match=message):
        from_mapping(tree)


def test_data_of_another_pairing_is_refused(train_tiny: Any, tmp_path: Any):
    with pytest.raises(UsageError, match="does nothing with lines, whose pairing is lines"):
        train_tiny(tmp_path, objective__own_text__share=0.1)
