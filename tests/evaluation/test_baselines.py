"""Which runs may stand beside a run."""

from typing import Any

import pytest

from jepalm.config import HardwareConfig
from jepalm.data.tokenizer import byte_tokenizer, char_tokenizer
from jepalm.errors import UsageError
from jepalm.evaluation.baselines import same_tokenizer, writer_beside
from jepalm.generation.loading import load_trained


def test_runs_with_other_tokenizers_are_refused():
    with pytest.raises(UsageError, match="this run and it have different tokenizers"):
        same_tokenizer(char_tokenizer(), byte_tokenizer(), "it")


def test_a_baseline_whose_texts_end_by_themselves_has_no_given_length(trained_run: Any):
    lines = load_trained(trained_run, "last", HardwareConfig(device="cpu", precision="fp32", threads=1))
    with pytest.raises(UsageError, match="writes lines, which end where they end"):
        writer_beside(lines, lines, length=20)
