"""The Witten-Bell n-gram model against numbers worked out by hand and a plain recursive form."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jepalm.data.ngram import NGram

A, B, C = 0, 1, 2


def probabilities(model, prompt, text):
    return np.exp(-model.nll([prompt], [text])[0])


def recursive(documents, vocab_size, order, context, token):
    """P(token | context) by the formula, context by context."""
    chance = 1 / vocab_size
    for length in range(min(order - 1, len(context)) + 1):
        past = tuple(context[len(context) - length :])
        seen = Counter(
            document[at]
            for document in documents
            for at in range(length, len(document))
            if tuple(document[at - length : at]) == past
        )
        if not seen:
            return chance
        total, types = sum(seen.values()), len(seen)
        chance = (seen[token] + types * chance) / (total + types)
    return chance


def test_a_unigram_is_interpolated_with_the_uniform():
    model = NGram.fit(np.array([A, A, B]), vocab_size=3, order=1)
    # N = 3, T = 2: (2 + 2/3) / 5, (1 + 2/3) / 5, (0 + 2/3) / 5
    assert probabilities(model, [], [A]) == pytest.approx([8 / 15])
    assert probabilities(model, [], [B]) == pytest.approx([5 / 15])
    assert probabilities(model, [], [C]) == pytest.approx([2 / 15])


def test_a_bigram_is_interpolated_with_the_unigram():
    model = NGram.fit(np.array([A, A, B]), vocab_size=2, order=2)
    # unigram (2 + 1) / 5 and (1 + 1) / 5; after A came A and B once each: N = 2, T = 2
    assert probabilities(model, [A], [A]) == pytest.approx([(1 + 2 * 3 / 5) / 4])
    assert probabilities(model, [A], [B]) == pytest.approx([(1 + 2 * 2 / 5) / 4])


def test_a_context_never_seen_says_what_the_shorter_one_says():
    model = NGram.fit(np.array([A, A, B]), vocab_size=2, order=2)
    assert probabilities(model, [B], [A]) == pytest.approx(probabilities(model, [], [A]))


def test_contexts_do_not_reach_across_documents():
    apart = NGram.fit(np.array([A, B, A, B]), vocab_size=2, order=2, starts=np.array([0, 2]))
    # B is never followed: only the unigram is left
    assert probabilities(apart, [B], [A]) == pytest.approx([1 / 2])
    together = NGram.fit(np.array([A, B, A, B]), vocab_size=2, order=2)
    assert probabilities(together, [B], [A]) == pytest.approx([(1 + 1 / 2) / 2])


def test_texts_are_scored_apart_from_each_other():
    model = NGram.fit(np.array([A, B, C, A, B, B, C, A]), vocab_size=3, order=3)
    both = model.nll([[A], [B, C]], [[B, C], [A]])
    assert both[0] == pytest.approx(model.nll([[A]], [[B, C]])[0])
    assert both[1] == pytest.approx(model.nll([[B, C]], [[A]])[0])


def test_an_empty_text_has_no_nats():
    model = NGram.fit(np.array([A, B]), vocab_size=2, order=2)
    assert [len(nats) for nats in model.nll([[], [A]], [[], []])] == [0, 0]


tokens = st.integers(0, 3)


@given(
    documents=st.lists(st.lists(tokens, min_size=1, max_size=12), min_size=1, max_size=4),
    prompt=st.lists(tokens, max_size=5),
    text=st.lists(tokens, min_size=1, max_size=8),
    order=st.integers(1, 5),
)
def test_every_probability_is_that_of_the_recursive_form(documents, prompt, text, order):
    ids = np.array([token for document in documents for token in document])
    starts = np.cumsum([0, *(len(document) for document in documents[:-1])])
    model = NGram.fit(ids, vocab_size=4, order=order, starts=starts)
    history = prompt + text
    expected = [
        recursive(documents, 4, order, history[: len(prompt) + at], token) for at, token in enumerate(text)
    ]
    assert probabilities(model, prompt, text) == pytest.approx(expected)


@given(context=st.lists(tokens, max_size=4), order=st.integers(1, 5))
def test_probabilities_add_up_to_one(context, order):
    model = NGram.fit(np.array([A, B, A, C, A, B, B]), vocab_size=4, order=order)
    total = sum(probabilities(model, context, [token])[0] for token in range(4))
    assert total == pytest.approx(1)


def test_large_vocabularies_do_not_overflow():
    ids = np.array([60_000, 59_999, 60_000, 59_999] * 3)
    model = NGram.fit(ids, vocab_size=1 << 32, order=7)
    assert probabilities(model, ids[:6].tolist(), [60_000])[0] > 0.5


@given(
    text=st.lists(tokens, min_size=6, max_size=30),
    cuts=st.lists(st.integers(0, 30), min_size=2, max_size=2),
    order=st.integers(1, 4),
)
def test_without_a_fold_is_as_if_it_had_never_been_read(text, cuts, order):
    """What stands behind the fold is a document of its own."""
    ids = np.array(text)
    first, last = sorted(min(cut, len(ids)) for cut in cuts)
    folds = np.zeros(len(ids), int)
    folds[first:last] = 1
    _, without = NGram.cross_fit(ids, 4, order, folds)
    if last == first or last - first == len(ids):
        return
    rest = np.delete(ids, slice(first, last))
    expected = NGram.fit(rest, 4, order, np.array([0, first]))
    past = np.array(list(itertools.product(range(-1, 4), repeat=order - 1))).reshape(
        5 ** (order - 1), order - 1
    )
    assert without[1].distributions(past) == pytest.approx(expected.distributions(past))
    given_text, after = [text[:3]], [text[3:]]
    assert without[1].nll(given_text, after)[0] == pytest.approx(expected.nll(given_text, after)[0])


def test_only_what_is_counted_is_a_next_token():
    ids, counted = np.array([A, B, C, A, C]), np.array([False, True, False, False, True])
    model, _ = NGram.cross_fit(ids, 3, 2, np.zeros(5, int), np.array([0, 3]), counted)
    # counted are B after A and C after A; unigram (1 + 2/3) / 4 and (0 + 2/3) / 4
    assert probabilities(model, [A], [B]) == pytest.approx([(1 + 2 * 5 / 12) / 4])
    assert probabilities(model, [B], [A]) == pytest.approx([2 / 12])
