"""Texts of random pieces of the training text, as controls of a scorer."""

from jepalm.evaluation.text.chunks import CHARACTERS, chunk_texts

TRAINING = "the cat sat on the mat and the dog ran off to see what the other animals did there. " * 3


def test_pieces_are_of_the_training_text_and_texts_have_their_lengths():
    made = chunk_texts(TRAINING, [40, 7, 64], seed=0)
    for n in CHARACTERS:
        texts = made[f"training chunks of {n}"]
        assert [len(text) for text in texts] == [40, 7, 64]
        assert all(text[at : at + n] in TRAINING for text in texts for at in range(0, len(text), n))


def test_pieces_of_words_begin_with_a_word_and_are_long_enough():
    words = set(TRAINING.split())
    made = chunk_texts(TRAINING, [200], seed=1)
    assert set(made["training words"][0].split()[:-1]) <= words  # the last one is cut
    assert made["training words, 16 or more characters"][0][:16] in TRAINING


def test_a_seed_repeats_them():
    assert chunk_texts(TRAINING, [30], seed=2) == chunk_texts(TRAINING, [30], seed=2)
