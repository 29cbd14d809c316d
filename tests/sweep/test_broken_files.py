"""Files of a sweep's runs that somebody broke: a line, or made anew, never a traceback."""

import json

import pytest

from jepalm.config import dump
from jepalm.errors import JepalmError
from jepalm.run import RunFolder
from jepalm.sweep.evaluations import EvaluationRequest
from jepalm.sweep.file import read_sweep
from jepalm.sweep.runs import cells_of

REQUEST = EvaluationRequest("validation", 4, 2, 1.0, 0, None, None)
ASKED = REQUEST.asked(8)
BROKEN = {
    "empty": "",
    "a list": "[]",
    "torn": '{"rows": [',
    "rows of numbers": json.dumps({"asked": ASKED, "rows": [1]}),
    "nested": json.dumps({"asked": ASKED, "rows": []})[:-1] + ', "x": ' + "[" * 9000,
    "no facts": json.dumps({"asked": ASKED, "rows": [{"name": "text/x", "controls": {}}]}),
    "infinite": '{"step": Infinity}',
}


@pytest.fixture
def run(tmp_path):
    folder = RunFolder(tmp_path / "sweeps" / "2026-01-01_0000-base-seed0")
    folder.report.mkdir(parents=True)
    folder.update_manifest(step=8, status="finished")
    return folder


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_a_broken_evaluation_is_none_and_a_line_when_it_should_be_there(run, text):
    (run.report / "evaluation-validation.json").write_text(text)
    assert REQUEST.read(run) is None
    if '"asked"' not in text or "[[" in text:
        with pytest.raises(JepalmError, match=r"evaluation-validation\.json cannot be read"):
            REQUEST.mark(run)


def test_runs_with_broken_manifests_and_rows_are_looked_at_without_a_fault(run, tmp_path):
    path = tmp_path / "lab.yaml"
    path.write_text("preset: nano\nseeds: [0]\nmetrics: [validation/r2]\n")
    sweep = read_sweep(path)
    (run.path / "config.yaml").write_text(dump(sweep.reference.config))
    hashes = {sweep.reference.config.data.name: "ab"}
    for sha in (["ab"], {"a": 1}, None, 3):
        run.update_manifest(data={"content_sha256": sha})
        assert [cell.status for cell in cells_of(sweep, tmp_path / "sweeps", hashes, lambda cell: None)] == [
            "missing"
        ]
    run.update_manifest(data={"content_sha256": "ab"}, status=["odd"])
    run.metrics.write_text('[1]\n"event"\n{"kind": "event", "reason": ["not finite"]}\n{"kind"')
    (cell,) = cells_of(sweep, tmp_path / "sweeps", hashes, lambda cell: None)
    assert cell.status == "begun"
    run.metrics.write_text('{"kind": "event", "reason": "not finite"}\n{"kind": "event"')
    (cell,) = cells_of(sweep, tmp_path / "sweeps", hashes, lambda cell: None)
    assert (cell.status, cell.error) == ("failed", "the loss is not finite")
