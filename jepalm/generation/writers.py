"""The writer of a trained run: which one writes for which family and pairing, and what can be asked of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from jepalm.errors import UsageError
from jepalm.generation.left_to_right import LeftToRight
from jepalm.generation.loading import TrainedModel
from jepalm.generation.prompts import next_source
from jepalm.generation.refine import Refining
from jepalm.generation.roll import PassageWriter
from jepalm.generation.sampling import Sampling
from jepalm.generation.token_by_token import CausalWriter
from jepalm.generation.writer import TEXTS_AT_ONCE, Writer
from jepalm.numbers import counted


@dataclass(frozen=True)
class WritingOptions:
    """What a user may ask of a writer.

    Attributes:
        temperature: 0 takes the most likely token; above, tokens are drawn.
        length: tokens of a text. A causal model may write any number; it takes the context's length when
            None, and ends a text sooner where it was trained on ends. A JEPALM of windows takes as many
            passages as a greater length needs.
        passages: passages to write, each after those before.
        top_k: causal models and autoregressive decoders only: draw from this many most likely tokens.
        top_p: the same: draw from the most likely tokens that together reach this probability.
        length_candidates: JEPALM only: likeliest lengths to try, of which the most confident text is kept.
        refining: JEPALM only: write each passage in several passes.
        beams: autoregressive decoders of texts that end only, at temperature 0: how many texts a search for
            the likeliest one keeps.
        keep: JEPALM of windows only, with a length: how much of each passage stays (`PassageWriter`).
        batch_size: texts that are written at once.
    """

    temperature: float = 0.0
    length: int | None = None
    passages: int = 1
    top_k: int | None = None
    top_p: float | None = None
    length_candidates: int = 1
    refining: Refining | None = None
    beams: int = 1
    keep: float | None = None
    batch_size: int = TEXTS_AT_ONCE


GREEDY = WritingOptions()


def writer_for(trained: TrainedModel, options: WritingOptions = GREEDY) -> Writer:
    """The writer of a run, once it is clear that the run can do what is asked.

    Raises:
        UsageError: the length is outside 1 to the model's longest target, there are length candidates
            although the length is given or the model has no length head, or an option does nothing here.
    """
    _check(trained, options)
    if trained.is_causal:
        return causal_writer(
            trained,
            options.length,
            sampling=Sampling(options.temperature, options.top_k, options.top_p),
            passages=options.passages,
            batch_size=options.batch_size,
        )
    rolled = options.length is not None and (
        options.keep is not None or options.length > trained.config.model.target_len
    )
    return passage_writer(
        trained,
        temperature=options.temperature,
        method=options.refining or left_to_right(trained, options),
        length=options.length if rolled else None,
        passage_length=None if rolled else options.length,
        passages=options.passages,
        length_candidates=options.length_candidates,
        keep=options.keep,
        batch_size=options.batch_size,
    )


def default_temperature(trained: TrainedModel, asked: float | None, samples: int) -> float:
    """The temperature asked for; else 1 where the draws make the texts differ, and 0 elsewhere.

    The likeliest text of a light decoder repeats itself where no right answer ends it, so it is drawn, too:
    at 0.8, where its gap to real text is smaller than at 1 and its words are as varied as real ones.
    """
    if asked is not None:
        return asked
    model = trained.config.model
    endless = trained.pairing in ("windows", "lines") and not trained.is_causal
    if model.decoder.autoregressive and endless:
        return 0.8
    return float(samples > 1 or model.predictor.noise != "none")


def passage_writer(trained: TrainedModel, **settings: Any) -> PassageWriter:
    """A JEPALM run as a writer; settings are those of `PassageWriter`."""
    following = partial(next_source, trained)
    settings["method"] = settings.get("method") or left_to_right(trained)
    return PassageWriter(
        trained.run.name, trained.jepalm, trained.hardware, next_source=following, **settings
    )


def left_to_right(trained: TrainedModel, options: WritingOptions = GREEDY) -> LeftToRight | None:
    """How an autoregressive decoder writes, of windows without an end; None of a parallel one."""
    if not trained.config.model.decoder.autoregressive:
        return None
    return LeftToRight(options.top_k, options.top_p, ends=trained.pairing != "windows", beams=options.beams)


def causal_writer(trained: TrainedModel, length: int | None = None, **settings: Any) -> CausalWriter:
    """A causal run as a writer: of texts of a length, the context's when None, or until they end.

    Other settings are those of `CausalWriter`.
    """
    model = trained.config.model
    return CausalWriter(
        trained.run.name,
        trained.causal,
        trained.hardware,
        length or (model.causal.context_len if trained.end is None else model.target_len),
        trained.end,
        next_source=partial(next_source, trained),
        **settings,
    )


def check_refining(trained: TrainedModel) -> None:
    """Check that the predictor reads tokens that are already decided.

    Raises:
        UsageError: it does not.
    """
    if trained.config.model.decoder.autoregressive:
        message = f"{trained.run.name} cannot refine: its decoder writes from left to right"
        raise UsageError(message, "refine with a run of model.decoder.kind=parallel")
    if not trained.config.model.predictor.unmasked:
        message = f"{trained.run.name} cannot refine: it was trained without unmasked positions"
        raise UsageError(message, "train a JEPALM with model.predictor.unmasked=true")


def check_keep(trained: TrainedModel, keep: float) -> None:
    """Check that so much of a passage can stay.

    Raises:
        UsageError: it is a probability, and the tokens of a passage depend on those before.
    """
    if keep < 1 and trained.config.model.decoder.autoregressive:
        message = f"{trained.run.name} writes each token after those before: --keep {keep:g} does nothing"
        raise UsageError(message, "give --keep a number of tokens, or leave it out")


def _check(trained: TrainedModel, options: WritingOptions) -> None:
    """Raise UsageError where an option does nothing, or cannot be met."""
    length, keep, longest = options.length, options.keep, trained.config.model.target_len
    ordered = not trained.is_causal and trained.config.model.decoder.autoregressive
    if options.length_candidates > 1:
        if ordered:
            message = f"length candidates do nothing for {trained.run.name}: its decoder ends a text itself"
            raise UsageError(message, "leave --length-candidates out")
        if length is not None:
            raise UsageError("length candidates do not go with a length", "leave --length out")
        if trained.config.objective.length.kind == "none":
            raise UsageError("this model has no length head to take candidates from", "give --length instead")
        if trained.is_causal:
            raise UsageError("length candidates go with a JEPALM", "this one writes token by token")
    if options.beams > 1:
        if not ordered or trained.pairing == "windows":
            message = f"{trained.run.name} has no beams to search"
            hint = "beams are for a decoder of model.decoder.kind=local or recurrent that ends its texts"
            raise UsageError(message, hint)
        if options.temperature > 0:
            message = f"beams look for the likeliest text: no temperature {options.temperature:g}"
            raise UsageError(message, "give --temperature 0, or leave --beams out")
    if options.refining is not None:
        check_refining(trained)
    continues = trained.pairing == "windows" and not trained.is_causal
    if keep is not None and not (continues and length):
        message = "only a JEPALM of windows keeps a part of its passages, for a text of a given length"
        raise UsageError(message, "give --length, or leave --keep out")
    if trained.is_causal:
        return
    if (options.top_k is not None or options.top_p is not None) and not ordered:
        raise UsageError("top-k and top-p go with a causal model", "this one draws all positions at once")
    if keep is not None:
        check_keep(trained, keep)
    if keep is not None and keep >= longest:
        message = f"{trained.run.name} writes {counted(longest, 'token')} a passage: {keep:g} is all of them"
        raise UsageError(message, "keep fewer, or leave --keep out")
    if length is None:
        return
    if continues and (length > longest or keep is not None):
        if options.passages > 1:
            message = f"a length of {counted(length, 'token')} takes as many passages as it needs"
            raise UsageError(message, "leave --passages out, or the length")
    elif not 1 <= length <= longest:
        raise UsageError(
            f"length {length} is out of range", f"this model writes 1 to {longest} tokens a pass"
        )
