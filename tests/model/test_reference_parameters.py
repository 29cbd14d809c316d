import pytest
import torch

from jepalm.config import resolve
from jepalm.data.tokenizer import char_tokenizer
from jepalm.model.jepalm import JEPALM


@pytest.fixture(scope="module")
def parts() -> dict[str, int]:
    vocabulary = char_tokenizer().vocab_size
    return JEPALM(resolve("shakespeare").model, vocabulary, length_head=True).parameters_by_part()


def test_reference_alphabet_is_97_symbols_and_3_specials():
    assert char_tokenizer().vocab_size == 100


def test_reference_model_has_the_articles_size_within_a_percent(parts: dict[str, int]):
    assert sum(parts.values()) == pytest.approx(10.1e6, rel=0.01)


def test_reference_parts_have_these_exact_sizes(parts: dict[str, int]):
    dim, inner, vocabulary, layers, positions = 256, 928, 100, 4, 64
    block = 4 * dim * dim + 2 * dim * inner + 2 * dim
    cross = 4 * dim * dim + dim
    assert parts == {
        "encoder": vocabulary * dim + layers * block,
        "predictor": positions * dim + layers * (block + cross) + dim + dim * dim,
        "decoder": layers * block + dim + dim * vocabulary,
        "length": dim * dim + dim + dim + 1,
    }


def test_parts_add_up_to_all_parameters():
    model = JEPALM(resolve("nano").model, 20, length_head=True)
    assert sum(model.parameters_by_part().values()) == sum(p.numel() for p in model.parameters())


def test_without_length_head_there_is_no_such_part():
    assert "length" not in JEPALM(resolve("nano").model, 20, length_head=False).parameters_by_part()


def test_the_preset_for_a_large_corpus_has_a_hundred_million_parameters():
    config = resolve("openwebtext")
    dim, inner, vocabulary, positions = 640, 2320, 16384, 64
    block = 4 * dim * dim + 2 * dim * inner + 2 * dim
    cross = 4 * dim * dim + dim
    with torch.device("meta"):
        model = JEPALM(config.model, vocabulary, length_head=config.objective.length.kind != "none")
    assert model.parameters_by_part() == {
        "encoder": vocabulary * dim + 6 * block,
        "predictor": positions * dim + 6 * (block + cross) + dim + dim * dim,
        "decoder": 3 * block + dim + dim * vocabulary,
    }
    assert sum(model.parameters_by_part().values()) == pytest.approx(100e6, rel=0.01)
