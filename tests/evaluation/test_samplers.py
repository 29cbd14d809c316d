"""What runs write as samplers, and which of them may stand beside a run."""

from pathlib import Path
from typing import Any

import pytest

from jepalm.config import HardwareConfig
from jepalm.data.tokenizer import byte_tokenizer, char_tokenizer
from jepalm.errors import UsageError
from jepalm.evaluation.samplers import OneShotSampler, same_tokenizer, sampler_of
from jepalm.generation.loading import load_trained


def test_runs_with_other_tokenizers_are_refused():
    with pytest.raises(UsageError, match="this run and it have different tokenizers"):
        same_tokenizer(char_tokenizer(), byte_tokenizer(), "it")


def test_a_baseline_whose_texts_end_by_themselves_has_no_given_length(trained_run: Any):
    lines = load_trained(trained_run, "last", HardwareConfig(device="cpu", precision="fp32", threads=1))
    with pytest.raises(UsageError, match="writes lines, which end where they end"):
        sampler_of(lines, lines, length=20)


def test_passages_of_a_text_are_written_after_one_another(train_tiny: Any, tmp_path: Path):
    sizes = {"model__source_len": 6, "model__target_len": 4, "objective__length__kind": "none"}
    run = train_tiny(tmp_path, data__name="windows", training__steps=1, **sizes)
    trained = load_trained(run, "last", HardwareConfig(device="cpu", precision="fp32", threads=1))
    one, long = (OneShotSampler(trained.objective, trained.hardware, 0.0, length=n) for n in (None, 10))
    prompts = [[5, 6, 7, 8, 9, 10], [4, 4, 4, 5, 5, 5]]
    texts: list[list[int]] = [[], []]
    for _ in range(3):
        read = [prompt + text for prompt, text in zip(prompts, texts, strict=True)]
        texts = [text + new for text, new in zip(texts, one.sample(read, [4, 4], seed=0), strict=True)]
    assert long.sample(prompts, [10, 10], seed=0) == [text[:10] for text in texts]
    assert long.passes(prompts, [10, 10], seed=0) == 3
