"""Trained runs that answer questions: the likeliest text of each and how long it took."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from jepalm.data.batches import Tokens, pad_rows
from jepalm.data.tokenizer import TextTokenizer
from jepalm.evaluation.answers.questions import Question
from jepalm.evaluation.speed.timing import Clock
from jepalm.generation import one_pass as one_shot
from jepalm.generation import token_by_token as autoregressive
from jepalm.generation.loading import TrainedModel
from jepalm.objective import CausalObjective, JepalmObjective
from jepalm.objective.views import prompt_row

AT_ONCE = 64
"""Questions of a batch."""
ALONE = 16
"""Questions that are answered one at a time, for the latency."""


@dataclass
class Written:
    """Answers of one model and what they cost.

    Attributes:
        texts: one a question.
        seconds: of each batch of `AT_ONCE` questions.
        seconds_alone: of each of `ALONE` questions or fewer, answered by itself.
        passes_alone: forward passes of each of these.
    """

    texts: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    seconds_alone: list[float] = field(default_factory=list)
    passes_alone: list[int] = field(default_factory=list)

    @property
    def characters_per_s(self) -> float:
        """Characters of all answers over the time of all batches."""
        return sum(map(len, self.texts)) / sum(self.seconds)

    @property
    def answers_per_s(self) -> float:
        """Answers over the time of all batches."""
        return len(self.texts) / sum(self.seconds)

    @property
    def latency(self) -> float:
        """Median milliseconds of an answer by itself."""
        return 1000 * median(self.seconds_alone)

    @property
    def passes(self) -> float:
        """Mean forward passes of an answer by itself."""
        return sum(self.passes_alone) / len(self.passes_alone)


class Answerer:
    """A run that was trained on pairs; it reads questions with its own tokenizer."""

    def __init__(self, trained: TrainedModel) -> None:
        self.hardware, self.objective = trained.hardware, trained.objective
        self._tokenizer, self._model = trained.tokenizer, trained.config.model
        self._reads_actions = trained.reads_actions

    def write(self, questions: Sequence[Question]) -> tuple[list[str], int]:
        """Write the likeliest text of each, all at once; return them and the forward passes.

        One-shot: the likeliest length and the likeliest token of each position. Token by token: until the end
        token, or one token beyond the longest target of the training.
        """
        read, action = self._read(questions)
        with self.hardware.autocast():
            if isinstance(self.objective, CausalObjective):
                made = autoregressive.generate(
                    self.objective,
                    read,
                    length=self._model.target_len + 1,
                    end=TextTokenizer.END,
                )
                rows, passes = made.rows, made.passes
            else:
                assert isinstance(self.objective, JepalmObjective)
                rows, passes = one_shot.generate(self.objective, read, action=action).rows(), 1
        return [self._tokenizer.decode(row) for row in rows], passes

    def _read(self, questions: Sequence[Question]) -> tuple[Tokens, Tokens | None]:
        """The last tokens of each question and of its action, which a causal model reads as one text."""
        encode, model, device = self._tokenizer.encode, self._model, self.hardware.device
        sources = [encode(question.source)[-model.source_len :] for question in questions]
        causal = isinstance(self.objective, CausalObjective)
        if not self._reads_actions:
            return pad_rows([prompt_row(row) for row in sources] if causal else sources, device), None
        actions = [encode(question.action)[-model.longest_action :] for question in questions]
        if causal:
            rows = [prompt_row(*pair) for pair in zip(sources, actions, strict=True)]
            return pad_rows(rows, device), None
        return pad_rows(sources, device), pad_rows(actions, device)


def write_in_turns(
    answerers: Mapping[str, Answerer], questions: Sequence[Question], clock: Clock = time.perf_counter
) -> dict[str, Written]:
    """Let several models answer the same questions, batch by batch in turns, so that their times compare.

    Each has one batch untimed before, and at the end some questions one at a time.
    """
    written = {name: Written() for name in answerers}
    for answerer in answerers.values():
        answerer.write(questions[:AT_ONCE])
    for at in range(0, len(questions), AT_ONCE):
        for name, answerer in answerers.items():
            texts, _, seconds = _timed(answerer, questions[at : at + AT_ONCE], clock)
            written[name].texts += texts
            written[name].seconds.append(seconds)
    for question in questions[:: -(-len(questions) // ALONE)]:
        for name, answerer in answerers.items():
            _, passes, seconds = _timed(answerer, [question], clock)
            written[name].seconds_alone.append(seconds)
            written[name].passes_alone.append(passes)
    return written


def _timed(answerer: Answerer, questions: Sequence[Question], clock: Clock) -> tuple[list[str], int, float]:
    answerer.hardware.synchronize()
    start = clock()
    texts, passes = answerer.write(questions)
    answerer.hardware.synchronize()
    return texts, passes, clock() - start
