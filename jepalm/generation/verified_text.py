"""Prompts to text that a JEPALM drafts and an autoregressive model verifies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jepalm.errors import UsageError
from jepalm.generation.loading import TrainedModel
from jepalm.generation.noise import Noise
from jepalm.generation.text import Source
from jepalm.generation.token_by_token import Sampling
from jepalm.generation.verify import Drafter, OneShotDrafter, Verified, verify
from jepalm.model.causal import CausalLM
from jepalm.objective import CausalObjective, JepalmObjective


@dataclass(frozen=True)
class VerifiedText:
    """Text of an autoregressive model, and what it took.

    Attributes:
        text: one a source.
        verified: its tokens, and the passes.
    """

    text: list[str]
    verified: Verified

    @property
    def characters_a_pass(self) -> float:
        """Characters that a verifying pass writes of one text, mean over all passes."""
        return sum(map(len, self.text)) / sum(self.verified.passes_of)


def drafter_of(trained: TrainedModel) -> Drafter:
    """A run as a drafter.

    Raises:
        UsageError: it cannot go on with a text in one pass.
    """
    if not isinstance(trained.objective, JepalmObjective):
        message = f"{trained.run.name} cannot draft: it writes token by token"
        raise UsageError(message, "--run takes a JEPALM of windows, --verify the causal run")
    if trained.pairing != "windows":
        message = f"{trained.run.name} cannot draft: it was trained on {trained.pairing}"
        raise UsageError(message, "train a JEPALM on data prepared with --pairing windows")
    return OneShotDrafter(trained.objective, trained.hardware.device)


def verifier_of(trained: TrainedModel, drafting: TrainedModel | None) -> CausalObjective:
    """A run as the autoregressive model that checks another run's drafts, or those of counts of its own data.

    Raises:
        UsageError: it is no causal run of windows, it is a backbone, or it reads other tokens.
    """
    name, objective = trained.run.name, trained.objective
    if not isinstance(objective, CausalObjective):
        raise UsageError(
            f"{name} cannot verify: it is no causal run", "train one with --preset shakespeare-ar"
        )
    if trained.pairing != "windows":
        message = f"{name} cannot verify: it was trained on {trained.pairing}"
        raise UsageError(message, "train a causal run on data prepared with --pairing windows")
    if not isinstance(objective.model, CausalLM):
        message = f"{name} cannot verify: the keys and values of its backbone cannot be forgotten in part"
        raise UsageError(message, "take a causal run without model.backbone")
    if drafting is not None and trained.tokenizer.to_json() != drafting.tokenizer.to_json():
        message = f"{drafting.run.name} and {name} have different tokenizers"
        raise UsageError(message, "take a verifier with the drafter's tokenizer")
    return objective


def continue_verified(
    drafter: Drafter,
    verifying: TrainedModel,
    sources: Sequence[Source],
    *,
    length: int | None = None,
    sampling: Sampling,
    seed: int = 0,
) -> VerifiedText:
    """Write after each source what the verifier writes after it alone with the same settings and seed.

    Args:
        drafter: intermediate logits.
        verifying: the verifier, which `verifier_of` takes.
        sources: as the verifier reads them.
        length: tokens to write; the verifier's context when None.
        sampling: how tokens are chosen.
        seed: of the noise.
    """
    objective = verifying.objective
    assert isinstance(objective, CausalObjective)
    noise = Noise(seed, verifying.tokenizer.vocab_size, verifying.hardware.device)
    with verifying.hardware.autocast():
        verified = verify(
            objective,
            [source.ids for source in sources],
            drafter,
            length=length or objective.model.context_len,
            sampling=sampling,
            noise=noise,
        )
    return VerifiedText([verifying.tokenizer.decode(row) for row in verified.rows], verified)
