import numpy as np
import pytest

from jepalm.report.analysis.phases import stable_phase
from jepalm.report.analysis.run import composition, epoch_means, moving_average, shares, speed, variation
from jepalm.report.read import read_run
from jepalm.report.rules.findings import embedding_finding, length_finding, reconstruction_finding


def batch_rows(term, values, every=10):
    """Rows that carry one term's value of each step, from step 1."""
    return [
        {"kind": "train", "step": k + every, "batches": {term: list(values[k : k + every])}}
        for k in range(0, len(values), every)
    ]


def share_rows(*triples):
    return [
        {"kind": "train", "step": step, "train/share/embedding": a, "train/share/length": b}
        for step, a, b in triples
    ]


def test_stable_phase_begins_after_the_first_epoch(make_run):
    phase = stable_phase(read_run(make_run(share_rows((10, 1, 0), (40, 1, 0)), steps_per_epoch=20)))
    assert (phase.text, phase.name) == ("steps 21 to 40", "after the first epoch")


def test_stable_phase_of_one_epoch_is_its_second_half(make_run):
    phase = stable_phase(read_run(make_run(share_rows((20, 1, 0)), steps_per_epoch=20)))
    assert phase.text == "steps 11 to 20"


def test_no_rows_have_no_stable_phase(make_run):
    assert stable_phase(read_run(make_run([]))) is None


def test_composition_weighs_each_log_point_by_its_steps(make_run):
    # The last row covers 10 steps, the one before 20: (2 * 0.6 + 0.9) / 3 = 0.7.
    rows = share_rows((20, 0.1, 0.9), (40, 0.6, 0.4), (50, 0.9, 0.1))
    record = read_run(make_run(rows, steps_per_epoch=20))
    assert composition(record, stable_phase(record)) == pytest.approx({"embedding": 0.7, "length": 0.3})


def test_shares_that_were_not_written_come_from_the_weighted_terms(make_run):
    row = {"kind": "train", "step": 5, "train/term/embedding": 30.0, "train/term/length": 10.0}
    record = read_run(make_run([{**row, "train/weight/length": 2.0}], config={}))
    assert {t: s.last for t, s in shares(record).items()} == pytest.approx({"embedding": 0.6, "length": 0.4})


def test_moving_average_is_trailing_and_leaves_out_what_is_not_finite():
    values = np.array([1.0, 3.0, np.nan, 5.0])
    assert moving_average(values, 2).tolist() == [1.0, 2.0, 3.0, 5.0]


def test_epoch_means_need_half_of_the_epoch(make_run):
    record = read_run(
        make_run(batch_rows("embedding", [4.0] * 20 + [2.0] * 10 + [1.0] * 10), steps_per_epoch=20)
    )
    assert {k: s.mean for k, s in epoch_means(record, "embedding").items()} == {1: 4.0, 2: 1.5}
    record = read_run(make_run(batch_rows("embedding", [4.0] * 24, 8), name="b", steps_per_epoch=20))
    assert list(epoch_means(record, "embedding")) == [1]


def test_variation_is_the_standard_deviation_over_the_mean():
    assert variation(np.array([1.0, 3.0])) == 0.5
    assert variation(np.array([1.0])) is None


def test_finding_1_is_the_mean_of_steps_476_to_500(make_run):
    values = [1.0] * 475 + [0.02] * 25 + [0.01] * 100
    finding = reconstruction_finding(read_run(make_run(batch_rows("reconstruction", values, 25))))
    assert finding.values == {
        "ce": pytest.approx(0.02),
        "first_step": 476,
        "last_step": 500,
        "highest_after": pytest.approx(0.01),
    }
    assert finding.word == "reproduced"
    assert "mean of steps 476 to 500" in finding.measured


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([0.2] * 600, "not reproduced"),
        ([0.01] * 600 + [0.2] * 50, "not reproduced"),
        ([0.2] * 200, "cannot tell (needs 500 steps)"),
        ([0.01] * 200, "reproduced"),
    ],
)
def test_finding_1_words(make_run, values, verdict):
    finding = reconstruction_finding(read_run(make_run(batch_rows("reconstruction", values, 25))))
    assert f"{finding.word} ({finding.why})".startswith(verdict)


def test_finding_1_of_a_short_run_says_that_it_used_the_last_steps(make_run):
    finding = reconstruction_finding(read_run(make_run(batch_rows("reconstruction", [0.01] * 100))))
    assert "mean of steps 76 to 100, the run's last" in finding.measured


def test_finding_1_without_per_batch_values_uses_the_log_point(make_run):
    rows = [
        {"kind": "train", "step": s, "train/term/reconstruction": v} for s, v in ((490, 0.03), (520, 0.01))
    ]
    finding = reconstruction_finding(read_run(make_run(rows)))
    assert (finding.values["ce"], finding.values["highest_after"]) == (0.03, 0.01)
    assert "log point of step 490" in finding.measured


@pytest.mark.parametrize(
    ("last", "control", "verdict"),
    [(181.0, 256.0, "reproduced"), (235.0, 256.0, "not reproduced"), (100.0, 256.0, "not reproduced")],
)
def test_finding_2_words(make_run, last, control, verdict):
    rows = batch_rows("embedding", [242.0] * 20 + [last] * 20)
    rows.append(
        {"kind": "validation", "step": 40, "validation/embedding_mean": control, "validation/r2": 0.1}
    )
    finding = embedding_finding(read_run(make_run(rows, steps_per_epoch=20)))
    assert finding.word == verdict
    assert finding.values["change"] == pytest.approx(last / 242 - 1)
    assert (finding.values["first"], finding.values["last"], finding.values["r2"]) == (242.0, last, 0.1)


def test_finding_2_without_validation_compares_with_dim_when_targets_are_normalised(make_run):
    rows = batch_rows("embedding", [242.0] * 20 + [181.0] * 20)
    finding = embedding_finding(read_run(make_run(rows, steps_per_epoch=20)))
    assert (finding.word, finding.values["predicting_the_mean"]) == ("reproduced", 256.0)


def test_finding_2_needs_two_epochs(make_run):
    finding = embedding_finding(read_run(make_run(batch_rows("embedding", [242.0] * 20), steps_per_epoch=20)))
    assert (finding.word, finding.why) == ("cannot tell", "needs 40 steps")


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([1.0, 1000.0] * 200, "reproduced"),
        ([100.0, 110.0] * 200, "not reproduced"),
        ([200.0, 1000.0] * 125 + [2.0, 10.0] * 75, "not reproduced"),
        ([1.0, 1000.0] * 20, "cannot tell (needs 200 steps with per-batch values)"),
    ],
)
def test_finding_3_words(make_run, values, verdict):
    record = read_run(make_run(batch_rows("length", values), steps_per_epoch=100))
    finding = length_finding(record, stable_phase(record))
    assert f"{finding.word} ({finding.why})".startswith(verdict)


def test_finding_3_gives_range_and_variation(make_run):
    record = read_run(make_run(batch_rows("length", [100.0, 300.0] * 200), steps_per_epoch=100))
    values = length_finding(record, stable_phase(record)).values
    assert (values["min"], values["max"], values["variation"]) == (100.0, 300.0, 0.5)


def test_speed_beside_the_article_is_steps_a_second(make_run):
    # The article: 25,000 steps in 8.6 h. 2,500 steps in 0.086 h are ten times as fast.
    measured = speed(read_run(make_run(batch_rows("length", [1.0] * 2500, 25), seconds=309.6)))
    assert (measured.times_article, measured.same_size) == (pytest.approx(10.0), True)


def test_time_of_a_run_without_seconds_is_that_of_its_last_row(make_run):
    rows = [{"kind": "train", "step": 50, "time": 5.0, "train/loss": 1.0}]
    measured = speed(read_run(make_run(rows, seconds=None)))
    assert (measured.seconds, measured.steps_per_second) == (5.0, 10.0)
