"""What a user may ask of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jepalm.data.regex.syntax import Reading
from jepalm.generation.refine import Order


@dataclass(frozen=True)
class EvaluationSettings:
    r"""How a run is evaluated.

    Attributes:
        split: where the prompts come from.
        n_prompts: how many, evenly spaced; 1,000 when None, of given pairs 10,000. Of sampled text at most
            half of the split's pairs, as the other half is the reference.
        n_samples: texts of each prompt, two or more; metrics of text read the first, Brier-n all.
        temperature: of the model's draws; at 0 it writes its most likely text.
        seed: of every draw and resampling; the prompts do not depend on it.
        length: tokens of every text, in as many passages as it takes; when None, one passage as the run
            writes it.
        kept: for a column of texts each, how much stays of their passages: numbers of tokens, each below
            those of a passage, or probabilities below 1; needs a length.
        chunks: whether texts of random pieces of the training text are scored beside.
        beams: texts among which a light decoder searches the likeliest answer.
        passes: numbers of forward passes, each above 1, for a column of refined texts each.
        order: of the refinement.
        reading: of a `\b` in a regular expression.
        databases: folder of sqlite files in which answers in SQL are executed.
    """

    split: str = "validation"
    n_prompts: int | None = None
    n_samples: int = 2
    temperature: float = 1.0
    seed: int = 0
    length: int | None = None
    kept: Sequence[float] = ()
    chunks: bool = False
    beams: int = 1
    passes: Sequence[int] = ()
    order: Order = "random"
    reading: Reading = "boundary"
    databases: Path | None = None
