"""Trained runs as samplers and scorers: one-shot models write, causal ones write and score."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from jepalm.data.tokenizer import TextTokenizer
from jepalm.errors import UsageError
from jepalm.evaluation.interfaces import Sampler, Scorer
from jepalm.evaluation.rows import answers_alone
from jepalm.evaluation.text.likelihood import CausalScorer
from jepalm.generation.loading import TrainedModel
from jepalm.generation.noise import Noise
from jepalm.generation.refine import Refining
from jepalm.generation.roll import Rolled, noise_of, roll
from jepalm.generation.token_by_token import Sampling
from jepalm.generation.verified_text import drafter_of, verifier_of
from jepalm.generation.verify import Drafter, Verified, verify
from jepalm.hardware import Hardware
from jepalm.objective import CausalObjective, JepalmObjective

PROMPTS_AT_ONCE = 64


class OneShotSampler:
    """A JEPALM as a sampler.

    Args:
        objective: in evaluation mode.
        hardware: where it runs.
        temperature: of the draws.
        refining: how each passage is refined; one pass when empty.
        length: tokens of a text, in as many passages as it takes; when empty, one passage of the length that
            the model chooses.
        keep: how much of each passage stays before the next is written (`rolling.roll`).
    """

    def __init__(
        self,
        objective: JepalmObjective,
        hardware: Hardware,
        temperature: float = 1.0,
        refining: Refining | None = None,
        length: int | None = None,
        keep: float | None = None,
    ) -> None:
        self.objective, self.hardware, self.temperature = objective, hardware, temperature
        self.refining, self.length, self.keep = refining, length, keep

    def sample(
        self, prompts: Sequence[Sequence[int]], lengths: Sequence[int], *, seed: int
    ) -> list[list[int]]:
        """Write one passage after each prompt, or as many as the length takes."""
        return [row for rolled in self._written(prompts, seed) for row in rolled.rows]

    def passes(self, prompts: Sequence[Sequence[int]], lengths: Sequence[int], *, seed: int) -> float:
        """Passes of predictor and decoder a text; where passages are refined, those of its batch."""
        return sum(sum(rolled.passes_of) for rolled in self._written(prompts, seed)) / len(prompts)

    def _written(self, prompts: Sequence[Sequence[int]], seed: int) -> Iterator[Rolled]:
        """A batch after the other."""
        generator = torch.Generator(self.hardware.device).manual_seed(seed)
        for at in range(0, len(prompts), PROMPTS_AT_ONCE):
            noise = None  # of one passage it is drawn by the generator
            if self.length is not None:
                noise = noise_of(self.objective, self.hardware, self.temperature, seed, first=at)
            yield roll(
                self.objective,
                self.hardware,
                prompts[at : at + PROMPTS_AT_ONCE],
                length=self.length,
                keep=self.keep,
                temperature=self.temperature,
                generator=generator,
                noise=noise,
                refining=self.refining,
            )


class VerifiedSampler:
    """A causal run that checks what a drafter proposes; the texts are the causal run's own.

    Args:
        drafter: intermediate logits.
        verifying: the causal run, which `verifier_of` takes.
        temperature: of the draws.
    """

    def __init__(self, drafter: Drafter, verifying: TrainedModel, temperature: float = 1.0) -> None:
        self.drafter, self.verifying, self.temperature = drafter, verifying, temperature

    def sample(
        self, prompts: Sequence[Sequence[int]], lengths: Sequence[int], *, seed: int
    ) -> list[list[int]]:
        """The texts that the causal run's own sampler writes with this seed."""
        rows = [row for verified in self._written(prompts, lengths, seed) for row in verified.rows]
        return [row[:length] for row, length in zip(rows, lengths, strict=True)]

    def passes(self, prompts: Sequence[Sequence[int]], lengths: Sequence[int], *, seed: int) -> float:
        """Verifying passes a text, and those of the drafter."""
        made = list(self._written(prompts, lengths, seed))
        each = self.drafter.passes
        return sum(sum(one.passes_of) + each * sum(one.drafts_of) for one in made) / len(prompts)

    def _written(
        self, prompts: Sequence[Sequence[int]], lengths: Sequence[int], seed: int
    ) -> Iterator[Verified]:
        objective, hardware = self.verifying.objective, self.verifying.hardware
        assert isinstance(objective, CausalObjective)
        longest = max(lengths, default=0)
        for at in range(0, len(prompts), PROMPTS_AT_ONCE):
            noise = Noise(seed, objective.model.vocab_size, hardware.device, first=at)
            with hardware.autocast():
                yield verify(
                    objective,
                    prompts[at : at + PROMPTS_AT_ONCE],
                    self.drafter,
                    length=longest,
                    sampling=Sampling(self.temperature),
                    noise=noise,
                )


def verified_sampler(
    trained: TrainedModel, verifying: TrainedModel, temperature: float = 1.0
) -> VerifiedSampler:
    """A causal run that verifies what a run drafts.

    Raises:
        UsageError: they do not go together.
    """
    drafter = drafter_of(trained)
    verifier_of(verifying, trained)
    return VerifiedSampler(drafter, verifying, temperature)


def sampler_of(
    trained: TrainedModel, other: TrainedModel, temperature: float = 1.0, length: int | None = None
) -> Sampler:
    """Another run as the baseline of a run, with texts of a length if one is given.

    Raises:
        UsageError: they do not share a tokenizer, or the other one writes no text of a given length.
    """
    same_tokenizer(trained.tokenizer, other.tokenizer, other.run.name)
    if isinstance(other.objective, JepalmObjective):
        if length is not None:
            check_any_length(other)
        return OneShotSampler(other.objective, other.hardware, temperature, length=length)
    return _causal(other, temperature)


def check_any_length(trained: TrainedModel) -> None:
    """Raise UsageError where texts end by themselves."""
    if trained.pairing != "windows":
        message = f"{trained.run.name} writes {trained.pairing}, which end where they end"
        raise UsageError(message, "leave --length out")


def baseline_of(
    trained: TrainedModel, other: TrainedModel | None, temperature: float, length: int | None = None
) -> Sampler | None:
    """The sampler beside a run; none beside a run that is evaluated by its answers alone.

    Raises:
        UsageError: the two do not share a tokenizer.
    """
    if other is None or answers_alone(trained.config):
        return None
    return sampler_of(trained, other, temperature, length)


def scorer_of(trained: TrainedModel, other: TrainedModel) -> Scorer:
    """A causal run as the scorer of a run's text.

    Raises:
        UsageError: it is no causal run, or they do not share a tokenizer.
    """
    same_tokenizer(trained.tokenizer, other.tokenizer, other.run.name)
    return _causal(other)


def _causal(other: TrainedModel, temperature: float = 1.0) -> CausalScorer:
    if not isinstance(other.objective, CausalObjective):
        raise UsageError(f"{other.run.name} cannot score text", "--scorer takes a causal run")
    end = None if other.pairing == "windows" else TextTokenizer.END
    return CausalScorer(other.run.name, other.objective, other.hardware, end, temperature)


def same_tokenizer(one: TextTokenizer, other: TextTokenizer, name: str) -> None:
    """Raise UsageError where two runs read text differently."""
    if one.to_json() != other.to_json():
        raise UsageError(f"this run and {name} have different tokenizers", "take one with the same tokenizer")
