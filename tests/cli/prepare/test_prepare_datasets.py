import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from jepalm.cli.prepare import output, prepare_app
from jepalm.errors import JepalmError

Run = Callable[..., Result]

pytestmark = pytest.mark.usefixtures("no_hub")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JEPALM_DATA", raising=False)
    return lambda *arguments: CliRunner().invoke(prepare_app, [*arguments])


def labelled(output: str) -> dict[str, str]:
    return {line[:9].strip(): line[9:].strip() for line in output.splitlines()}


def write(folder: str, name: str, texts: list[str]) -> None:
    from pyarrow import parquet, table

    Path(folder).mkdir(exist_ok=True)
    parquet.write_table(table({"text": texts}), f"{folder}/{name}.parquet")


def pages(n: int = 400) -> list[str]:
    return [f"page {k} of many words" for k in range(n)]


def test_wikitext_from_a_folder_keeps_its_splits(run: Run):
    for name, n in (("train", 30), ("validation", 4), ("test", 5)):
        write("copy", name, [row for k in range(n) for row in ("", f" = {k} = \n", "", " A line . \n")])
    result = run("wikitext-103", "--from", "copy", "--tokenizer", "bpe:280")
    assert result.exit_code == 0
    said = labelled(result.output)
    assert said["opening"] == "copy, config wikitext-103-raw-v1, column text"
    assert said["documents"] == "30 train / 4 validation / 5 test; as the dataset has them"
    assert said["pairs"].startswith("windows: ")
    assert re.fullmatch(r"data/wikitext-103  \(.* kB, .* s, .*B/s\)", said["wrote"])
    assert said["next"] == "jepalm train --data wikitext-103"
    meta = json.loads(Path("data/wikitext-103/meta.json").read_text())
    assert meta["licence"] == "CC BY-SA 3.0 and GFDL"
    assert meta["origin"]["source"] == "dataset in a folder"
    again = run("dataset", "wikitext-103", "--from", "copy", "--tokenizer", "bpe:280")
    assert "data/wikitext-103 is already prepared" in again.output


def test_openwebtext_from_a_folder_takes_held_out_pages_from_train(run: Run):
    write("copy", "part-0", pages())
    result = run("openwebtext", "--from", "copy", "--tokenizer", "byte", "--split", "80/10/10")
    counts = re.fullmatch(
        r"(\d+) train / (\d+) validation / (\d+) test; validation and test taken from train",
        labelled(result.output)["documents"],
    )
    assert counts
    assert sum(map(int, counts.groups())) == 400


def test_the_second_time_is_a_no_op_that_opens_nothing(run: Run, monkeypatch: pytest.MonkeyPatch):
    write("copy", "part-0", pages())
    arguments = ("dataset", "copy", "--tokenizer", "byte", "--split", "80/10/10")
    run(*arguments)
    monkeypatch.setitem(sys.modules, "datasets", None)
    result = run(*arguments)
    assert "data/copy is already prepared; --force makes it again" in result.output
    with pytest.raises(JepalmError, match="was prepared from another text"):
        raise run("dataset", "other", "--name", "copy", *arguments[2:]).exception


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (("dataset", "copy", "--column", "body"), 2, "copy has no column body (there are: text)"),
        (("dataset", "copy", "--split", "90/10"), 2, "cannot read --split 90/10"),
        (("dataset", "copy", "--tokenizer", "word"), 2, "unknown tokenizer word"),
        (("wikitext-103",), 1, "cannot reach the hub for Salesforce/wikitext"),
        (("openwebtext",), 1, "give the folder of a downloaded copy"),
    ],
)
def test_faults_are_one_clear_line_and_leave_nothing(
    run: Run, arguments: tuple[str, ...], code: int, why: str
):
    write("copy", "part-0", pages(9))
    error = run(*arguments).exception
    assert isinstance(error, JepalmError)
    assert error.exit_code == code
    assert why in str(error)
    assert "\n" not in str(error)
    assert not Path("data").exists()


def test_without_the_extra_one_line_names_it(run: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    error = run("wikitext-103").exception
    assert isinstance(error, JepalmError)
    assert str(error) == "the library datasets is not installed (pip install 'jepalm[hub]')"


def test_elsewhere_than_on_a_terminal_progress_is_a_line_each_half_minute(capsys: pytest.CaptureFixture[str]):
    now = iter([0.0, 10.0, 20.0, 40.0, 50.0, 80.0])
    watch = output._lines(lambda: next(now))
    for done in (0, 10_000_000, 60_000_000, 80_000_000, 150_000_000):
        watch("writing", done, 10_000_000_000)
    assert capsys.readouterr().out.splitlines() == [
        "writing   60 MB of about 10 GB, 2 MB/s, 1 h 23 min left",
        "writing   150 MB of about 10 GB, 2.14 MB/s, 1 h 17 min left",
    ]


def test_pairs_of_a_task_from_a_folder_keep_its_test_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("copy").mkdir()
    for name, n in (("train", 20), ("test", 3)):
        rows = [json.dumps({"question": f"1 + {k}", "answer": f"#### {k + 1}"}) for k in range(n)]
        Path("copy", f"{name}.jsonl").write_text("\n".join(rows))
    arguments = ["pairs", "--from", "copy", "--task", "gsm8k", "--name", "sums"]
    said = labelled(CliRunner().invoke(prepare_app, arguments).output)
    assert said["pairs"].startswith("pairs: 19 train / 1 validation / 3 test")
    meta = json.loads(Path("data/sums/meta.json").read_text())
    assert (meta["request"]["task"], meta["origin"]["source"]) == ("gsm8k", "dataset in a folder")
    assert "already prepared" in CliRunner().invoke(prepare_app, arguments).output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either a file of pairs or --from"),
        (["rows.jsonl", "--from", "copy"], "give either a file of pairs or --from"),
        (["--from", "copy", "--test", "rows.jsonl"], "--validation and --test do not go with --from"),
        (["rows.jsonl", "--config", "main"], "--config and --revision go with --from"),
    ],
)
def test_pairs_come_from_one_place(arguments: list[str], message: str):
    error = CliRunner().invoke(prepare_app, ["pairs", *arguments]).exception
    assert isinstance(error, JepalmError)
    assert error.exit_code == 2
    assert error.message == message
