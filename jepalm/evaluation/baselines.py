"""Runs that stand beside the evaluated one: as baselines, as its verifier, as the scorer of its texts."""

from __future__ import annotations

from jepalm.data.tokenizer import TextTokenizer
from jepalm.errors import UsageError
from jepalm.evaluation.interfaces import Scorer
from jepalm.evaluation.text.likelihood import CausalScorer
from jepalm.generation.loading import TrainedModel
from jepalm.generation.sampling import Sampling
from jepalm.generation.verify import VerifiedWriter, check_verifier, drafter_of, verified_writer
from jepalm.generation.writer import Writer
from jepalm.generation.writers import causal_writer, passage_writer


def writer_beside(
    trained: TrainedModel, other: TrainedModel, temperature: float = 1.0, length: int | None = None
) -> Writer:
    """Another run as the baseline of a run, with texts of a length if one is given.

    Raises:
        UsageError: they do not share a tokenizer, or the other one writes no text of a given length.
    """
    same_tokenizer(trained.tokenizer, other.tokenizer, other.run.name)
    if other.is_causal:
        return causal_writer(other, sampling=Sampling(temperature))
    if length is not None:
        check_any_length(other)
    return passage_writer(other, temperature=temperature, length=length)


def verified_by(trained: TrainedModel, verifying: TrainedModel, temperature: float = 1.0) -> VerifiedWriter:
    """A causal run that verifies what a run drafts.

    Raises:
        UsageError: they do not go together.
    """
    drafter = drafter_of(trained)
    check_verifier(verifying, trained)
    return verified_writer(verifying, drafter, sampling=Sampling(temperature))


def scorer_of(trained: TrainedModel, other: TrainedModel) -> Scorer:
    """A causal run as the scorer of a run's text.

    Raises:
        UsageError: it is no causal run, or they do not share a tokenizer.
    """
    same_tokenizer(trained.tokenizer, other.tokenizer, other.run.name)
    if not other.is_causal:
        raise UsageError(f"{other.run.name} cannot score text", "--scorer takes a causal run")
    return CausalScorer.of(other)


def check_any_length(trained: TrainedModel) -> None:
    """Raise UsageError where texts end by themselves."""
    if trained.pairing != "windows":
        message = f"{trained.run.name} writes {trained.pairing}, which end where they end"
        raise UsageError(message, "leave --length out")


def same_tokenizer(one: TextTokenizer, other: TextTokenizer, name: str) -> None:
    """Raise UsageError where two runs read text differently."""
    if one.to_json() != other.to_json():
        raise UsageError(f"this run and {name} have different tokenizers", "take one with the same tokenizer")
