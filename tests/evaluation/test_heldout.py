import math
from typing import Any

import pytest
import torch

from jepalm.data.batches import Batch
from jepalm.evaluation.validation.jepalm import HeldOut, measure
from jepalm.model.layout import Layout
from jepalm.objective.jepalm import JepalmObjective


@pytest.fixture
def batches(make_batch: Any) -> list[Batch]:
    """Sources shorter and longer than their targets, in two batches of unlike width."""
    return [make_batch(), make_batch((3, 9), (6, 5), seed=2)]


def one_by_one(objective: JepalmObjective, batches: list[Batch]) -> dict[str, float]:
    """The same figures with loops over single texts without padding, in float64."""
    model = objective.model
    targets, predictions, copies, ids, reconstructed, generated = [], [], [], [], [], []
    lengths = []
    for batch in batches:
        for row in range(len(batch.target.lengths)):
            n, m = int(batch.source.lengths[row]), int(batch.target.lengths[row])
            source_layout = Layout.of(torch.tensor([n]), n, packed=False, ends_at_zero=True)
            layout = Layout.of(torch.tensor([m]), m, packed=False)
            source = model.encoder(batch.source.ids[row : row + 1, :n], source_layout)
            target = model.encoder(batch.target.ids[row : row + 1, :m], layout)
            predicted = model.predictor(layout, source, source_layout).embeddings
            mean = sum(source[0, place] for place in range(n)) / n
            for place in range(m):
                targets.append(target[0, place].double())
                predictions.append(predicted[0, place].double())
                copies.append((source[0, place] if place < n else mean).double())
                ids.append(int(batch.target.ids[row, place]))
                reconstructed.append(model.decoder(target, layout)[0, place].double())
                generated.append(model.decoder(predicted, layout)[0, place].double())
            if model.length is not None:
                lengths.append(float(model.length(source, source_layout)) - m)
    tokens = len(ids)
    mean = sum(targets) / tokens

    def distance(one: list[Any], other: list[Any]) -> float:
        return sum(float((a - b).square().sum()) for a, b in zip(one, other, strict=True)) / tokens

    def nats(logits: list[Any]) -> float:
        return sum(-float(row.log_softmax(0)[token]) for row, token in zip(logits, ids, strict=True)) / tokens

    def right(logits: list[Any]) -> float:
        return sum(int(row.argmax()) == token for row, token in zip(logits, ids, strict=True)) / tokens

    def rank(rows: list[Any]) -> float:
        matrix = torch.stack(rows)
        singular = torch.linalg.svdvals(matrix - matrix.mean(0))
        shares = [float(value / singular.sum()) for value in singular if value > 0]
        return math.exp(-sum(share * math.log(share) for share in shares))

    embedding, around, copied = (
        distance(predictions, targets),
        distance([mean] * tokens, targets),
        distance(copies, targets),
    )
    figures = {
        "reconstruction_ce": nats(reconstructed),
        "reconstruction_accuracy": right(reconstructed),
        "generation_ce": nats(generated),
        "generation_accuracy": right(generated),
        "embedding": embedding,
        "embedding_mean": around,
        "embedding_copy": copied,
        "r2": 1 - embedding / around,
        "r2_copy": 1 - embedding / copied,
        "embedding_std": float(torch.stack(targets).std(0, correction=0).mean()),
        "effective_rank": rank(targets),
        "predicted_std": float(torch.stack(predictions).std(0, correction=0).mean()),
        "predicted_effective_rank": rank(predictions),
    }
    loss = figures["reconstruction_ce"] + 2 * embedding
    if lengths:
        figures["length_mae"] = sum(abs(error) for error in lengths) / len(lengths)
        figures["length_mse"] = sum(error**2 for error in lengths) / len(lengths)
        loss += figures["length_mse"]
    return {f"validation/{name}": value for name, value in {"loss": loss, **figures}.items()}


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("kind", ["mse", "none"])
@torch.no_grad()
def test_every_figure_equals_loops_over_single_texts(
    random_objective: Any, batches: list[Batch], packing: bool, kind: str
):
    objective = random_objective(
        packing=packing, objective__embedding__weight=2, objective__length__kind=kind
    ).eval()
    found, expected = measure(objective, batches), one_by_one(objective, batches)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-4, abs=1e-5), name


@torch.no_grad()
def test_the_generation_term_counts_in_the_loss_when_it_has_a_weight(
    random_objective: Any, batches: list[Batch]
):
    plain = measure(random_objective().eval(), batches)
    weighted = measure(random_objective(objective__generation__weight=3).eval(), batches)
    expected = plain["validation/loss"] + 3 * plain["validation/generation_ce"]
    assert weighted["validation/loss"] == pytest.approx(expected, rel=1e-5)


@torch.no_grad()
def test_the_loss_is_that_of_training_on_the_same_batch(random_objective: Any, make_batch: Any):
    objective = random_objective(packing=True).eval()
    batch = make_batch()
    assert measure(objective, [batch])["validation/loss"] == pytest.approx(
        float(objective(batch).total), rel=1e-5
    )


class Letters:
    def decode(self, ids: list[int]) -> str:
        return "".join("..." if token < 3 else chr(ord("a") + token) for token in ids).replace("...", "")


@torch.no_grad()
def test_samples_are_the_first_sources_with_target_and_one_shot_text(
    random_objective: Any, batches: list[Batch]
):
    result = HeldOut(batches, Letters(), 2)(random_objective().eval())  # type: ignore[arg-type]
    decode = Letters().decode
    assert [sample[:2] for sample in result.samples] == [
        (decode(batches[0].source.ids[row].tolist()), decode(batches[0].target.ids[row].tolist()))
        for row in range(2)
    ]
    assert HeldOut(batches, Letters(), 0)(random_objective().eval()).samples == []  # type: ignore[arg-type]
