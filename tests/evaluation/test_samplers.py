"""Which runs may stand beside a run."""

import pytest

from jepalm.data.tokenizer import byte_tokenizer, char_tokenizer
from jepalm.errors import UsageError
from jepalm.evaluation.samplers import same_tokenizer


def test_runs_with_other_tokenizers_are_refused():
    with pytest.raises(UsageError, match="this run and it have different tokenizers"):
        same_tokenizer(char_tokenizer(), byte_tokenizer(), "it")
