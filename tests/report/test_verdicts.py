import math

import pytest
from synthetic_run import healthy_rows, term

from jepalm.report.analysis.phases import stable_phase
from jepalm.report.read import read_run
from jepalm.report.rules.verdicts import verdicts


def codes(folder):
    record = read_run(folder)
    return [verdict.code for verdict in verdicts(record, stable_phase(record))]


def texts(folder):
    record = read_run(folder)
    return " / ".join(verdict.text for verdict in verdicts(record, stable_phase(record)))


def rows_of(key, values, kind="train", every=50):
    return [{"kind": kind, "step": every * (k + 1), key: value} for k, value in enumerate(values)]


def test_a_sound_run_says_so(make_run):
    rows = rows_of("train/loss", [3.0, 2.0, 1.5])
    assert codes(make_run(rows)) == ["sound"]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("created", "never began"),
        ("running", "still marked running at step 150 of 300"),
        ("interrupted", "interrupted at step 150 of 300"),
        ("failed", "failed at step 150 of 300: no memory"),
        (..., "does not say whether it finished"),
    ],
)
def test_unfinished(make_run, status, words):
    folder = make_run(rows_of("train/loss", [3.0, 2.0, 1.5]), status=status, steps=300, error="no memory")
    assert words in texts(folder)


def test_empty(make_run):
    assert "nothing was recorded yet" in texts(make_run([], status="running"))


def test_not_finite_names_the_first_step(make_run):
    assert "loss is not finite from step 100 (train)" in texts(make_run(rows_of("train/loss", [1, math.nan])))


def test_divergence_is_ten_times_the_best(make_run):
    assert "diverged" in codes(make_run(rows_of("train/loss", [5.0, 1.0, 11.0])))
    assert "diverged" not in codes(make_run(rows_of("train/loss", [5.0, 1.0, 9.0]), name="b"))


def test_one_odd_batch_is_no_divergence(make_run):
    rows = rows_of("train/loss", [5.0, *[1.0] * 30, 40.0], every=1)
    assert "diverged" not in codes(make_run(rows))


def test_spikes_that_training_flagged_are_one_line(make_run):
    rows = rows_of("train/loss", [5.0, 1.0, 1.0])
    flagged = [
        {"kind": "event", "step": 100, "event": "spike", "spike_step": 90 + n, "loss": loss, "median": 1.0}
        for n, loss in enumerate([8.0, 9.5, "x"])
    ]
    said = texts(make_run([*rows, *flagged]))
    assert "the loss jumped 2 times, most at step 91: 9.50, usual was 1.00 (train)" in said
    assert "jumped once, at step 90: 8.00" in texts(make_run([*rows, flagged[0]], name="b"))


def test_rank_collapse(make_run):
    text = texts(make_run(rows_of("validation/effective_rank", [100.0, 12.0], "validation")))
    assert "target embeddings collapsed: effective rank 12.0 of 256 (validation)" in text


def test_rank_above_the_threshold_is_no_collapse(make_run):
    assert "collapse" not in codes(
        make_run(rows_of("validation/effective_rank", [100.0, 13.0], "validation"))
    )


def test_spread_collapse(make_run):
    folder = make_run(rows_of("validation/embedding_std", [1.0, 0.09], "validation"))
    assert "embeddings shrank" in texts(folder)


def test_forgetting_encoder(make_run):
    row = {"kind": "train", "step": 50, "train/term/reconstruction": 2.0, "train/term/embedding": 0.28}
    assert "the encoder forgets the text to be easy to predict" in texts(make_run([row]))


def test_overfit_needs_train_to_fall(make_run):
    held_out = rows_of("validation/embedding", [100.0, 90.0, 95.0], "validation")
    falling = rows_of("train/term/embedding", [100.0, 80.0, 60.0])
    rising = rows_of("train/term/embedding", [60.0, 80.0, 100.0])
    assert "validation embedding 95.0 is over its best 90.0 of step 100" in texts(
        make_run(held_out + falling)
    )
    assert "overfit" not in codes(make_run(held_out + rising, name="b"))


def test_conditional_mean(make_run):
    row = {"kind": "validation", "step": 5, "validation/generation_ce": 2.6}
    bad = {**row, "validation/reconstruction_accuracy": 0.99, "validation/generation_accuracy": 0.2}
    good = {**bad, "validation/generation_accuracy": 0.6}
    assert "one-shot text is the conditional mean (generation CE 2.60, accuracy 20.0 %" in texts(
        make_run([bad])
    )
    assert "conditional-mean" not in codes(make_run([good], name="b"))
    light = {"model": {"decoder": {"kind": "local"}}}
    assert "conditional-mean" not in codes(make_run([bad], name="c", config=light))


def test_prediction_no_better_than_a_copy(make_run):
    row = {"kind": "validation", "step": 5, "validation/r2": 0.1}
    row |= {"validation/embedding_mean": 250.0, "validation/embedding_copy": 200.0}
    assert "no better than a copy of the source (R2 0.200): R2 0.100" in texts(make_run([row]))


def test_of_a_predictor_with_noise_only_the_prediction_is_judged(make_run):
    row = {"kind": "validation", "step": 5, "validation/generation_ce": 9.0, "validation/r2": -0.5}
    row |= {"validation/reconstruction_accuracy": 0.99, "validation/generation_accuracy": 0.2}
    noise = {"model": {"predictor": {"noise": "gumbel"}}}  # in validation the noise of the held-out text
    judged = {"conditional-mean", "no-prediction"}
    assert judged & set(codes(make_run([row], config=noise, name="t"))) == {"no-prediction"}
    assert judged & set(codes(make_run([row], config={}, name="b"))) == judged


def test_another_distance_is_held_against_its_own_validation_and_no_squared_one(make_run):
    cosine = {"objective": {"embedding": {"distance": "cosine"}}}
    described = [term("reconstruction"), term("embedding", "1 - cosine", "embedding_distance")]
    row = {"kind": "train", "step": 50, "train/term/reconstruction": 2.0, "train/term/embedding": 0.5}
    assert "collapse" not in codes(make_run([row], config=cosine, terms=described))
    held_out = rows_of("validation/embedding", [100.0, 90.0, 95.0], "validation")
    distance = rows_of("validation/embedding_distance", [2.2, 2.0, 2.3], "validation")
    falling = rows_of("train/term/embedding", [3.0, 2.5, 2.0])
    assert "overfit" not in codes(make_run(held_out + falling, config=cosine, name="b", terms=described))
    assert "validation embedding 2.30 is over" in texts(
        make_run(distance + falling, config=cosine, name="c", terms=described)
    )


def test_silent_term_names_its_last_step_and_what_it_still_does(make_run):
    values = [0.3, 0.01] + [0.0001] * 8
    rows = rows_of("train/share/reconstruction", values)
    for row in rows:
        row |= {"train/share/length": 0.6, "train/share/embedding": 0.4}
        row["train/grad_norm_encoder/reconstruction"] = 0.1
    text = texts(make_run(rows))
    assert "reconstruction has not contributed since step 100 (under 0.5 % of the train loss)" in text
    assert "yet is all of the gradient on the encoder" in text
    assert "length has not" not in text


def test_a_term_of_weight_zero_is_not_called_silent(make_run):
    rows = rows_of("train/share/generation", [0.0] * 5)
    assert "silent" not in codes(make_run(rows))


def test_dominating_term(make_run):
    rows = rows_of("train/share/embedding", [0.95] * 4)
    for row in rows:
        row["train/share/length"] = 0.05
    assert "embedding dominates: 95.0 % of the loss (train, steps 101 to 200)" in texts(make_run(rows))


def test_volatile_term(make_run):
    rows = healthy_rows(1000)
    assert "length is volatile: it varies by 56.6 % of its mean" in texts(make_run(rows))
    assert "embedding is volatile" not in texts(make_run(rows, name="b"))
