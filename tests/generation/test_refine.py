from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from jepalm.generation.one_pass import generate
from jepalm.generation.passage import PassageRequest
from jepalm.generation.refine import ORDERS, Refining, within_bound
from jepalm.model.conditioning import Conditioning, Known
from jepalm.model.layout import Layout

FIRST = torch.tensor([[0.0, 1.0, 0.2, 0.1], [0.0, 0.3, 3.0, 0.1], [0.0, 0.1, 0.2, 2.0], [0.0, 0.5, 0.4, 0.3]])
"""Logits of the toy's four positions while nothing is decided; token 0 is never written."""


class Toy:
    """Logits that are known by hand: those of `FIRST`, and 4 more for each token that is decided.

    A position's likeliest token thus depends on which of the others are decided.
    """

    packing = reads_gumbel = False

    def __init__(self) -> None:
        self.seen: list[Known | None] = []
        self.model = SimpleNamespace(
            decoder=lambda logits, _: logits.clone(),
            config=SimpleNamespace(latent=SimpleNamespace(tokens=1), target_len=4),
        )

    def draw_noise(self, *_: Any) -> None:
        return None

    def predict(self, source: Any, layout: Any, target: Layout, conditioning: Conditioning) -> Any:
        known = conditioning.known
        self.seen.append(known)
        batch, width = target.mask.shape
        logits = FIRST[:width].expand(batch, -1, -1).clone()  # (B, T, V)
        if known is not None:
            right = torch.nn.functional.one_hot(known.ids, 4) * known.unmasked[..., None]  # (B, T, V)
            logits = logits + 4.0 * right.sum(1, keepdim=True)
        return logits


def refined(
    refining: Refining, lengths: tuple[int, ...] = (4,), temperature: float = 0.0, seed: int = 0
) -> Any:
    toy = Toy()
    layout = Layout.of(torch.tensor(lengths), max(lengths), packed=False)
    generator = torch.Generator().manual_seed(seed)
    request = PassageRequest(torch.zeros(len(lengths), 1, 1), layout, layout, [0], temperature, generator)
    passage = refining(cast(Any, toy), request)
    decided = [None if known is None else known.unmasked.tolist() for known in toy.seen]
    return passage, decided


def test_a_pass_a_token_in_random_order_is_the_chain_of_the_models_conditionals():
    passage, decided = refined(Refining(4, "random"), seed=5)
    keys = torch.rand((1, 4), generator=torch.Generator().manual_seed(5))
    order = keys[0].argsort().tolist()
    ids, nats = [0, 0, 0, 0], 0.0
    for number, place in enumerate(order):
        logits = FIRST[place].double().clone()
        for before in order[:number]:
            logits[ids[before]] += 4.0
        probabilities = logits[1:].softmax(0)
        ids[place] = int(probabilities.argmax()) + 1
        nats += float(probabilities.max().log())
    assert passage.ids.tolist() == [ids]
    assert passage.confidence.item() == pytest.approx(nats / 4, rel=1e-5)
    assert passage.nfe == len(decided) == 4
    for number, shown in enumerate(decided[1:], 1):
        assert [place for place in range(4) if shown[0][place]] == sorted(order[:number])


def test_the_chain_draws_from_the_conditionals():
    passage, _ = refined(Refining(2, "random"), lengths=(2,) * 40_000, temperature=1.0)
    first, second = FIRST[0][1:].softmax(0), FIRST[1][1:].softmax(0)
    expected = torch.zeros(3, 3)
    for one in range(3):
        conditioning = 4.0 * torch.eye(3)[one]
        expected[one] += 0.5 * first[one] * (FIRST[1][1:] + conditioning).softmax(0)
        expected[:, one] += 0.5 * second[one] * (FIRST[0][1:] + conditioning).softmax(0)
    pairs = (passage.ids - 1) @ torch.tensor([3, 1])
    found = torch.bincount(pairs, minlength=9) / len(pairs)
    assert found.tolist() == pytest.approx(expected.flatten().tolist(), abs=0.012)


def test_confidence_decides_the_surest_first_and_keeps_it():
    passage, decided = refined(Refining(4, "confidence"))
    conditioning = [[place for place, shown in enumerate(rows[0]) if shown] for rows in decided[1:]]
    # first 3.0 is surest; with token 2 told 4.4 against 0.5 and 0.3; then 8.2 against 1.0 and 0.1
    assert conditioning == [[1], [1, 3], [0, 1, 3]]
    assert passage.ids.tolist() == [[2, 2, 2, 2]]


def test_mask_predict_takes_back_what_was_less_sure():
    class Doubting(Toy):
        def predict(self, source: Any, layout: Any, target: Layout, conditioning: Conditioning) -> Any:
            known = conditioning.known
            self.seen.append(known)
            first = torch.tensor([[[0.0, 2.0, 1.0], [0.0, 1.0, 1.0], [0.0, 1.0, 1.0]]])
            return first if len(self.seen) == 1 else torch.tensor([[[0.0, 1, 1], [0.0, 0, 9], [0.0, 0, 9]]])

    layout = Layout.of(torch.tensor([3]), 3, packed=False)
    ids = {}
    for order in ("confidence", "mask-predict"):
        toy = Doubting()
        request = PassageRequest(torch.zeros(1, 1, 1), layout, layout, [0])
        passage = Refining(3, order)(cast(Any, toy), request)  # type: ignore[arg-type]
        ids[order] = [known.unmasked[0].tolist() for known in toy.seen if known is not None], passage.ids
    assert ids["confidence"][0] == [[True, False, False], [True, True, False]]
    assert ids["mask-predict"][0] == [[True, False, False], [False, True, True]]  # two surer than the first


def test_the_entropy_order_decides_what_fits_under_the_bound():
    nats = torch.tensor([[0.5, 0.1, 0.3, 0.9], [0.5, 0.1, 0.3, 0.9]])
    hidden = torch.tensor([[True, True, True, True], [True, False, True, True]])
    assert within_bound(nats, hidden, 0.4).tolist() == [[True, True, True, False], [True, False, True, False]]
    assert within_bound(nats, hidden, 0.0).tolist() == [
        [False, True, False, False],
        [False, False, True, False],
    ]
    assert within_bound(nats, hidden, 9.0).tolist() == hidden.tolist()


def test_the_entropy_order_stops_when_all_is_decided():
    assert refined(Refining(4, "entropy", 99.0))[0].nfe == 1
    assert refined(Refining(4, "entropy", 0.0))[0].nfe == 4
    assert refined(Refining(2, "entropy", 0.0))[0].nfe == 2


def test_as_many_are_decided_each_pass_in_texts_of_any_length():
    passage, decided = refined(Refining(2, "random"), lengths=(4, 3, 1))
    assert [sum(row) for row in decided[1]] == [2, 2, 1]
    assert passage.nfe == 2
    assert passage.lengths.tolist() == [4, 3, 1]
    assert passage.ids[2, 1:].tolist() == [0, 0, 0]


def test_more_passes_than_tokens_are_a_pass_a_token():
    assert refined(Refining(99))[0].nfe == 4


@pytest.mark.parametrize("order", ORDERS)
def test_the_seed_decides_the_text_packed_as_padded(random_objective: Any, make_batch: Any, order: Any):
    rows = []
    for packing, seed in ((True, 1), (False, 1), (True, 2)):
        objective = random_objective(
            packing=packing, model__predictor__unmasked="true", objective__length__kind="none"
        ).eval()
        passage = generate(
            objective,
            make_batch().source,
            temperature=1.0,
            generator=torch.Generator().manual_seed(seed),
            method=Refining(3, order, 0.5),
        )
        rows.append(passage.rows())
    assert rows[0] == rows[1] != rows[2]


def test_the_encoder_reads_the_source_once(random_objective: Any, make_batch: Any):
    objective = random_objective(model__predictor__unmasked="true", objective__length__kind="none").eval()
    calls = {"encoder": 0, "predictor": 0, "decoder": 0}
    for name in calls:

        def count(*_: Any, name: str = name) -> None:
            calls[name] += 1

        objective.model.get_submodule(name).register_forward_hook(count)
    passage = generate(objective, make_batch().source, method=Refining(5))
    assert calls == {"encoder": 1, "predictor": 5, "decoder": 5}
    assert passage.nfe == 5
