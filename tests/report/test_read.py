import math

import pytest
from synthetic_run import term, train_row, validation_row

from jepalm.report.plots.run import curves
from jepalm.report.read import TermRecord, read_run


def test_torn_last_line_is_left_out_and_told(make_run):
    record = read_run(make_run([train_row(25), train_row(50)], tail='{"kind":"train","step":7'))
    assert [row["step"] for row in record.train] == [25, 50]
    assert record.problems == ["metrics.jsonl: the last line is torn and was left out"]


def test_unreadable_lines_are_counted(make_run):
    record = read_run(make_run([train_row(25)], tail='junk\n[1]\n{"kind":"train"}\n'))
    assert len(record.train) == 1
    assert record.problems == ["metrics.jsonl: 3 unreadable lines left out, first line 2"]


def test_of_repeated_steps_the_last_row_of_each_kind_wins(make_run):
    rows = [train_row(25), validation_row(25), train_row(25, **{"train/loss": 7.0})]
    record = read_run(make_run(rows))
    assert record.series("train/loss").value.tolist() == [7.0]
    assert len(record.validation) == 1


def test_rows_beyond_the_checkpoint_of_a_resume_are_forgotten(make_run):
    rows = [train_row(25), train_row(50), train_row(75), {"kind": "event", "step": 25, "event": "resumed"}]
    record = read_run(make_run([*rows, train_row(50, **{"train/loss": 7.0})]))
    assert record.series("train/loss").step.tolist() == [25, 50]
    assert record.series("train/loss").last == 7.0
    assert record.batches["embedding"].step.tolist() == list(range(1, 51))


def test_batches_stand_at_their_own_steps(make_run):
    rows = [{"kind": "train", "step": step, "batches": {"length": values}} for step, values in
            [(2, [10, 20]), (5, [30, 40, 50])]]  # fmt: skip
    series = read_run(make_run(rows)).batches["length"]
    assert series.step.tolist() == [1, 2, 3, 4, 5]
    assert series.value.tolist() == [10, 20, 30, 40, 50]


def test_terms_come_in_the_manifest_s_order_and_others_as_they_were_logged(make_run):
    row = {"kind": "train", "step": 1, "train/share/length": 1, "train/term/generation": 1}
    row |= {"train/term/zeta": 1, "train/term/alpha": 1}
    described = [term("embedding"), term("generation", "nats a token", nats=True), term("length")]
    terms = read_run(make_run([row], terms=described)).terms
    assert list(terms) == ["generation", "length", "zeta", "alpha"]
    assert (terms["generation"].label, terms["generation"].unit) == ("generation loss", "nats a token")
    assert (terms["generation"].nats, terms["length"].nats, terms["zeta"].nats) == (True, False, None)


def test_a_run_whose_manifest_does_not_describe_its_terms_has_their_names_alone(make_run):
    rows = [train_row(25), validation_row(25)]
    record = read_run(make_run(rows, terms=...))
    assert record.terms["embedding"] == TermRecord("embedding", "embedding")
    assert len(record.held_out("embedding")) == 0


@pytest.mark.parametrize(
    ("name", "key"), [("intermediate_logits", "intermediate_logits_ce"), ("local", "local_ce")]
)
def test_a_term_is_validated_under_the_key_that_the_manifest_names(make_run, name, key):
    held_out = {"kind": "validation", "step": 1, f"validation/{key}": 2.5}
    rows = [{"kind": "train", "step": 1, f"train/term/{name}": 1.0}, held_out]
    record = read_run(make_run(rows, terms=[term(name, "nats a token", key, nats=True)]))
    assert record.held_out(name).value.tolist() == [2.5]
    assert ">validation<" in curves(record).svg


def test_not_a_number_is_kept_and_null_is_absent(make_run):
    rows = [
        {"kind": "train", "step": step, "train/loss": v} for step, v in ((1, math.nan), (2, None), (3, 1.0))
    ]
    series = read_run(make_run(rows)).series("train/loss")
    assert series.step.tolist() == [1, 3]
    assert math.isnan(series.value[0])


def test_a_config_of_another_version_is_read_as_it_is(make_run):
    record = read_run(make_run([], config={"model": {"dim": 8, "unheard_of": 1}}))
    assert (record.dim, record.setting("model.unheard_of"), record.problems) == (8, 1, [])


def test_a_damaged_manifest_and_config_are_told(make_run):
    folder = make_run([], config=": : [")
    (folder / "manifest.json").write_text("{")
    record = read_run(folder)
    assert len(record.problems) == 2
    assert record.status == "unknown"


def test_steps_an_epoch_come_from_the_rows_when_nothing_else_knows(make_run):
    folder = make_run([train_row(25, epoch=0.1)], config={}, steps_per_epoch=...)
    assert read_run(folder).steps_per_epoch == 250


def test_an_empty_metrics_file_and_none_at_all_are_runs(make_run):
    assert read_run(make_run([])).train == []
    assert read_run(make_run(None, name="other")).train == []


def test_repeated_samples_keep_the_last(make_run):
    samples = [{"step": 5, "source": "a", "generated": text} for text in ("x", "y")]
    assert [s.generated for s in read_run(make_run([], samples)).samples] == ["y"]


def test_fields_of_a_wrong_type_are_no_fault(make_run):
    row = {
        "kind": "train",
        "step": 5.0,
        "train/loss": [1],
        "batches": {"length": 3},
        "train/term/length": True,
    }
    folder = make_run([row], manifest_version=2, parameters="many", resumed=7, data="lines", argv=None)
    record = read_run(folder)
    assert (record.step, len(record.series("train/loss")), record.batches) == (5, 0, {})
