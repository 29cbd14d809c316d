from typing import Any

import pytest

from jepalm.cli.refining import refining_of
from jepalm.errors import UsageError
from jepalm.generation.refine import Refining


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((4, "confidenc", None), "unknown order confidenc"),
        ((1, "random", None), "--order does nothing with one pass"),
        ((1, None, 0.5), "--entropy-bound does nothing with one pass"),
        ((4, "random", 0.5), "--entropy-bound goes with --order entropy"),
    ],
)
def test_flags_that_mean_nothing_are_refused(given: Any, message: str):
    with pytest.raises(UsageError, match=message):
        refining_of(*given)


def test_flags_become_how_a_passage_is_refined():
    assert refining_of(1, None, None) is None
    assert refining_of(8, None, None) == Refining(8, "random")
    assert refining_of(8, "entropy", 0.5) == Refining(8, "entropy", 0.5)
