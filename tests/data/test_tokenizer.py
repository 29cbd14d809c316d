from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jepalm.data.tokenizer import (
    FIXED_ALPHABET,
    TextTokenizer,
    bpe_tokenizer,
    byte_tokenizer,
    char_tokenizer,
    parse_tokenizer,
    whitespace_tokenizer,
    with_mask,
    word_tokenizer,
)
from jepalm.errors import UsageError

SAMPLE = ["the cat sat on the mat, then the cat ran <unk><unk> <end>\n"] * 50
CHAR, BYTE, BPE = char_tokenizer(), byte_tokenizer(), bpe_tokenizer(275, SAMPLE)
WORD = word_tokenizer(265, SAMPLE)
WHITESPACE = whitespace_tokenizer(262, ["K AE1 T", "AE1 K T", "T cat"])
ALL = [CHAR, BYTE, BPE, WORD]
plain = st.text(st.sampled_from(FIXED_ALPHABET))
any_text = st.text(st.characters(exclude_categories=["Cs"]))


def test_fixed_alphabet_has_97_symbols_and_the_vocabulary_100():
    assert (len(FIXED_ALPHABET), CHAR.vocab_size) == (97, 100)


def test_specials_then_tab_newline_and_space_come_first():
    assert CHAR.encode("\t\n a") == [3, 4, 5, 70]


def test_vocabulary_of_bytes_is_256_and_specials():
    assert (BYTE.vocab_size, BYTE.encode("\0é")) == (259, [3, 3 + 0xC3, 3 + 0xA9])


def test_bpe_learns_frequent_words():
    assert BPE.vocab_size == 275
    assert BPE.name == "bpe:275"
    assert len(BPE.encode("the cat")) <= 3


def test_words_are_one_token_each_and_the_most_frequent_ones():
    assert (WORD.vocab_size, WORD.name) == (265, "word:265")  # 259 bytes and specials, and six words:
    learned = {WORD.decode([token]) for token in range(259, 265)}
    assert learned == {"the", " the", " cat", "end", " <", "unk"}
    assert len(WORD.encode("the cat, the cat")) == 5
    assert len(WORD.encode("the cat ran")) == 2 + 4  # " ran" is no entry: its bytes


def test_digits_are_words_and_other_characters_stand_alone():
    learned = word_tokenizer(300, ["floor 12, door_a@@ -\n 7b"])
    pieces = [learned.decode([token]) for token in learned.encode("floor 12, door_a@@ -\n 7b")]
    assert pieces == ["floor", " 12", ",", " door", "_", "a", "@", "@", " -", "\n", " 7", "b"]


def test_a_symbol_between_blanks_is_the_same_token_wherever_it_stands():
    assert WHITESPACE.name == "whitespace:262"
    assert [sorted(WHITESPACE.encode(text)) for text in ("K AE1 T", "T K AE1")] == [[259, 260, 261]] * 2
    assert WHITESPACE.decode(WHITESPACE.encode("K AE1 T")) == "K AE1 T"
    assert len(WHITESPACE.encode("cat")) == 1 + 3  # the blank before it, and its bytes


def test_a_sample_of_few_words_gives_fewer_entries():
    assert word_tokenizer(400, ["on off"]).name == "word:261"


@given(plain)
def test_char_round_trip_is_exact(text: str):
    assert CHAR.decode(CHAR.encode(text)) == text
    assert len(CHAR.encode(text)) == len(text)


@given(any_text)
@settings(max_examples=50)
def test_all_but_char_round_trip_any_text(text: str):
    assert BYTE.decode(BYTE.encode(text)) == text
    assert WORD.decode(WORD.encode(text)) == text
    assert BPE.decode(BPE.encode(text)) == text
    assert WHITESPACE.decode(WHITESPACE.encode(text)) == text


@given(any_text)
@settings(max_examples=50)
def test_fast_encoding_equals_the_library(text: str):
    for tokenizer in ALL:
        assert tokenizer.encode_flat(text).tolist() == tokenizer.encode(text)
        ids, lengths = tokenizer.encode_texts([text, "ab\n", text])
        encoded = [tokenizer.encode(one) for one in (text, "ab\n", text)]
        assert ids.tolist() == [token for one in encoded for token in one]
        assert lengths.tolist() == [len(one) for one in encoded]


@given(st.lists(any_text.map(lambda text: text.replace("\n", " "))))
@settings(max_examples=50)
def test_lines_are_encoded_one_by_one(lines: list[str]):
    for tokenizer in ALL:
        ids, lengths = tokenizer.encode_lines("".join(f"{line}\n" for line in lines))
        encoded = [tokenizer.encode(f"{line}\n") for line in lines]
        assert ids.tolist() == [token for line in encoded for token in line]
        assert lengths.tolist() == [len(line) for line in encoded]


@pytest.mark.parametrize("tokenizer", ALL, ids=lambda tokenizer: tokenizer.name)
def test_specials_written_in_a_text_stay_text(tokenizer: TextTokenizer):
    text = "a<end><unk> <pad>"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert not {0, 1, 2} & set(tokenizer.encode(text))


@pytest.mark.parametrize("tokenizer", [*ALL, WHITESPACE], ids=lambda tokenizer: tokenizer.name)
def test_saved_file_loads_with_name_and_ids(tokenizer: TextTokenizer, tmp_path: Path):
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = TextTokenizer.load(tmp_path / "tokenizer.json")
    assert loaded.name == tokenizer.name
    assert loaded.encode("the cat\n\t x") == tokenizer.encode("the cat\n\t x")


def test_characters_outside_the_alphabet_become_unknown_one_by_one():
    assert CHAR.encode("aéé") == [70, 1, 1]
    assert CHAR.unknown_characters("aéλé\r") == ["\r", "é", "λ"]
    assert BYTE.unknown_characters("é") == []


def test_decoding_skips_specials_and_mends_broken_bytes():
    assert CHAR.decode([70, 2, 0, 71]) == "ab"
    assert BYTE.decode([3 + 0xC3]) == "\ufffd"


@pytest.mark.parametrize(
    "spec", ["words", "word", "word:9", "bpe", "bpe:10", "bpe:-4", "bpe:9999999999", "bpe:2000000"]
)
def test_tokenizers_out_of_range_are_refused(spec: str):
    with pytest.raises(UsageError, match="tokenizer"):
        parse_tokenizer(spec)


def test_file_without_the_specials_is_no_tokenizer(tmp_path: Path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UsageError, match="not a tokenizer file"):
        TextTokenizer.load(tmp_path / "tokenizer.json")


@pytest.mark.parametrize("tokenizer", ALL, ids=lambda tokenizer: tokenizer.name)
def test_a_mask_is_one_more_last_entry_and_changes_no_other(tokenizer: TextTokenizer, tmp_path: Path):
    masked = with_mask(tokenizer)
    text = "the cat <mask> sat\n"
    assert (masked.mask_id, masked.vocab_size) == (tokenizer.vocab_size, tokenizer.vocab_size + 1)
    assert masked.encode(text) == tokenizer.encode(text) == masked.encode_flat(text).tolist()
    assert masked.decode([*masked.encode(text), masked.mask_id]) == text
    assert masked.special_ids == [0, 1, 2, masked.mask_id]
    masked.save(tmp_path / "tokenizer.json")
    loaded = TextTokenizer.load(tmp_path / "tokenizer.json")
    assert (loaded.name, loaded.mask_id) == (tokenizer.name, masked.mask_id)


def test_other_tokenizers_have_no_mask():
    assert [tokenizer.mask_id for tokenizer in ALL] == [None] * len(ALL)
    assert CHAR.special_ids == [0, 1, 2]


def test_hidden_tokens_are_shown_as_underscores():
    masked = with_mask(CHAR)
    ids = masked.encode("to be")
    ids[1:3] = [masked.mask_id] * 2
    ids[4] = masked.mask_id
    assert masked.show(ids) == "t__b_"
    assert masked.decode(ids) == "tb"
