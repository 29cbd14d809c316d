"""Phases of the training: read from events, and kept apart wherever a loss is compared with itself."""

import pytest
from synthetic_run import phase_event, summary_of

from jepalm.report.analysis.phases import phase_marks, stable_phase, training_phases
from jepalm.report.read import read_run
from jepalm.report.render.blocks import Table
from jepalm.report.render.run import run_document


def loss_rows(losses, every=10, key="train/loss", kind="train"):
    return [{"kind": kind, "step": every * (k + 1), key: value} for k, value in enumerate(losses)]


def two_phases(losses, at, **more):
    return [phase_event(0, "autoencoder", 0), phase_event(at, "predictor", 1), *loss_rows(losses, **more)]


def codes(folder):
    return {verdict.code for verdict in summary_of(folder).verdicts}


def test_a_phase_runs_from_the_step_after_its_event_to_that_of_the_next(make_run):
    phases = training_phases(read_run(make_run(two_phases([1.0] * 5, 20))))
    assert [(phase.name, phase.text) for phase in phases] == [
        ("autoencoder", "steps 1 to 20"),
        ("predictor", "steps 21 to 50"),
    ]


def test_a_phase_that_took_no_step_is_left_out(make_run):
    record = read_run(make_run([*two_phases([1.0] * 5, 20), phase_event(50, "together", 2)]))
    assert [phase.name for phase in training_phases(record)] == ["autoencoder", "predictor"]


def test_a_run_without_events_or_with_one_has_no_marks(make_run):
    assert training_phases(read_run(make_run(loss_rows([1.0])))) == []
    record = read_run(make_run([phase_event(0, "all", 0), *loss_rows([1.0])], name="b"))
    assert (len(training_phases(record)), phase_marks(record)) == (1, [])


def test_a_phase_beyond_the_checkpoint_of_a_resume_is_forgotten(make_run):
    resumed = {"kind": "event", "step": 20, "event": "resumed"}
    rows = [*two_phases([1.0] * 5, 40), resumed, phase_event(30, "predictor", 1), *loss_rows([1.0] * 5)]
    assert phase_marks(read_run(make_run(rows))) == [(1, "autoencoder"), (31, "predictor")]


def test_the_stable_phase_lies_in_the_last_phase(make_run):
    rows = two_phases([1.0] * 10, 40)
    first = stable_phase(read_run(make_run(rows, steps_per_epoch=20)))
    assert (first.text, first.name) == ("steps 61 to 100", "after the first epoch of phase predictor")
    half = stable_phase(read_run(make_run(rows, name="b", steps_per_epoch=60)))
    assert (half.text, half.name) == (
        "steps 71 to 100",
        "second half of phase predictor, which has no second epoch",
    )


def test_a_loss_of_another_phase_is_no_divergence(make_run):
    assert "diverged" not in codes(make_run(two_phases([1.0, 1.0, 50.0, 45.0, 40.0], 20)))
    assert "diverged" in codes(make_run(two_phases([1.0, 1.0, 1.0, 1.0, 40.0], 20), name="b"))


def test_a_validation_loss_of_another_phase_is_no_overfit(make_run):
    held_out = loss_rows([1.0, 1.0, 50.0, 45.0], key="validation/loss", kind="validation")
    assert "overfit" not in codes(make_run([*two_phases([5.0, 4.0, 3.0, 2.0], 20), *held_out]))


def test_each_phase_has_its_own_composition(make_run):
    shares = [(1.0, 0.0), (1.0, 0.0), (0.5, 0.5), (0.1, 0.9)]
    rows = [
        {"kind": "train", "step": 10 * (k + 1), "train/share/reconstruction": a, "train/share/length": b}
        for k, (a, b) in enumerate(shares)
    ]
    events = [phase_event(0, "autoencoder", 0), phase_event(20, "predictor", 1)]
    summary = summary_of(make_run([*events, *rows]))
    (table,) = [
        block
        for block in run_document(summary, drawn=False).blocks
        if isinstance(block, Table) and block.header[0] == "phase"
    ]
    assert (table.header, table.rows) == (
        ["phase", "steps", "reconstruction", "length"],
        [
            ["autoencoder", "steps 1 to 20", "100.0 %", "0.0 %"],
            ["predictor", "steps 21 to 40", "30.0 %", "70.0 %"],
        ],
    )
    second = summary.as_json()["phases"][1]
    assert second["composition"] == pytest.approx({"reconstruction": 0.3, "length": 0.7})
