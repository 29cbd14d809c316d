import pytest

from jepalm.errors import UsageError
from jepalm.generation.loading import TrainedModel
from jepalm.generation.prompts import next_source, read_action, read_prompt, read_prompts


@pytest.mark.parametrize(
    ("prompt", "read", "notes"),
    [
        ("ab", "ab\n", 0),
        ("ab\n", "ab\n", 0),
        ("", "\n", 0),
        ("\n", "\n", 0),
        ("ab\ncd", "cd\n", 1),
        ("ab\ncd\n", "cd\n", 1),
        ("ab\n\n", "\n", 1),
    ],
)
def test_a_model_of_lines_reads_the_last_line_with_its_end(
    lines: TrainedModel, prompt: str, read: str, notes: int
):
    source = read_prompt(lines, prompt)
    assert lines.tokenizer.decode(source.ids) == read
    assert len(source.notes) == notes


def test_a_long_prompt_keeps_its_last_tokens_and_says_so(lines: TrainedModel):
    source = read_prompt(lines, "a" * 20 + "bcd")
    assert lines.tokenizer.decode(source.ids) == "a" * 8 + "bcd\n"
    assert source.notes == ["the prompt has 24 tokens: the model reads the last 12, the first 12 are cut"]


def test_unknown_characters_are_named_with_their_code_points(lines: TrainedModel):
    with pytest.raises(UsageError, match=r"outside the model's alphabet: .*'é' \(U\+00E9\)") as caught:
        read_prompt(lines, "aé☃zy")
    assert "and 1 more" in str(caught.value)


def test_a_model_of_windows_needs_a_prompt_and_reads_it_as_it_is(windows: TrainedModel):
    with pytest.raises(UsageError, match="the prompt is empty"):
        read_prompt(windows, "")
    assert windows.tokenizer.decode(read_prompt(windows, "a\nb").ids) == "a\nb"


def test_each_of_many_prompts_is_read_and_a_bad_one_named(lines: TrainedModel):
    assert [one.ids for one in read_prompts(lines, ["ab", "cd"])] == [
        read_prompt(lines, text).ids for text in ("ab", "cd")
    ]
    with pytest.raises(UsageError, match="prompt 2: the prompt has characters outside"):
        read_prompts(lines, ["ab", "é"])
    with pytest.raises(UsageError, match="there are no prompts"):
        read_prompts(lines, [])


def test_the_next_source_of_windows_is_source_and_passage(windows: TrainedModel):
    assert next_source(windows, [5, 6, 7], [8, 9]) == [5, 6, 7, 8, 9]


def test_the_next_source_of_lines_is_the_last_line_written(lines: TrainedModel):
    source, encode = lines.tokenizer.encode("ab\n"), lines.tokenizer.encode
    assert next_source(lines, source, encode("cd\nea")) == encode("ea\n")


def test_a_run_without_actions_reads_none(lines: TrainedModel):
    assert read_action(lines, None) is None
    with pytest.raises(UsageError, match="was trained without actions"):
        read_action(lines, "open the door")
