"""Evaluation of a trained run: what it does on held-out prompts, and beside every figure its controls."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from jepalm.data.prepared import PreparedData, Split
from jepalm.errors import UsageError, nearest
from jepalm.evaluation.answers.measure import (
    BY_ITS_TASK,
    Asked,
    Scoring,
    evaluate_answers,
    measure_answers,
)
from jepalm.evaluation.interfaces import Sampler, Scorer
from jepalm.evaluation.rows import (
    PROMPTS,
    VERIFIED,
    VERIFIED_NGRAM,
    Evaluation,
    answers_alone,
    baseline_column,
    kept_column,
    passes_column,
)
from jepalm.evaluation.samplers import OneShotSampler, VerifiedSampler, check_any_length
from jepalm.evaluation.speed.writing_cost import cost_rows
from jepalm.evaluation.text.embeddings import measure_embeddings, pair_batches
from jepalm.evaluation.text.held_out import (
    TRAINING_TOKENS,
    TrainingText,
    pick_pairs,
    read_training_text,
)
from jepalm.evaluation.text.infilling import ORDER, evaluate_gaps, other_places
from jepalm.evaluation.text.measure import TextSample, TextsByColumn, brier_rows, scored_rows, statistics_rows
from jepalm.evaluation.text.ngram import NGram
from jepalm.evaluation.text.ngram_drafter import NGramDrafter
from jepalm.evaluation.world.measure import evaluate_world
from jepalm.generation.loading import TrainedModel
from jepalm.generation.refine import Order, Refining
from jepalm.generation.text import check_refining, next_source
from jepalm.objective import JepalmObjective

TEXTS_SHOWN = 20
"""Prompts whose texts an evaluation keeps, for people to read."""


def evaluate(
    trained: TrainedModel,
    prepared: PreparedData,
    *,
    split: str = "validation",
    n_prompts: int | None = None,
    n_samples: int = 2,
    temperature: float = 1.0,
    seed: int = 0,
    length: int | None = None,
    kept: Sequence[float] = (),
    baseline: Sampler | None = None,
    baseline_name: str | None = None,
    other: TrainedModel | None = None,
    scorer: Scorer | None = None,
    scoring: Scoring = BY_ITS_TASK,
    passes: Sequence[int] = (),
    order: Order = "random",
    further: Sequence[tuple[str, Sampler]] = (),
    verified: VerifiedSampler | None = None,
) -> Evaluation:
    """Evaluate a JEPALM run; a causal run, or one that reads actions, by its answers to given pairs alone.

    Args:
        trained: the run.
        prepared: the data it was trained on.
        split: where the prompts come from.
        n_prompts: how many; 1,000 when empty. At most half of the split's pairs, as the other half is the
            reference. Of given pairs that many are answered too; up to 10,000 when empty.
        n_samples: texts of each prompt, two or more; text figures read the first, Brier-n all.
        temperature: of the model's draws; at 0 it writes its most likely text.
        seed: of every draw and resampling; the prompts do not depend on it.
        length: tokens of every text, in as many passages as it takes; when empty, one passage as the run
            writes it.
        kept: for a column of texts each, how much stays of their passages (`rolling.roll`): numbers of
            tokens, each below those of a passage, or probabilities below 1; needs a length.
        baseline: another sampler to set beside.
        baseline_name: what it is.
        other: the run behind the baseline, which answers given pairs beside this one.
        scorer: scores all texts; the 5-gram when empty.
        scoring: how the answers to given pairs are scored.
        passes: numbers of passes, each above 1, for a column of refined texts each.
        order: of the refinement.
        further: names and samplers of baselines after the first.
        verified: a causal run that verifies the model's drafts, and beside them those of the 5-gram.

    Raises:
        UsageError: the run is a causal one of no given pairs, or cannot refine for the passes, or writes no
            text of a given length, there is no such split, or it has fewer than four pairs.
    """
    objective = trained.objective
    if passes:
        check_refining(trained)
    if length is not None:
        check_any_length(trained)
    _check_kept(trained, length, kept)
    held = _split(prepared, split)
    asked = Asked(held, n_prompts, TRAINING_TOKENS, seed, other, scoring)
    n_prompts = n_prompts or PROMPTS
    if answers_alone(trained.config):
        if scorer is not None:
            raise UsageError(f"answers of {trained.run.name} are scored by their task", "leave --scorer out")
        if passes:
            raise UsageError(f"answers of {trained.run.name} are written in one pass", "leave --passes out")
        if further or verified is not None:
            flag = "--verify" if verified is not None else "more than one --baseline"
            raise UsageError(f"answers of {trained.run.name} go without {flag}", "leave it out")
        evaluation = evaluate_answers(trained, prepared, asked)
        if not trained.reads_actions or not held.has_action:
            return evaluation
        return evaluate_world(evaluation, trained, prepared, asked)
    assert isinstance(objective, JepalmObjective)
    if scoring != BY_ITS_TASK and trained.pairing != "pairs":
        message = f"--reading and --databases do nothing for {trained.run.name}: it answers no questions"
        raise UsageError(message, "they go with given pairs")
    if trained.pairing == "spans":
        if baseline is not None or scorer is not None or passes or verified is not None:
            message = "a run that fills gaps takes no --baseline, no --scorer, no --passes and no --verify"
            raise UsageError(message, "nothing that continues a prompt compares with it")
        training = read_training_text(prepared)
        return evaluate_gaps(trained, objective, held, training.ids, n_prompts, seed)
    held_out = pick_pairs(held, trained.config.model, n_prompts, length)
    answers = measure_answers(trained, prepared, asked) if trained.pairing == "pairs" else None
    training = read_training_text(prepared)
    ngram = NGram.fit(training.ids, prepared.meta.vocab_size, ORDER, training.starts)
    scorer = scorer or ngram
    prompts = [source for source, _ in held_out.pairs]
    targets = [target[:length] for _, target in held_out.pairs]
    passage = trained.config.model.target_len
    one_passage = [(source, target[:passage]) for source, target in held_out.pairs]
    lengths = [len(target) for target in targets]
    others = other_places(len(prompts), seed)
    seeds = np.random.SeedSequence(seed).generate_state(n_samples + 1).tolist()
    tokenizer = trained.tokenizer

    columns: TextsByColumn = {"model": [], "real": [TextSample.of(targets, tokenizer)], "ngram": []}
    write = partial(OneShotSampler, objective, trained.hardware, temperature, length=length)
    samplers: dict[str, Sampler] = {
        "model": write(),
        "ngram": ngram,
        **({} if baseline is None else {"baseline": baseline}),
        **{baseline_column(number): sampler for number, (_, sampler) in enumerate(further, 2)},
        **_verified(verified, ngram, temperature),
        **{passes_column(number): write(refining=Refining(number, order)) for number in passes},
        **{kept_column(number): write(keep=number) for number in kept},
    }
    for name, writer in samplers.items():
        columns[name] = [
            TextSample.of(writer.sample(prompts, lengths, seed=one), tokenizer) for one in seeds[:n_samples]
        ]
    following = OneShotSampler(objective, trained.hardware, temperature)
    joins = _next_passages(trained, following, ngram, prompts, columns, seeds[-1])
    ce_controls, accuracy_controls = _decoder_controls(
        ngram, training, prompts, [target for _, target in one_passage]
    )
    decoder_and_embeddings = measure_embeddings(
        objective,
        *pair_batches(one_passage, others, trained.hardware),
        trained.hardware,
        seed=seed,
        ce_controls=ce_controls,
        accuracy_controls=accuracy_controls,
    )
    scored, by_position = scored_rows(scorer, prompts, columns, others, joins, seed=seed)
    costs = cost_rows(samplers, prompts, lengths, tokenizer, trained.hardware.synchronize, seed=seeds[0])
    shown = [tokenizer.decode(prompt) for prompt in prompts]
    reference = [tokenizer.decode(row[:length]) for row in held_out.reference]
    return Evaluation(
        run=trained.run.name,
        step=trained.checkpoint.step,
        split=split,
        n_prompts=len(prompts),
        n_samples=n_samples,
        temperature=temperature,
        seed=seed,
        scorer=scorer.name,
        scored_by_ngram=scorer is ngram,
        baseline=baseline_name if baseline is not None else None,
        training_tokens=len(training.ids),
        rows=[
            *(answers.rows if answers is not None else []),
            *decoder_and_embeddings,
            *scored,
            *statistics_rows(shown, columns, reference, training.text, seed=seed),
            *brier_rows(columns, seed=seed),
            *costs,
        ],
        by_position=by_position,
        task=prepared.meta.task if answers is not None else None,
        n_answers=answers.n if answers is not None else 0,
        passes=list(passes),
        order=order if passes else None,
        further=[name for name, _ in further],
        verified=verified.verifying.run.name if verified is not None else None,
        length=length,
        kept=list(kept),
        texts=_shown(shown, columns),
    )


def _shown(prompts: list[str], columns: TextsByColumn) -> list[dict[str, str]]:
    """The first texts of every column after prompts that nobody chose, evenly spaced."""
    places = np.linspace(0, len(prompts) - 1, min(TEXTS_SHOWN, len(prompts))).round().astype(int).tolist()
    return [
        {"prompt": prompts[place], **{name: texts[0].texts[place] for name, texts in columns.items()}}
        for place in places
    ]


def _check_kept(trained: TrainedModel, length: int | None, kept: Sequence[float]) -> None:
    """Raise UsageError where passages cannot be cut so."""
    if kept and length is None:
        raise UsageError("--keep needs the length of the text that is made of passages", "give --length 64")
    longest = trained.config.model.target_len
    if kept and max(kept) >= longest:
        message = f"{trained.run.name} writes {longest} tokens a passage: --keep {max(kept):g} keeps all"
        raise UsageError(message, "give fewer")


def _verified(checked: VerifiedSampler | None, ngram: NGram, temperature: float) -> dict[str, Sampler]:
    """The samplers of what a causal run verifies: drafts of the model, and of the 5-gram."""
    if checked is None:
        return {}
    beside = VerifiedSampler(NGramDrafter(ngram), checked.verifying, temperature)
    return {VERIFIED: checked, VERIFIED_NGRAM: beside}


def _split(prepared: PreparedData, asked: str) -> Split:
    present = prepared.meta.splits
    for name in present:
        if name == asked:
            return prepared.split(name)
    raise UsageError(f"unknown split {asked}", nearest(asked, present) or f"one of {', '.join(present)}")


def _next_passages(
    trained: TrainedModel,
    sampler: Sampler,
    ngram: NGram,
    prompts: list[list[int]],
    columns: TextsByColumn,
    seed: int,
) -> dict[str, tuple[list[list[int]], TextSample]]:
    """What model and 5-gram read before their next passage, and that passage; nothing for given pairs."""
    if trained.pairing == "pairs":
        return {}
    joins = {}
    for name, writer in (("model", sampler), ("ngram", ngram)):
        first = columns[name][0]
        before = [[*prompt, *row] for prompt, row in zip(prompts, first.ids, strict=True)]
        read = before
        if name == "model":
            read = [
                next_source(trained, prompt, text) for prompt, text in zip(prompts, first.texts, strict=True)
            ]
        lengths = [trained.config.model.target_len] * len(read)
        joins[name] = before, TextSample.of(writer.sample(read, lengths, seed=seed), trained.tokenizer)
    return joins


def _decoder_controls(
    ngram: NGram, training: TrainingText, prompts: list[list[int]], targets: list[list[int]]
) -> tuple[dict[str, float], dict[str, float]]:
    """CE and accuracy on the targets of what needs no model."""
    vocab_size = ngram.vocab_size
    unigram = NGram.fit(training.ids, vocab_size, 1).nll(prompts, targets)
    most_frequent = int(np.bincount(training.ids, minlength=vocab_size).argmax())
    conditioning = ngram.nll(prompts, targets)
    ce = {
        "training unigram": float(np.concatenate(unigram).mean()),
        f"{ngram.order}-gram that sees the true past": float(np.concatenate(conditioning).mean()),
    }
    right = np.concatenate([np.array(target) == most_frequent for target in targets])
    return ce, {"always the most frequent token": float(right.mean())}
