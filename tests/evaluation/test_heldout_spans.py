from typing import Any

import pytest
import torch

from jepalm.data.batches import Batches
from jepalm.data.prepared import PreparedData, open_prepared
from jepalm.evaluation.text.infilling import other_sources
from jepalm.evaluation.validation.jepalm import HeldOut, measure
from jepalm.model.layout import Layout
from jepalm.objective.jepalm import JepalmObjective
from jepalm.objective.spans import whole_text

CHANGED = {
    "objective__length__kind": "none",
    "objective__local__weight": 2.0,
    "objective__embedding__weight": 0.5,
}


@pytest.fixture
def data(data_root: Any) -> PreparedData:
    return open_prepared("spans", data_root)


@pytest.fixture
def batches(data: PreparedData) -> list[Any]:
    options: dict[str, Any] = {"source_len": 12, "target_len": 12, "seed": 0, "device": "cpu"}
    return Batches(data.split("train"), batch_size=4, **options).fixed(2)


@pytest.fixture
def objective(tiny_config: Any, data: PreparedData) -> JepalmObjective:
    config = tiny_config(**CHANGED)
    built = JepalmObjective(config.model, config.objective, data.meta.vocab_size, packing=True)
    generator = torch.Generator().manual_seed(0)
    for parameter in built.parameters():
        parameter.data.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return built.eval()


@torch.no_grad()
def test_figures_at_the_hidden_places_equal_loops_over_single_texts(
    objective: JepalmObjective, batches: list[Any]
):
    model = objective.model
    sums = dict.fromkeys(
        ("local_ce", "local_accuracy", "reconstruction_ce", "embedding", "embedding_copy"), 0.0
    )
    n = 0
    for batch in batches:
        whole = whole_text(batch.source, batch.target)
        for row, hidden in enumerate(batch.target.places.tolist()):
            layout = Layout.of(torch.tensor([12]), 12, packed=False)
            places = Layout.of(
                torch.tensor([len(hidden)]), len(hidden), packed=False, places=torch.tensor([hidden])
            )
            read = model.encoder(batch.source.ids[row : row + 1], layout)
            target = model.encoder(whole.ids[row : row + 1], layout)[:, hidden]
            predicted = model.predictor(places, read, layout).embeddings
            local, decoded = model.local(read[:, hidden])[0], model.decoder(target, places)[0]
            for at, token in enumerate(whole.ids[row, hidden].tolist()):
                n += 1
                sums["local_ce"] -= float(local[at].log_softmax(0)[token])
                sums["local_accuracy"] += int(local[at].argmax()) == token
                sums["reconstruction_ce"] -= float(decoded[at].log_softmax(0)[token])
            sums["embedding"] += float((predicted - target).square().sum())
            sums["embedding_copy"] += float((read[:, hidden] - target).square().sum())
    found = measure(objective, batches)
    assert n == 2 * 4 * 4
    for name, value in sums.items():
        assert found[f"validation/{name}"] == pytest.approx(value / n, rel=1e-4), name


@torch.no_grad()
def test_the_loss_is_that_of_training_on_the_same_batch(objective: JepalmObjective, batches: list[Any]):
    found = measure(objective, batches[:1])["validation/loss"]
    assert found == pytest.approx(float(objective(batches[0]).total), rel=1e-5)


@torch.no_grad()
def test_samples_are_the_text_with_gaps_the_real_and_the_filled_text(
    objective: JepalmObjective, batches: list[Any], data: PreparedData
):
    samples = HeldOut(batches, data.tokenizer, 3)(objective).samples
    assert len(samples) == 3
    for source, target, filled in samples:
        assert len(source) == len(target) == len(filled) == 12
        assert source.count("_") == 4
        for read, right, made in zip(source, target, filled, strict=True):
            assert read == "_" or read == right == made
    assert HeldOut(batches, data.tokenizer, 0)(objective).samples == []


def test_another_text_has_the_gaps_of_its_place(data: PreparedData, batches: list[Any]):
    import numpy as np

    split = data.split("train")
    others = np.roll(np.arange(8), 1)
    texts = torch.cat([whole_text(batch.source, batch.target).ids for batch in batches])
    found = torch.cat([tokens.ids for tokens in other_sources(batches, others, split)])
    places = torch.cat([batch.target.places for batch in batches])
    for row in range(8):
        expected = texts[(row - 1) % 8].clone()
        expected[places[row]] = split.mask_id
        assert torch.equal(found[row], expected)
