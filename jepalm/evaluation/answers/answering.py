"""Trained runs that answer questions: the likeliest text of each and how long it took."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from jepalm.evaluation.answers.questions import Question
from jepalm.evaluation.speed.timing import Clock
from jepalm.generation.loading import TrainedModel
from jepalm.generation.writer import Prompt
from jepalm.generation.writers import WritingOptions, writer_for

AT_ONCE = 64
"""Questions of a batch."""
ALONE = 16
"""Questions that are answered one at a time, for the latency."""


@dataclass
class TimedAnswers:
    """Answers of one model and what they cost.

    Attributes:
        texts: one a question.
        seconds: of each batch of `AT_ONCE` questions.
        seconds_alone: of each of `ALONE` questions or fewer, answered by itself.
        nfe_alone: forward passes of each of these.
    """

    texts: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    seconds_alone: list[float] = field(default_factory=list)
    nfe_alone: list[int] = field(default_factory=list)

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
        return sum(self.nfe_alone) / len(self.nfe_alone)


class Answerer:
    """A run that was trained on pairs; it reads questions with its own tokenizer, and may search beams."""

    def __init__(self, trained: TrainedModel, beams: int = 1) -> None:
        self.hardware = trained.hardware
        self._trained, self._writer = trained, writer_for(trained, WritingOptions(beams=beams))
        self._tokenizer, self._model = trained.tokenizer, trained.config.model

    def write(self, questions: Sequence[Question]) -> tuple[list[str], int]:
        """Write the likeliest text of each, all at once; return them and the forward passes.

        One-shot: the likeliest length and the likeliest token of each position. Token by token: until the end
        token, or one token beyond the longest target of the training.
        """
        lengths = [self._model.target_len + 1] * len(questions)
        made = self._writer.write(self._read(questions), seed=0, lengths=lengths)
        return [self._tokenizer.decode(row) for row in made.ids], made.batch_nfe

    def _read(self, questions: Sequence[Question]) -> list[Prompt]:
        """The last tokens of each question, and of its action where the run reads one."""
        encode, model = self._tokenizer.encode, self._model
        sources = [encode(question.source)[-model.source_len :] for question in questions]
        if not self._trained.reads_actions:
            return [Prompt(source) for source in sources]
        actions = [encode(question.action)[-model.longest_action :] for question in questions]
        return [Prompt(*pair) for pair in zip(sources, actions, strict=True)]


def write_in_turns(
    answerers: Mapping[str, Answerer], questions: Sequence[Question], clock: Clock = time.perf_counter
) -> dict[str, TimedAnswers]:
    """Let several models answer the same questions, batch by batch in turns, so that their times compare.

    Each has one batch untimed before, and at the end some questions one at a time.
    """
    answers = {name: TimedAnswers() for name in answerers}
    for answerer in answerers.values():
        answerer.write(questions[:AT_ONCE])
    for at in range(0, len(questions), AT_ONCE):
        for name, answerer in answerers.items():
            texts, _, seconds = _timed(answerer, questions[at : at + AT_ONCE], clock)
            answers[name].texts += texts
            answers[name].seconds.append(seconds)
    for question in questions[:: -(-len(questions) // ALONE)]:
        for name, answerer in answerers.items():
            _, nfe, seconds = _timed(answerer, [question], clock)
            answers[name].seconds_alone.append(seconds)
            answers[name].nfe_alone.append(nfe)
    return answers


def _timed(answerer: Answerer, questions: Sequence[Question], clock: Clock) -> tuple[list[str], int, float]:
    answerer.hardware.synchronize()
    start = clock()
    texts, nfe = answerer.write(questions)
    answerer.hardware.synchronize()
    return texts, nfe, clock() - start
