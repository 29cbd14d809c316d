import pytest

from jepalm.data.backbone_tokenizer import load_backbone_tokenizer
from jepalm.data.tokenizer import TextTokenizer, parse_tokenizer
from jepalm.errors import UsageError

KINDS = ["llama", "gemma"]


@pytest.mark.parametrize("kind", KINDS)
def test_texts_are_cut_as_the_model_cuts_them(backbones, kind):
    ours = load_backbone_tokenizer(backbones[kind])
    text = "the cat ran\n 12 + é <other>"
    theirs = ours.library(text, add_special_tokens=False).input_ids
    assert [ours.order[token] for token in ours.text.encode(text)] == theirs
    assert ours.text.decode(ours.text.encode(text)) == text


def test_an_end_that_pads_too_gets_a_padding_beside_it(backbones):
    ours = load_backbone_tokenizer(backbones["llama"])
    library = ours.library
    assert ours.pad_added
    assert ours.order[:3] == (280, None, 1)  # behind 280 tokens; no unknown; <|stop|>
    assert (library.pad_token_id, library.eos_token_id) == (280, 1)
    assert sorted(token for token in ours.order if token is not None) == list(range(281))


def test_a_padding_of_its_own_is_kept(backbones):
    ours = load_backbone_tokenizer(backbones["gemma"])
    assert not ours.pad_added
    assert ours.order[:4] == (0, 3, 1, 2)  # <pad>, <unk>, <eos>, then <bos>
    assert ours.text.vocab_size == 280


def test_only_a_model_that_wants_a_beginning_has_one_and_the_data_has_none(backbones):
    llama, gemma = (load_backbone_tokenizer(backbones[kind]) for kind in KINDS)
    assert (llama.begin, gemma.begin) == (None, 3)
    assert 3 not in gemma.text.encode("the cat")


@pytest.mark.parametrize(("kind", "text"), [("llama", "a <|stop|> b"), ("gemma", "<bos>a<eos><pad><unk>")])
def test_specials_written_in_a_text_stay_text(backbones, kind, text):
    ours = load_backbone_tokenizer(backbones[kind]).text
    assert ours.decode(ours.encode(text)) == text
    assert not {0, 1, 2} & set(ours.encode(text))


def test_other_tokens_of_the_model_stay_one_token(backbones):
    ours = load_backbone_tokenizer(backbones["llama"])
    (token,) = ours.text.encode("<|start|>")  # a turn's start, put in front of nothing
    assert ours.order[token] == 0


@pytest.mark.parametrize("kind", KINDS)
def test_saved_file_loads_the_same(backbones, kind, tmp_path):
    ours = load_backbone_tokenizer(backbones[kind]).text
    ours.save(tmp_path / "tokenizer.json")
    loaded = TextTokenizer.load(tmp_path / "tokenizer.json")
    assert (loaded.name, loaded.to_json()) == (ours.name, ours.to_json())
    assert loaded.encode("the cat é") == ours.encode("the cat é")


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    with pytest.raises(UsageError, match="cannot load the tokenizer"):
        load_backbone_tokenizer(str(tmp_path))


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        load_backbone_tokenizer(str(tmp_path / "model.gguf"))


def test_without_the_extra_the_way_to_install_it_is_named(monkeypatch):
    monkeypatch.setattr("jepalm.data.backbone_tokenizer.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'jepalm\[hf\]'"):
        load_backbone_tokenizer("some/model")


def test_a_path_or_a_name_with_a_slash_is_a_model(tmp_path):
    assert parse_tokenizer("some/model") == parse_tokenizer(str(tmp_path)) == ("backbone", 0)
