"""Evaluation of a run that continues prompts: its texts beside real text, the 5-gram's and other runs'."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from jepalm.data.prepared import PreparedData, Split
from jepalm.evaluation.answers.measure import measure_answers
from jepalm.evaluation.baselines import scorer_of, verified_by, writer_beside
from jepalm.evaluation.interfaces import Scorer
from jepalm.evaluation.rows import (
    PROMPTS,
    VERIFIED,
    VERIFIED_NGRAM,
    Evaluation,
    MetricRow,
    baseline_column,
    is_column,
    kept_column,
    passes_column,
)
from jepalm.evaluation.settings import EvaluationSettings
from jepalm.evaluation.speed.costs import measure_costs
from jepalm.evaluation.speed.parts import parts_of
from jepalm.evaluation.speed.writing import numpy_writer
from jepalm.evaluation.text.chunks import chunk_nll
from jepalm.evaluation.text.embeddings import decoder_controls, measure_embeddings, pair_batches
from jepalm.evaluation.text.held_out import pick_pairs, read_training_text
from jepalm.evaluation.text.infilling import ORDER, other_places
from jepalm.evaluation.text.measure import TextSample, TextsByColumn, brier_rows, scored_rows, statistics_rows
from jepalm.evaluation.text.ngram import NGramWriter
from jepalm.evaluation.text.ngram_drafter import NGramDrafter
from jepalm.generation.loading import TrainedModel
from jepalm.generation.prompts import next_source
from jepalm.generation.refine import Refining
from jepalm.generation.sampling import Sampling
from jepalm.generation.verify import VerifiedWriter
from jepalm.generation.writer import Prompt, Writer
from jepalm.generation.writers import passage_writer

TEXTS_SHOWN = 20
"""Prompts whose texts an evaluation keeps, for people to read."""


def evaluate_texts(
    trained: TrainedModel,
    prepared: PreparedData,
    split: Split,
    settings: EvaluationSettings,
    baselines: Sequence[TrainedModel] = (),
    scorer: TrainedModel | Scorer | None = None,
    verifier: TrainedModel | None = None,
) -> Evaluation:
    """Measure decoder, embeddings and sampled text on held-out prompts; of given pairs the answers, too.

    Arguments and errors are those of `evaluate.evaluate`.
    """
    seed, tokenizer, passage = settings.seed, trained.tokenizer, trained.config.model.target_len
    judge = scorer_of(trained, scorer) if isinstance(scorer, TrainedModel) else scorer
    beside = [writer_beside(trained, run, settings.temperature, settings.length) for run in baselines]
    checked = verified_by(trained, verifier, settings.temperature) if verifier is not None else None
    held_out = pick_pairs(split, trained.config.model, settings.n_prompts or PROMPTS, settings.length)
    answers = None
    if trained.pairing == "pairs":
        other = baselines[0] if baselines else None
        answers = measure_answers(trained, prepared, split, settings, other)
    training = read_training_text(prepared)
    ngram = NGramWriter.fit(training.ids, prepared.meta.vocab_size, ORDER, training.starts)
    prompts = [source for source, _ in held_out.pairs]
    targets = [target[: settings.length] for _, target in held_out.pairs]
    lengths = [len(target) for target in targets]
    others = other_places(len(prompts), seed)

    writers = _writers(trained, settings, ngram, beside, checked)
    read = [Prompt(prompt) for prompt in prompts]
    *seeds, last_seed = np.random.SeedSequence(seed).generate_state(settings.n_samples + 1).tolist()
    samples: TextsByColumn = {"model": [], "real": [TextSample.of(targets, tokenizer)], "ngram": []}
    for name, writer in writers.items():
        drawn = [writer.write(read, seed=one, lengths=lengths).ids for one in seeds]
        samples[name] = [TextSample.of(ids, tokenizer) for ids in drawn]
    joins = _next_passages(trained, settings.temperature, ngram, prompts, samples, last_seed)

    one_passage = [(source, target[:passage]) for source, target in held_out.pairs]
    ce_controls, accuracy_controls = decoder_controls(
        ngram, training.ids, prompts, [target for _, target in one_passage]
    )
    of_pairs = measure_embeddings(
        trained.jepalm,
        *pair_batches(one_passage, others, trained.hardware),
        trained.hardware,
        seed=seed,
        ce_controls=ce_controls,
        accuracy_controls=accuracy_controls,
    )
    scored, by_position = scored_rows(judge or ngram, prompts, samples, others, joins, seed=seed)
    if settings.chunks:
        sizes = [max(1, size) for size in samples["real"][0].characters.tolist()]
        nll = chunk_nll(judge or ngram, tokenizer, prompts, training.text, sizes, seed)
        real = scored[0].values["real"]
        gaps = {name: value - real for name, value in nll.items()}
        scored[:2] = [replace(scored[0], controls=nll), replace(scored[1], controls=gaps)]
    causal = next((run for run in baselines if run.is_causal), None)
    timed = dict(writers)
    if causal is not None:
        in_numpy = numpy_writer(causal, max(lengths), Sampling(settings.temperature), causal.end)
        if in_numpy is not None:
            timed[in_numpy.name] = in_numpy
    parts = None
    if trained.config.model.decoder.autoregressive and settings.length is None:
        parts = partial(
            parts_of, trained.jepalm, trained.hardware, length=passage, temperature=settings.temperature
        )
    synchronize = trained.hardware.synchronize
    costs = measure_costs(timed, prompts, lengths, tokenizer, synchronize, seed=seeds[0], parts=parts)
    shown = [tokenizer.decode(prompt) for prompt in prompts]
    reference = [tokenizer.decode(target[: settings.length]) for target in held_out.reference]
    names = [run.run.name for run in baselines]
    return Evaluation(
        run=trained.run.name,
        step=trained.checkpoint.step,
        split=split.name,
        n_prompts=len(prompts),
        n_samples=settings.n_samples,
        temperature=settings.temperature,
        seed=seed,
        scorer=(judge or ngram).name,
        scored_by_ngram=judge is None,
        baseline=names[0] if names else None,
        training_tokens=len(training.ids),
        rows=[
            *(answers.rows if answers is not None else []),
            *of_pairs,
            *scored,
            *statistics_rows(shown, samples, reference, training.text, seed=seed),
            *brier_rows(samples, seed=seed),
            *(_cost_row(name, values) for name, values in costs.items()),
        ],
        by_position=by_position,
        task=prepared.meta.task if answers is not None else None,
        n_answers=answers.n if answers is not None else 0,
        passes=list(settings.passes),
        order=settings.order if settings.passes else None,
        further=names[1:],
        verified=verifier.run.name if verifier is not None else None,
        length=settings.length,
        kept=list(settings.kept),
        texts=_shown(shown, samples),
    )


def _writers(
    trained: TrainedModel,
    settings: EvaluationSettings,
    ngram: NGramWriter,
    baselines: Sequence[Writer],
    verified: VerifiedWriter | None,
) -> dict[str, Writer]:
    """Who writes each column but the real one."""
    write = partial(passage_writer, trained, temperature=settings.temperature, length=settings.length)
    found: dict[str, Writer] = {"model": write(), "ngram": ngram}
    found |= {baseline_column(number): writer for number, writer in enumerate(baselines, 1)}
    if verified is not None:
        found[VERIFIED] = verified
        found[VERIFIED_NGRAM] = replace(verified, drafter=NGramDrafter(ngram))
    found |= {passes_column(n): write(method=Refining(n, settings.order)) for n in settings.passes}
    return found | {kept_column(keep): write(keep=keep) for keep in settings.kept}


def _next_passages(
    trained: TrainedModel,
    temperature: float,
    ngram: NGramWriter,
    prompts: list[list[int]],
    samples: TextsByColumn,
    seed: int,
) -> dict[str, tuple[list[list[int]], TextSample]]:
    """What model and 5-gram read before their next passage, and that passage; nothing for given pairs."""
    if trained.pairing == "pairs":
        return {}
    joins = {}
    writers: dict[str, Writer] = {"model": passage_writer(trained, temperature=temperature), "ngram": ngram}
    for name, writer in writers.items():
        pairs = list(zip(prompts, samples[name][0].ids, strict=True))
        before = [[*prompt, *ids] for prompt, ids in pairs]
        read = [next_source(trained, *pair) for pair in pairs] if name == "model" else before
        lengths = [trained.config.model.target_len] * len(read)
        made = writer.write([Prompt(ids) for ids in read], seed=seed, lengths=lengths)
        joins[name] = before, TextSample.of(made.ids, trained.tokenizer)
    return joins


def _cost_row(name: str, values: dict[str, float]) -> MetricRow:
    """Costs by column; those of a writer that is none are a control."""
    own = {column: value for column, value in values.items() if is_column(column)}
    controls = {column: value for column, value in values.items() if column not in own}
    return MetricRow(name, own, controls=controls)


def _shown(prompts: list[str], samples: TextsByColumn) -> list[dict[str, str]]:
    """The first texts of every column after prompts that nobody chose, evenly spaced."""
    places = np.linspace(0, len(prompts) - 1, min(TEXTS_SHOWN, len(prompts))).round().astype(int).tolist()
    return [
        {"prompt": prompts[place], **{name: drawn[0].texts[place] for name, drawn in samples.items()}}
        for place in places
    ]
